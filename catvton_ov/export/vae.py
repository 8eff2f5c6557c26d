"""The VAE's two halves, with the latent scaling inside.

The encoder gives the posterior's mean, not a sample of it: the same picture is the same latent every time.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from catvton_ov.errors import ExportError
from catvton_ov.export.checkpoints import Tensors, load_exactly, read_tensors


class PictureEncoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.encoder = vae.encoder
        self.quant_conv = vae.quant_conv
        self.channels: int = vae.config["latent_channels"]
        self.scaling: float = vae.config["scaling_factor"]

    def forward(self, picture: Tensor) -> Tensor:
        """Encode.

        Args:
            picture: shape = (B, 3, H, W), float32 in [-1, 1]; H and W multiples of the down-sampling.

        Returns:
            shape = (B, C, h, w), float32: the posterior's mean times the scaling factor.
        """
        moments: Tensor = self.quant_conv(self.encoder(picture))  # (B, 2C, h, w): mean, then log-variance
        return moments[:, : self.channels] * self.scaling


class LatentDecoder(nn.Module):
    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.decoder = vae.decoder
        self.post_quant_conv = vae.post_quant_conv
        self.scaling: float = vae.config["scaling_factor"]

    def forward(self, latent: Tensor) -> Tensor:
        """Decode.

        Args:
            latent: shape = (B, C, h, w), float32, scaled as the encoder scales.

        Returns:
            shape = (B, 3, H, W), float32, nominally in [-1, 1].
        """
        picture: Tensor = self.decoder(self.post_quant_conv(latent / self.scaling))
        return picture


def load_vae(config: dict[str, Any], weights: Path) -> AutoencoderKL:
    """Build the VAE of `config` and give it the weights in a published file, in float32.

    Raises:
        ExportError: the config is none of a VAE, or naming what is missing, extra or misshapen in the file.
    """
    try:
        with torch.device("meta"):
            vae = AutoencoderKL.from_config(config)
    except Exception as error:  # whatever diffusers' own checks, or the arithmetic of odd sizes, raise
        raise ExportError(f"{weights.parent} does not describe a VAE: {error}.") from error
    assert isinstance(vae, AutoencoderKL)
    load_exactly(vae, _modern_names(read_tensors(weights)), weights)
    return vae


def downsampling(vae: AutoencoderKL) -> int:
    """Picture pixels per latent pixel: every encoder block but the last halves both sides."""
    return int(2 ** (len(vae.config["block_out_channels"]) - 1))


_OLD_NAME = re.compile(r"((?:en|de)coder\.mid_block\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)")
_NEW_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def _modern_names(tensors: Tensors) -> Tensors:
    """VAE files written before diffusers 0.17, the published one among them, spell attention differently."""
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        match = _OLD_NAME.fullmatch(name)
        renamed[f"{match[1]}.{_NEW_NAMES[match[2]]}.{match[3]}" if match else name] = tensor
    return renamed
