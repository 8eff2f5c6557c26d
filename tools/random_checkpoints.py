"""Random weights in the published layouts: to measure speed, memory and size. For benchmarks only.

python -m tools.random_checkpoints --out DIR                  full size: 6 GB on disk, 6 GB of memory, two minutes
python -m tools.random_checkpoints --out DIR --scale tiny     the same layouts with small networks, in seconds

Each folder in DIR stands for the Hub repository of that name. No picture made with such weights means anything.
"""

import argparse
import json
import pickle
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors.torch import save_file
from transformers import CLIPConfig

from catvton_ov.export.options import CHECKPOINTS
from catvton_ov.export.unet import self_attentions

ATTENTION_STRIDE = 8  # the published attention keys count every module whose name contains "attn1"
KEYS = Path(__file__).resolve().parent.parent / "tests" / "golden"  # lists of the parsers' keys and shapes

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

FEATURE_EXTRACTOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
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


def write_base(folder: Path, scale: Scale) -> None:
    """booksforcharlie/stable-diffusion-inpainting: the UNet as a torch pickle, cross-attention included."""
    unet = UNet2DConditionModel(in_channels=9, out_channels=4, sample_size=64, **scale.unet)
    unet.save_config(folder / "unet")
    torch.save(unet.state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)


def write_safety_checker(folder: Path, scale: Scale) -> None:
    vision = {"image_size": 224, "patch_size": 14, "projection_dim": scale.projection, **scale.clip}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=scale.projection))
    for weights, embeds in (
        (checker.concept_embeds_weights, checker.concept_embeds),
        (checker.special_care_embeds_weights, checker.special_care_embeds),
    ):
        weights.data.fill_(0.2)
        embeds.data.normal_()
    checker.config.architectures = ["StableDiffusionSafetyChecker"]
    checker.config.save_pretrained(folder / "safety_checker")
    # As transformers 4 named them: one level more, and the positions by number.
    positions = {
        "vision_model.embeddings.position_ids": torch.arange(checker.vision_model.embeddings.num_positions)[None]
    }
    tensors = {
        f"vision_model.{name}" if name.startswith("vision_model.") else name: tensor
        for name, tensor in (checker.state_dict() | positions).items()
    }
    torch.save(tensors, folder / "safety_checker" / "pytorch_model.bin")
    _write_json(folder / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR)


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


def write_parsers(folder: Path) -> None:
    """SCHP and DensePose of zhengchong/CatVTON, always full size, by the golden vectors' weight formula."""
    for kind, name in (("lip", "exp-schp-201908261155-lip.pth"), ("atr", "exp-schp-201908301523-atr.pth")):
        (folder / "SCHP").mkdir(parents=True, exist_ok=True)
        weights = {
            key: torch.from_numpy(random_weight(key, shape, "pub", "weight", 1.6))
            for key, shape in read_keys(KEYS / "schp" / f"schp_{kind}_keys.txt")
        }
        torch.save({"state_dict": weights}, folder / "SCHP" / name)
    (folder / "DensePose").mkdir(parents=True, exist_ok=True)
    arrays = {
        key: random_weight(key, shape, "pub", "norm.weight", 1.2)
        for key, shape in read_keys(KEYS / "densepose" / "densepose_keys.txt")
    }
    for key, array in arrays.items():
        if "bbox_pred" in key or "anchor_deltas" in key:
            array *= 0.02
    (folder / "DensePose" / "model_final_162be9.pkl").write_bytes(pickle.dumps({"model": arrays}))


def read_keys(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lines such as `module.conv1.weight [64, 3, 3, 3]`."""
    for line in path.read_text().splitlines():
        key, _, shape = line.partition(" ")
        yield key, tuple(json.loads(shape))


def random_weight(key: str, shape: tuple[int, ...], salt: str, scale: str, gain: float) -> np.ndarray:
    """The golden vectors' formula; `scale` ends the name of what multiplies, `gain` is that of the other weights."""
    x = np.random.default_rng(zlib.crc32((salt + key).encode())).standard_normal(shape)
    if key.endswith("running_var"):
        x = 1 + 0.2 * np.abs(x)
    elif key.endswith("running_mean"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if key.endswith(scale) else 0.1 * x
    else:
        x = x * np.sqrt(gain / np.prod(shape[1:]))
    return np.asarray(x, dtype=np.float32)


def write_all(out: Path, scale: Scale, parsers: bool) -> None:
    """Write every folder below `out`; the global random state is left as it was."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name, write in (
            ("stable-diffusion-inpainting", write_base),
            ("stable-diffusion-inpainting", write_safety_checker),
            ("sd-vae-ft-mse", write_vae),
            ("CatVTON", write_attention),
        ):
            write(out / name, scale)
    if parsers:
        write_parsers(out / "CatVTON")


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--no-parsers", action="store_true", help="leave out SCHP and DensePose")
    arguments = parser.parse_args()
    write_all(arguments.out, SCALES[arguments.scale], parsers=not arguments.no_parsers)


if __name__ == "__main__":
    main()
