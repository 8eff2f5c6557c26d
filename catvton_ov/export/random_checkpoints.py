"""Random weights in the published layouts of what a try-on needs: to measure speed, memory and size.

No picture made with such weights means anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file

from catvton_ov.export.options import CHECKPOINTS
from catvton_ov.export.unet import self_attentions

ATTENTION_STRIDE = 8  # the published attention keys count every module whose name contains "attn1"

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


@dataclass(frozen=True)
class Scale:
    """How large the networks are."""

    unet: Mapping[str, object]
    vae: Mapping[str, object]
    clip: Mapping[str, object]
    projection: int


SCALES = {
    "full": Scale(
        unet={"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": 8, "cross_attention_dim": 768},
        vae={"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "sample_size": 256},
        clip={"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16},
        projection=768,
    ),
    "tiny": Scale(
        unet={"block_out_channels": (32, 32, 64, 64), "attention_head_dim": 4, "cross_attention_dim": 8},
        vae={"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 64},
        clip={"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4},
        projection=16,
    ),
}


def write_tryon(out: Path, scale: Scale) -> tuple[Path, Path, Path]:
    """Write base, VAE and CatVTON below `out`, seeded; the global random state is left as it was.

    Returns:
        The three folders, each standing for the Hub repository of its name.
    """
    base, vae, catvton = (out / name for name in ("stable-diffusion-inpainting", "sd-vae-ft-mse", "CatVTON"))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        write_base(base, scale)
        write_vae(vae, scale)
        write_attention(catvton, scale)
    return base, vae, catvton


def write_base(folder: Path, scale: Scale) -> None:
    """booksforcharlie/stable-diffusion-inpainting: the UNet as a torch pickle, cross-attention included."""
    unet = UNet2DConditionModel(in_channels=9, out_channels=4, sample_size=64, **scale.unet)
    unet.save_config(folder / "unet")
    torch.save(unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)


def write_vae(folder: Path, scale: Scale) -> None:
    """stabilityai/sd-vae-ft-mse."""
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        **scale.vae,
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(vae.to_json_string())
    save_file(vae.state_dict(), folder / "diffusion_pytorch_model.safetensors")


def write_attention(folder: Path, scale: Scale) -> None:
    """The attention weights of zhengchong/CatVTON, the same for each of its checkpoints."""
    unet = UNet2DConditionModel(in_channels=9, out_channels=4, **scale.unet)
    tensors = {
        f"{ATTENTION_STRIDE * number}.{name}": tensor
        for number, module in enumerate(self_attentions(unet).values())
        for name, tensor in module.state_dict().items()
    }
    for checkpoint in CHECKPOINTS.values():
        place = folder / checkpoint.folder / "attention"
        place.mkdir(parents=True, exist_ok=True)
        save_file(tensors, place / "model.safetensors")


def write_json(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")
