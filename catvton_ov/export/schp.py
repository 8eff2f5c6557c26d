"""SCHP, the human parser: the published network and its weights, and its conversion.

"AugmentCE2P" of Self-Correction for Human Parsing, arXiv 1910.09777, as in CatVTON's
`model/SCHP/networks/AugmentCE2P.py`: a dilated ResNet-101, pyramid pooling (arXiv 1612.01105), a decoder and an edge
branch whose features are fused. Modules have the names of the published keys, in which a norm and the activation
after it are one module (InPlaceABN, arXiv 1712.02616).
"""

from __future__ import annotations

from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate, leaky_relu, max_pool2d, relu

from catvton_ov.export.checkpoints import load_exactly, read_tensors
from catvton_ov.export.convert import convert
from catvton_ov.masking.schp import SchpKind

# In the published files, and needed in training only: the parsing and the edges each branch predicts on its own.
TRAINING_ONLY = ("decoder.conv4.weight", "decoder.conv4.bias", "edge.conv5.weight", "edge.conv5.bias")


class Norm(nn.Module):
    """Batch normalisation with stored statistics. As in CatVTON, the sign of the weight counts."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("running_mean", torch.empty(channels))
        self.register_buffer("running_var", torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


class ActivatedNorm(Norm):
    def forward(self, x: Tensor) -> Tensor:
        return leaky_relu(super().forward(x), 0.01)


class Bottleneck(nn.Module):
    def __init__(self, inputs: int, planes: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        outputs = 4 * planes
        self.conv1, self.bn1 = _conv(inputs, planes), Norm(planes)
        self.conv2, self.bn2 = _conv(planes, planes, 3, stride, dilation), Norm(planes)
        self.conv3, self.bn3 = _conv(planes, outputs), Norm(outputs)
        self.downsample = None
        if inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, stride=stride), Norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = relu(self.bn1(self.conv1(x)))
        y = relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return relu(y + (x if self.downsample is None else self.downsample(x)))


class PyramidPooling(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        grids = (1, 2, 3, 6)
        self.stages = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(grid), *_unit(inputs, outputs)) for grid in grids
        )
        self.bottleneck = _unit(inputs + len(grids) * outputs, outputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.bottleneck(torch.cat([*(_resize(stage(x), x) for stage in self.stages), x], 1))
        return result


class Decoder(nn.Module):
    """Context and fine features to parsing features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _unit(512, 256)
        self.conv2 = _unit(256, 48)
        self.conv3 = nn.Sequential(*_unit(256 + 48, 256), *_unit(256, 256))

    def forward(self, context: Tensor, fine: Tensor) -> Tensor:
        result: Tensor = self.conv3(torch.cat([_resize(self.conv1(context), fine), self.conv2(fine)], 1))
        return result


class EdgeBranch(nn.Module):
    """The first three stages of the ResNet to edge features."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _unit(256, 256)
        self.conv2 = _unit(512, 256)
        self.conv3 = _unit(1024, 256)
        self.conv4 = nn.Conv2d(256, 2, 3, padding=1)  # the edges themselves, of no use here, but in every file

    def forward(self, x2: Tensor, x3: Tensor, x4: Tensor) -> Tensor:
        return torch.cat([self.conv1(x2), _resize(self.conv2(x3), x2), _resize(self.conv3(x4), x2)], 1)


class AugmentCE2P(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 3, stride=2), Norm(64)
        self.conv2, self.bn2 = _conv(64, 64, 3), Norm(64)
        self.conv3, self.bn3 = _conv(64, 128, 3), Norm(128)
        self.layer1 = _stage(3, 128, 64)
        self.layer2 = _stage(4, 256, 128, stride=2)
        self.layer3 = _stage(23, 512, 256, stride=2)
        self.layer4 = _stage(3, 1024, 512, dilation=2)
        self.context_encoding = PyramidPooling(2048, 512)
        self.edge = EdgeBranch()
        self.decoder = Decoder()
        # Identity: the place of a dropout. "fushion" is how the published keys spell it.
        self.fushion = nn.Sequential(*_unit(1024, 256), nn.Identity(), nn.Conv2d(256, classes, 1))

    def forward(self, picture: Tensor) -> Tensor:
        """Parse.

        Args:
            picture: shape = (1, 3, H, W), float32, as `catvton_ov.masking.schp.network_input` gives it.

        Returns:
            shape = (1, classes, ceil(H / 4), ceil(W / 4)), float32: logits.
        """
        x = relu(self.bn1(self.conv1(picture)))
        x = relu(self.bn2(self.conv2(x)))
        x = relu(self.bn3(self.conv3(x)))
        x2 = self.layer1(max_pool2d(x, kernel_size=3, stride=2, padding=1))
        x3 = self.layer2(x2)
        x4 = self.layer3(x3)
        context = self.context_encoding(self.layer4(x4))
        logits: Tensor = self.fushion(torch.cat([self.decoder(context, x2), self.edge(x2, x3, x4)], 1))
        return logits


def load_schp(path: Path, kind: SchpKind) -> AugmentCE2P:
    """Build the network of `kind` from a published `.pth`, in float32.

    Raises:
        ExportError: the file cannot be read, or naming what is missing, unknown or misshapen in it.
    """
    with torch.device("meta"):
        network = AugmentCE2P(kind.classes)
    saved = nn.ModuleDict({"module": network})  # the files were saved by DataParallel, which keeps its one module so
    counters = (f"{name}.num_batches_tracked" for name, module in saved.named_modules() if isinstance(module, Norm))
    unused = {*counters, *(f"module.{name}" for name in TRAINING_ONLY)}
    load_exactly(saved, {name: tensor for name, tensor in read_tensors(path).items() if name not in unused}, path)
    return network


def convert_schp(network: AugmentCE2P) -> ov.Model:
    """`picture` (1, 3, H, W) f32 -> `logits` (1, classes, ceil(H / 4), ceil(W / 4)) f32, for any H and W."""
    return convert(network, {"picture": torch.zeros(1, 3, 33, 25)}, {"picture": (1, 3, -1, -1)}, "logits")


def _conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """A convolution without bias that keeps the size, but for the stride."""
    padding = dilation * (kernel // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, dilation, bias=False)


def _unit(inputs: int, outputs: int, kernel: int = 1) -> nn.Sequential:
    return nn.Sequential(_conv(inputs, outputs, kernel), ActivatedNorm(outputs))


def _stage(blocks: int, inputs: int, planes: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    first = Bottleneck(inputs, planes, stride, dilation)
    return nn.Sequential(first, *(Bottleneck(4 * planes, planes, 1, dilation) for _ in range(blocks - 1)))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    """`x` at the height and width of `like`."""
    return interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=True)
