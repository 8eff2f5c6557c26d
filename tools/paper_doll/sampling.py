"""Try-on of paper dolls in torch: DDIM with guidance, as the app does it with OpenVINO."""

from dataclasses import dataclass

import torch

from tools.paper_doll.autoencoder import CHANNELS
from tools.paper_doll.latents import Latents
from tools.paper_doll.unet import TIMESTEPS, PaperDollUNet, alphas_cumprod, unet_input


@dataclass(frozen=True)
class Sampling:
    steps: int = 20
    guidance: float = 2.5
    eta: float = 1.0
    seed: int = 0


def leading_timesteps(steps: int) -> list[int]:
    """Leading spacing, offset 1: for 20 steps 951, 901, ... 1."""
    return [i * (TIMESTEPS // steps) + 1 for i in reversed(range(steps))]


@torch.inference_mode()
def try_on(model: PaperDollUNet, x: Latents, options: Sampling) -> torch.Tensor:
    """Person latents (B, 16, h, w) of the persons of `x` in its garments. `x` is float32.

    DDIM (arXiv 2010.02502), equations 12 and 16.
    """
    batch, _, height, width = x.masked.shape
    generator = torch.Generator().manual_seed(options.seed)
    shape = (batch, CHANNELS, 2 * height, width)
    latent = torch.randn(shape, generator=generator)
    alphas = alphas_cumprod()
    withheld = torch.zeros_like(x.garment)
    for t in leading_timesteps(options.steps):
        timestep = torch.full((batch,), t)
        eps = model(unet_input(latent, x.mask, x.masked, x.garment), timestep)
        if options.guidance > 1:
            free = model(unet_input(latent, x.mask, x.masked, withheld), timestep)
            eps = free + options.guidance * (eps - free)
        previous = t - TIMESTEPS // options.steps
        now, before = alphas[t], alphas[previous] if previous >= 0 else alphas[0]
        clean = (latent - (1 - now).sqrt() * eps) / now.sqrt()
        sigma = options.eta * ((1 - before) / (1 - now) * (1 - now / before)).sqrt()
        latent = before.sqrt() * clean + (1 - before - sigma**2).clamp(min=0).sqrt() * eps
        if options.eta > 0:
            latent = latent + sigma * torch.randn(shape, generator=generator)
    return latent[:, :, :height]
