"""CatVTON's UNet: the one of SD1.5-inpainting without cross-attention, its self-attention replaced.

arXiv 2407.15886, section 3. What the published weights were trained with is this: where a transformer
block had cross-attention, x = x + attn2(norm2(x), text), it now has x = x + norm2(x); norm2 stays.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from catvton_ov.errors import ExportError
from catvton_ov.export.checkpoints import Tensors, check_tensors, load_exactly, read_tensors, shapes_of, shorten


class NoisePredictor(nn.Module):
    """The UNet as the pipeline calls it: no text, one timestep for the batch."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.unet = unet

    def forward(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """Predict noise.

        Args:
            sample: shape = (B, 2C+1, h, w), float32: C channels noisy latent, 1 mask, C masked-person/garment latent.
            timestep: shape = (1,), int64.

        Returns:
            shape = (B, C, h, w), float32.
        """
        noise_pred: Tensor = self.unet(sample, timestep, encoder_hidden_states=None, return_dict=False)[0]
        return noise_pred


class NormedStates(nn.Module):
    """What stands in a transformer block's `attn2`: gives back the normed states it is given."""

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:
        del encoder_hidden_states, attention_mask
        return hidden_states


class TimestepFeatures(nn.Module):
    """The sinusoids of a timestep, in a form whose constants may be stored as float16.

    As diffusers' `Timesteps`, whose graph holds the frequencies as one constant. Rounding that to float16 shifts
    the phase at t = 1000 by up to a quarter of a radian, five times what rounding all weights does to the noise.
    Here each frequency is the sum of two float16 numbers, which together are as exact as float32.
    """

    coarse: Tensor
    fine: Tensor
    _SCALE = 2048.0  # 2 ** 11, float16's precision: brings the remainder back to the size of the frequency

    def __init__(self, channels: int, flip_sin_to_cos: bool, freq_shift: float) -> None:
        super().__init__()
        half = channels // 2
        # f_k = 10000 ^ (-k / (half - shift)): arXiv 1706.03762, section 3.5, as diffusers computes it.
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32) / (half - freq_shift)
        frequency = torch.exp(exponent)
        coarse = frequency.half().float()
        fine = ((frequency - coarse) * self._SCALE).half().float()
        self.register_buffer("coarse", coarse, persistent=False)
        self.register_buffer("fine", fine, persistent=False)
        self.flip_sin_to_cos = flip_sin_to_cos

    def forward(self, timesteps: Tensor) -> Tensor:
        """shape = (B,) -> (B, channels), float32."""
        t = timesteps[:, None].float()
        angle = t * self.coarse + (t / self._SCALE) * self.fine
        waves = [torch.cos(angle), torch.sin(angle)] if self.flip_sin_to_cos else [torch.sin(angle), torch.cos(angle)]
        return torch.cat(waves, dim=-1)


def build_unet(config: dict[str, Any], place: str | Path) -> UNet2DConditionModel:
    """The architecture of a UNet config, cross-attention and all, on the "meta" device: shapes without memory.

    Raises:
        ExportError: diffusers cannot build it.
    """
    try:
        with torch.device("meta"):
            unet = UNet2DConditionModel.from_config(config)
    except Exception as error:  # whatever diffusers' own checks, or the arithmetic of odd sizes, raise
        raise ExportError(f"{place} does not describe a UNet: {error}.") from error
    assert isinstance(unet, UNet2DConditionModel)
    return unet


def drop_cross_attention(unet: UNet2DConditionModel) -> None:
    """Put NormedStates in the place of every cross-attention of `unet`; its weights go with it."""
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            block.attn2 = NormedStates()


def self_attentions(unet: UNet2DConditionModel) -> dict[str, nn.Module]:
    """Name -> module of each self-attention, in module order: down blocks, up blocks, middle."""
    return {
        f"{name}.attn1": block.attn1 for name, block in unet.named_modules() if isinstance(block, BasicTransformerBlock)
    }


def load_unet(config: dict[str, Any], base: Path, attention: Path) -> NoisePredictor:
    """Build the UNet of `config` from published files, without cross-attention, in float32.

    Args:
        base: the whole inpainting UNet, cross-attention included, as published.
        attention: CatVTON's self-attention weights.

    Raises:
        ExportError: naming what is wrong, missing, extra or misshapen in either file.
    """
    unet = build_unet(config, base.parent)
    tensors = read_tensors(base)
    check_tensors(tensors, shapes_of(unet), base)
    drop_cross_attention(unet)
    kept = shapes_of(unet).keys()
    tensors = {name: tensor for name, tensor in tensors.items() if name in kept}
    tensors.update(read_self_attention(attention, self_attentions(unet)))
    load_exactly(unet, tensors, base)
    features = unet.config["block_out_channels"][0], unet.config["flip_sin_to_cos"], unet.config["freq_shift"]
    unet.time_proj = TimestepFeatures(*features)
    return NoisePredictor(unet)


def read_self_attention(path: Path, attentions: dict[str, nn.Module]) -> Tensors:
    """Read CatVTON's attention file; returns its tensors under the names they have in the UNet.

    Its keys are "{i}.to_q.weight" and so on, where i counts every module whose name contains "attn1", sub-modules
    included (0, 8, 16, ...). Only the order of the indices carries meaning: the n-th is the n-th of `attentions`.

    Raises:
        ExportError: a key of another form, another number of attentions, missing, extra or misshapen tensors.
    """
    groups: defaultdict[int, Tensors] = defaultdict(dict)
    foreign = []
    for key, tensor in read_tensors(path).items():
        match = re.fullmatch(r"(0|[1-9][0-9]{0,5})\.(.+)", key)
        if match:
            groups[int(match[1])][match[2]] = tensor
        else:
            foreign.append(key)
    if foreign:
        raise ExportError(f"{path} has keys that belong to no attention: {shorten(sorted(foreign))}.")
    if len(groups) != len(attentions):
        raise ExportError(
            f"{path} holds {len(groups)} attentions (indices {shorten(map(str, sorted(groups)), 20)}); "
            f"this UNet has {len(attentions)}."
        )
    found: Tensors = {}
    expected = {}
    for (name, attention), index in zip(attentions.items(), sorted(groups), strict=True):
        expected.update({f"{index}.{key}": shape for key, shape in shapes_of(attention).items()})
        found.update({f"{name}.{key}": tensor for key, tensor in groups[index].items()})
    numbered = {f"{index}.{key}": tensor for index, group in groups.items() for key, tensor in group.items()}
    check_tensors(numbered, expected, path)
    return found
