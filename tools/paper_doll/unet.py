"""The paper-doll denoiser: a small Stable Diffusion UNet, changed the CatVTON way.

From outside it is an ordinary epsilon UNet. Inside, two things help a small network:

- coordinate channels, computed from the input's shape, let attention find the garment's place;
- the network predicts v and the wrapper returns `eps = s_t x_t + a_t v`. Recovering the clean latent
  from a predicted eps divides by a_t, which is 0.07 where the garment gets decided.
"""

import math
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import nn

from catvton_ov.export.unet import drop_cross_attention
from tools.paper_doll.autoencoder import CHANNELS

TIMESTEPS = 1000
FREQUENCIES = (0.5, 2.0, 4.0)  # cycles over the width, or over the height of one half
COORDINATES = 4 * len(FREQUENCIES) + 1


@dataclass(frozen=True)
class UNetOptions:
    widths: tuple[int, int] = (96, 160)
    head_width: int = 32
    groups: int = 16


def alphas_cumprod() -> torch.Tensor:
    """Stable Diffusion's scaled-linear schedule, float32 (1000,)."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, TIMESTEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, dim=0).float()


def coordinates(sample: torch.Tensor) -> torch.Tensor:
    """Where a cell is: (B, 13, 2h, w). Waves along x, along y within its half, and which half."""
    batch, _, height, width = sample.shape
    half = height // 2
    row = torch.arange(height, device=sample.device)
    y = (row % half + 0.5) / half
    x = (torch.arange(width, device=sample.device) + 0.5) / width
    zero = torch.zeros(height, width, dtype=sample.dtype, device=sample.device)
    planes = [torch.where(row < half, 1.0, -1.0)[:, None] + zero]
    for frequency in FREQUENCIES:
        for position in (x[None, :], y[:, None]):
            angle = 2 * math.pi * frequency * position
            planes += [torch.sin(angle) + zero, torch.cos(angle) + zero]
    return torch.stack(planes)[None].expand(batch, -1, -1, -1)


class PaperDollUNet(nn.Module):
    """(B, 33, 2h, w) and timesteps (B,) or () to the predicted noise (B, 16, 2h, w); h, w even."""

    signal: torch.Tensor  # a_t, (1000,)
    noise: torch.Tensor  # s_t, (1000,)

    def __init__(self, options: UNetOptions = UNetOptions()) -> None:
        super().__init__()
        self.unet = UNet2DConditionModel(
            in_channels=2 * CHANNELS + 1 + COORDINATES,
            out_channels=CHANNELS,
            down_block_types=("CrossAttnDownBlock2D",) * 2,
            mid_block_type="UNetMidBlock2DCrossAttn",
            up_block_types=("CrossAttnUpBlock2D",) * 2,
            block_out_channels=options.widths,
            layers_per_block=1,
            # diffusers takes the number of heads under this name
            attention_head_dim=tuple(width // options.head_width for width in options.widths),
            norm_num_groups=options.groups,
            cross_attention_dim=8,
        )
        drop_cross_attention(self.unet)
        alphas = alphas_cumprod()
        self.register_buffer("signal", alphas.sqrt(), persistent=False)
        self.register_buffer("noise", (1 - alphas).sqrt(), persistent=False)

    def velocity(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        """The network itself: predicted v (B, 16, 2h, w)."""
        x = torch.cat([sample, coordinates(sample)], dim=1)
        return self.unet(x, timestep, encoder_hidden_states=None, return_dict=False)[0]

    def rates(self, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """a_t and s_t, (B or 1, 1, 1, 1)."""
        index = timestep.long().reshape(-1, 1, 1, 1)
        return self.signal[index], self.noise[index]

    def forward(self, sample: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        a, s = self.rates(timestep)
        return s * sample[:, :CHANNELS] + a * self.velocity(sample, timestep)


def unet_input(noisy: torch.Tensor, mask: torch.Tensor, masked: torch.Tensor, garment: torch.Tensor) -> torch.Tensor:
    """CatVTON's input: person above garment; noisy latent, mask, condition latent.

    noisy (B, 16, 2h, w); mask (B, 1, h, w) of 0 and 1; masked, garment (B, 16, h, w) -> (B, 33, 2h, w).
    """
    masks = torch.cat([mask, torch.zeros_like(mask)], dim=2)
    return torch.cat([noisy, masks, torch.cat([masked, garment], dim=2)], dim=1)
