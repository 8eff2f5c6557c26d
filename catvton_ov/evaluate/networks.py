"""Measures that networks make: LPIPS of a pair, FID and KID of two sets. Needs requirements-metrics.txt.

torchvision is not used: beside a CPU build of torch its published wheel cannot be imported. The networks' weights
are two files that their authors publish; see NETWORKS.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
import torchmetrics.functional.image
from PIL import Image
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from catvton_ov.errors import BatchError

LPIPS_FILE, INCEPTION_FILE = "squeezenet1_1-b8a52dc0.pth", "inception-2015-12-05.pt"
NETWORKS = {
    LPIPS_FILE: f"https://download.pytorch.org/models/{LPIPS_FILE}",
    INCEPTION_FILE: f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION_FILE}",
}
FEATURES = 2048
"""The numbers Inception makes of a picture, before its last layer."""
_SLICES = (2, 5, 8, 10, 11, 12, 13)  # ends of the seven stages that LPIPS looks at
_CHANNELS = (64, 128, 256, 384, 384, 512, 512)


class Fire(nn.Module):
    """A block of SqueezeNet (arXiv 1602.07360), its parameters named as torchvision names them."""

    def __init__(self, channels: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


def squeezenet_features() -> nn.Sequential:
    """SqueezeNet 1.1 without its classifier, with random weights."""
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(64, 16, 64), Fire(128, 16, 64), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(128, 32, 128), Fire(256, 32, 128), nn.MaxPool2d(3, 2, ceil_mode=True),
        Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256),
    )  # fmt: skip


class Lpips:
    """Perceptual distance (Zhang et al. 2018, arXiv 1801.03924) with SqueezeNet, as torchmetrics computes it.

    The linear weights are those torchmetrics ships, the network's come from a file.
    """

    def __init__(self, weights: Path) -> None:
        """Raises BatchError when the file is not SqueezeNet 1.1."""
        self._features = squeezenet_features().eval()
        try:
            state = torch.load(weights, map_location="cpu", weights_only=True)
            prefix = "features."
            self._features.load_state_dict(
                {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
            )
        except Exception as error:  # torch raises whatever the bytes provoke
            raise BatchError(f"{weights} is not SqueezeNet 1.1 as torchvision publishes it.") from error
        shipped = Path(torchmetrics.functional.image.__file__).parent / "lpips_models" / "squeeze.pth"
        linear = torch.load(shipped, map_location="cpu", weights_only=True)
        self._linear = [linear[f"lin{index}.model.1.weight"] for index in range(len(_CHANNELS))]
        self._shift = torch.tensor([-0.030, -0.088, -0.188])[:, None, None]
        self._scale = torch.tensor([0.458, 0.448, 0.450])[:, None, None]

    @torch.inference_mode()
    def __call__(self, one: Image.Image, other: Image.Image) -> float:
        """The distance of two RGB pictures of one size, 0 for equal ones."""
        total = torch.zeros(())
        for a, b, weight in zip(self._stages(one), self._stages(other), self._linear, strict=True):
            total = total + nn.functional.conv2d((a - b) ** 2, weight).mean()
        return float(total)

    def _stages(self, picture: Image.Image) -> list[Tensor]:
        x = (_tensor(picture) / 127.5 - 1 - self._shift) / self._scale
        stages = []
        for end, layer in enumerate(self._features, start=1):
            x = layer(x)
            if end in _SLICES:
                stages.append(x / torch.sqrt(1e-8 + (x**2).sum(dim=1, keepdim=True)))
        return stages


class Inception:
    """What FID and KID see of a picture: clean-fid's features (arXiv 2104.11222)."""

    def __init__(self, weights: Path) -> None:
        """Raises BatchError when the file is not that network."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # TorchScript is old, and so is the file
                self._layers: Any = torch.jit.load(weights, map_location="cpu").eval().layers  # type: ignore[no-untyped-call]
        except Exception as error:  # torch raises whatever the bytes provoke
            raise BatchError(f"{weights} is not the Inception network in TorchScript.") from error

    @torch.inference_mode()
    def __call__(self, pictures: Iterable[Image.Image]) -> Tensor:
        """(N, FEATURES) float32, of RGB pictures of any size."""
        features, rest = [torch.zeros(0, FEATURES)], iter(pictures)
        while some := [_clean(picture) for picture in islice(rest, 8)]:
            features.append(self._layers((torch.cat(some) - 128) / 128).reshape(len(some), FEATURES))
        return torch.cat(features)


def fid_and_kid(results: Tensor, truths: Tensor) -> tuple[float, float]:
    """Fréchet and kernel Inception distance of two sets of features, by torchmetrics.

    KID is the mean of 100 random subsets of up to 1,000 pictures, drawn the same way every time, without torch's own
    state being touched.

    Args:
        results: (N, F), as `Inception` makes them, N at least 2.
        truths: (M, F), M at least 2.
    """
    seen = _AsTheyAre(results.shape[1])
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        fid = FrechetInceptionDistance(feature=seen)
        kid = KernelInceptionDistance(feature=seen, subset_size=min(len(results), len(truths), 1000))
        for metric in (fid, kid):
            metric.update(truths, real=True)
            metric.update(results, real=False)
        return float(fid.compute()), float(kid.compute()[0])


class _AsTheyAre(nn.Module):
    """Hands features through, where torchmetrics expects the network that makes them."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


def _clean(picture: Image.Image) -> Tensor:
    """(1, 3, 299, 299), 0..255: clean-fid's bicubic resizing, which neither aliases nor rounds."""
    channels = [
        np.asarray(Image.fromarray(channel).resize((299, 299), Image.Resampling.BICUBIC)).clip(0, 255)
        for channel in np.asarray(picture, dtype=np.float32).transpose(2, 0, 1)
    ]
    return torch.from_numpy(np.stack(channels)[None])


def _tensor(picture: Image.Image) -> Tensor:
    """(1, 3, H, W) float32, 0..255."""
    array = cast(npt.NDArray[np.float32], np.asarray(picture, dtype=np.float32))
    return torch.from_numpy(array.transpose(2, 0, 1)[None].copy())
