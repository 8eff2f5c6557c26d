"""A small convolutional autoencoder: 16x16 pixels to one latent cell of 16 channels.

No normalisation layers, so colours survive and any size divisible by 16 works the same.
"""

import torch
from torch import nn

FACTOR = 16
CHANNELS = 16


class ResBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.conv2(nn.functional.silu(self.conv1(nn.functional.silu(x))))


class PaperDollAutoencoder(nn.Module):
    """`encode` gives latents of mean 0 and standard deviation 1 a channel, `decode` takes them."""

    shift: torch.Tensor  # (1, 16, 1, 1), set after training
    scale: torch.Tensor

    def __init__(self, widths: tuple[int, int, int] = (64, 112, 160), channels: int = CHANNELS) -> None:
        super().__init__()
        a, b, c = widths
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(4),
            nn.Conv2d(48, a, 3, padding=1),
            ResBlock(a),
            nn.Conv2d(a, b, 3, stride=2, padding=1),
            ResBlock(b),
            nn.Conv2d(b, c, 3, stride=2, padding=1),
            ResBlock(c),
            nn.Conv2d(c, channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(channels, c, 3, padding=1),
            ResBlock(c),
            nn.Conv2d(c, 4 * b, 1),
            nn.PixelShuffle(2),
            ResBlock(b),
            ResBlock(b),
            nn.Conv2d(b, 4 * a, 1),
            nn.PixelShuffle(2),
            ResBlock(a),
            nn.Conv2d(a, 48, 3, padding=1),
            nn.PixelShuffle(4),
        )
        self.register_buffer("shift", torch.zeros(1, channels, 1, 1))
        self.register_buffer("scale", torch.ones(1, channels, 1, 1))

    def encode(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] to a scaled latent (B, 16, H/16, W/16)."""
        return (self.encoder(image) - self.shift) / self.scale

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        """A scaled latent (B, 16, h, w) to (B, 3, 16h, 16w), nominally in [-1, 1]."""
        return self.decoder(latent * self.scale + self.shift)

    def noisy_reconstruction(self, image: torch.Tensor, noise: float, generator: torch.Generator) -> torch.Tensor:
        """Decode with gaussian noise of `noise` standard deviations in the latent, for training:
        the decoder shall forgive what a denoiser leaves."""
        latent = self.encoder(image)
        std = latent.detach().std(dim=(0, 2, 3), keepdim=True)
        return self.decoder(latent + noise * std * torch.randn(latent.shape, generator=generator))

    @torch.no_grad()
    def calibrate(self, images: torch.Tensor) -> None:
        """Set shift and scale from the latents of some images."""
        latent = torch.cat([self.encoder(batch) for batch in images.split(32)])
        self.shift.copy_(latent.mean(dim=(0, 2, 3), keepdim=True))
        self.scale.copy_(latent.std(dim=(0, 2, 3), keepdim=True))


def masked_psnr(image: torch.Tensor, reference: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """PSNR in dB under the mask, one value an image. Images (B, 3, H, W) in [-1, 1], mask (B, 1, H, W)."""
    error = ((image.clamp(-1, 1) - reference) / 2) ** 2
    mse = (error * mask).sum(dim=(1, 2, 3)) / (3 * mask.sum(dim=(1, 2, 3)))
    return -10 * torch.log10(mse)
