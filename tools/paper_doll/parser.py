"""The compact parser: a small U-Net from a picture to DensePose, LIP and ATR labels.

Its finest cells have 2x2 pixels, and skip connections add rather than concatenate: most of the time would be spent
there.
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from catvton_ov.masking.compact import CLOTHES_CLASSES, DENSEPOSE_CLASSES
from tools.paper_doll import checkpoint

HEADS = (len(DENSEPOSE_CLASSES), len(CLOTHES_CLASSES))


def _block(channels: int, out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(channels, out, kernel, stride, padding=(kernel - 1) // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(out), nn.ReLU(inplace=True))


class _Context(nn.Module):
    """Decides which kinds of thing are in the picture and tells every place: only the whole of a figure shows whether
    it wears a dress or a top and a skirt."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.present = nn.Linear(2 * channels, len(CLOTHES_CLASSES))
        self.tell = nn.Linear(len(CLOTHES_CLASSES), channels)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        present = self.present(torch.cat([x.mean(dim=(2, 3)), x.amax(dim=(2, 3))], dim=1))
        return x + self.tell(present.sigmoid())[:, :, None, None], present


class PaperDollParser(nn.Module):
    """(B, 3, H, W) in [-1, 1] to logits (B, CLASSES, H, W), see catvton_ov.masking.compact; H and W divisible by 16."""

    def __init__(self, widths: tuple[int, ...] = (32, 48, 64, 96)) -> None:
        super().__init__()
        first, last = widths[0], widths[-1]
        self.stem = _block(3, first, kernel=6, stride=2)
        self.down = nn.ModuleList(nn.Sequential(_block(a, b, stride=2), _block(b, b)) for a, b in pairwise(widths))
        self.deepest = _block(last, last)
        self.context = _Context(last)
        self.told = _block(last, last)
        self.enlarge = nn.ModuleList(nn.ConvTranspose2d(b, a, 2, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Sequential(_block(a, a), _block(a, a)) for a in widths[:-1])
        self.heads = nn.ModuleList(nn.Linear(first, 4 * classes) for classes in HEADS)

    def cells(self, picture: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """The logits of body and of clothes by cells of 2x2 pixels, (B, H/2, W/2, 2, 2, classes) each; and those of
        each of CLOTHES_CLASSES being in the picture at all, (B, classes)."""
        x = self.stem(picture)
        skips = []
        for down in self.down:
            skips.append(x)
            x = down(x)
        x, present = self.context(self.deepest(x))
        x = self.told(x)
        for enlarge, up, skip in zip(reversed(self.enlarge), reversed(self.up), reversed(skips), strict=True):
            x = up(skip + enlarge(x))
        x = x.permute(0, 2, 3, 1)
        return [head(x).unflatten(-1, (2, 2, -1)) for head in self.heads], present

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        logits = torch.cat(self.cells(picture)[0], dim=-1)
        return logits.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


def to_cells(pixels: torch.Tensor) -> torch.Tensor:
    """(B, H, W) by cells of 2x2 pixels: (B, H/2, W/2, 2, 2)."""
    return pixels.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).transpose(2, 3)


def load_parser(run: Path) -> PaperDollParser:
    """The trained parser of a run directory."""
    state = checkpoint.load(run / "parser.pt")
    if state is None:
        raise FileNotFoundError(f"{run / 'parser.pt'} is missing: train the parser first")
    model = PaperDollParser().eval().requires_grad_(False)
    model.load_state_dict(state["model"])
    return model
