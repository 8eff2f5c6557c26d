"""Trained paper-doll models to the parts of a bundle, and how much their float16 weights cost."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import openvino as ov
import torch
from torch import nn

from catvton_ov.export.convert import IR_NAME, convert, convert_decoder, convert_encoder, save_model
from catvton_ov.export.unet import TimestepFeatures
from catvton_ov.masking.compact import SIZE
from tools.paper_doll.autoencoder import CHANNELS, FACTOR, PaperDollAutoencoder
from tools.paper_doll.latents import Latents
from tools.paper_doll.parser import PaperDollParser
from tools.paper_doll.unet import PaperDollUNet, unet_input

CHECKED_TIMESTEPS = (951, 501, 1)
_SCALE = 2048.0  # float16's precision, see TimestepFeatures


class Table(nn.Module):
    """Numbers by timestep as the sum of two float16 numbers, so that storing them so costs nothing."""

    coarse: torch.Tensor
    fine: torch.Tensor

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        coarse = values.half().float()
        self.register_buffer("coarse", coarse)
        self.register_buffer("fine", ((values - coarse) * _SCALE).half().float())

    def forward(self, timestep: torch.Tensor) -> torch.Tensor:
        """(B,) -> (B, 1, 1, 1)."""
        return (self.coarse[timestep] + self.fine[timestep] / _SCALE).reshape(-1, 1, 1, 1)


class NoisePredictor(nn.Module):
    """`PaperDollUNet` in a form whose constants may be stored as float16.

    Its timestep's sinusoids and its a_t and s_t would suffer otherwise: an error of eps in the noise is one
    of eps s_t / a_t in the clean latent, 14 times as much where the garment is decided.
    """

    def __init__(self, model: PaperDollUNet) -> None:
        super().__init__()
        config = model.unet.config
        features = config["block_out_channels"][0], config["flip_sin_to_cos"], config["freq_shift"]
        model.unet.time_proj = TimestepFeatures(*features)
        self.model = model
        self.signal, self.noise = Table(model.signal), Table(model.noise)

    def forward(self, given: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        velocity = self.model.velocity(given, timestep)
        return self.noise(timestep) * given[:, :CHANNELS] + self.signal(timestep) * velocity


class PictureEncoder(nn.Module):
    def __init__(self, model: PaperDollAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        return self.model.encode(picture)


class LatentDecoder(nn.Module):
    def __init__(self, model: PaperDollAutoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, latent: torch.Tensor) -> torch.Tensor:
        return self.model.decode(latent)


def convert_unet(model: PaperDollUNet) -> ov.Model:
    """`sample` (B, 33, 2h, w) f32 and `timestep` (1,) i64 -> `noise_pred` (B, 16, 2h, w) f32."""
    channels = 2 * CHANNELS + 1
    example = {"given": torch.zeros(2, channels, 16, 6), "timestep": torch.ones(1, dtype=torch.int64)}
    shapes = {"given": (-1, channels, -1, -1), "timestep": (1,)}
    converted = convert(NoisePredictor(model), example, shapes, "noise_pred")
    # The trace lends the name "sample" to values inside diffusers' UNet, so it is given afterwards.
    converted.input("given").set_names({"sample"})
    converted.input("sample").get_node().set_friendly_name("sample")
    return converted


def export_parts(unet: PaperDollUNet, autoencoder: PaperDollAutoencoder, folder: Path) -> None:
    """Write unet/, vae_encoder/ and vae_decoder/ below `folder`, with float16 weights. Changes `unet` a little."""
    save_model(convert_encoder(PictureEncoder(autoencoder), FACTOR), folder / "vae_encoder", "fp16")
    save_model(convert_decoder(LatentDecoder(autoencoder), CHANNELS), folder / "vae_decoder", "fp16")
    save_model(convert_unet(unet), folder / "unet", "fp16")


def export_parser(model: PaperDollParser, folder: Path) -> None:
    """Write parser/ below `folder`, with float16 weights: `picture` (1, 3, 256, 192) f32 -> `logits`."""
    shape = (1, 3, *SIZE[::-1])
    converted = convert(model, {"picture": torch.zeros(shape)}, {"picture": shape}, "logits")
    save_model(converted, folder / "parser", "fp16")


def open_part(folder: Path, part: str) -> Callable[..., np.ndarray]:
    """A part of a bundle, on one CPU thread in float32."""
    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(folder / part / IR_NAME, "CPU", config)
    return lambda **inputs: compiled(inputs)[0]


@torch.inference_mode()
def float16_cost(unet: PaperDollUNet, folder: Path, x: Latents) -> dict[int, tuple[float, float]]:
    """What the stored weights change: timestep -> error of the noise and of the clean latent.

    Root of the mean square over persons and garments of `x` (float32), against `unet` in torch. The latents have
    a standard deviation of 1.
    """
    part = open_part(folder, "unet")
    clean = torch.cat([x.person, x.garment], dim=2)
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    costs = {}
    for t in CHECKED_TIMESTEPS:
        a, s = unet.rates(torch.tensor([t]))
        noisy = a * clean + s * noise
        sample = unet_input(noisy, x.mask, x.masked, x.garment)
        expected = unet(sample, torch.full((len(x),), t))
        got = torch.from_numpy(part(sample=sample.numpy(), timestep=np.array([t], np.int64)))
        error = (got - expected).square().mean().sqrt().item()
        costs[t] = error, error * (s / a).item()
    return costs
