"""The layers of DensePose R50-FPN, named as in its published checkpoint.

Restates `densepose_rcnn_R_50_FPN_s1x` of detectron2: `detectron2/modeling/backbone/{resnet,fpn}.py`,
`detectron2/modeling/proposal_generator/rpn.py`, and `projects/DensePose/densepose/modeling/`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm, interpolate, max_pool2d, relu

CHANNELS = 256  # of every pyramid level


class FrozenNorm(nn.Module):
    """Batch normalisation with stored statistics."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        return batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=1e-5)


class NormedConv(nn.Conv2d):
    """A convolution without bias, then its norm."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = FrozenNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(super().forward(x))
        return normed


class ReluConv(nn.Conv2d):
    """A 3x3 convolution, then ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return relu(super().forward(x))


class Bottleneck(nn.Module):
    """A residual block (arXiv 1512.03385, figure 5, right); as in Caffe2, the stride is in the first 1x1."""

    def __init__(self, in_channels: int, width: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.shortcut = NormedConv(in_channels, out_channels, 1, stride) if in_channels != out_channels else None
        self.conv1 = NormedConv(in_channels, width, 1, stride)
        self.conv2 = NormedConv(width, width, 3)
        self.conv3 = NormedConv(width, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(relu(self.conv2(relu(self.conv1(x)))))
        return relu(out + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = NormedConv(3, 64, 7, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return max_pool2d(relu(self.conv1(x)), kernel_size=3, stride=2, padding=1)


class ResNet50(nn.Module):
    """(1, 3, H, W) -> res2..res5, at strides 4..32 with 256..2048 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Stem()
        self.res2 = self._stage(64, 64, blocks=3, stride=1)
        self.res3 = self._stage(256, 128, blocks=4, stride=2)
        self.res4 = self._stage(512, 256, blocks=6, stride=2)
        self.res5 = self._stage(1024, 512, blocks=3, stride=2)

    @staticmethod
    def _stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
        first = Bottleneck(in_channels, width, 4 * width, stride)
        return nn.Sequential(first, *(Bottleneck(4 * width, width, 4 * width, 1) for _ in range(blocks - 1)))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        stages = []
        for stage in (self.res2, self.res3, self.res4, self.res5):
            x = stage(x)
            stages.append(x)
        return stages


class FeaturePyramid(nn.Module):
    """(1, 3, H, W) -> p2..p6, each (1, 256, H / stride, W / stride) (arXiv 1612.03144, section 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.bottom_up = ResNet50()
        for level in (2, 3, 4, 5):
            self.add_module(f"fpn_lateral{level}", nn.Conv2d(128 * 2 ** (level - 1), CHANNELS, 1))
            self.add_module(f"fpn_output{level}", nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1))

    def forward(self, x: Tensor) -> list[Tensor]:
        top_down: Tensor | None = None
        pyramid: list[Tensor] = []
        for level, features in reversed(list(enumerate(self.bottom_up(x), start=2))):
            lateral: Tensor = self.get_submodule(f"fpn_lateral{level}")(features)
            if top_down is not None:
                lateral = lateral + interpolate(top_down, scale_factor=2.0, mode="nearest")
            top_down = lateral
            pyramid.insert(0, self.get_submodule(f"fpn_output{level}")(lateral))
        return [*pyramid, max_pool2d(pyramid[-1], kernel_size=1, stride=2)]


class RpnHead(nn.Module):
    """The region proposal network's head (arXiv 1506.01497, section 3.1), 3 anchors a location.

    Of all levels, finest first, each in the order of its rows, columns and anchors, A anchors in all:
    `objectness` (A,) logits and `anchor_deltas` (A, 4).
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = ReluConv(CHANNELS, CHANNELS)
        self.objectness_logits = nn.Conv2d(CHANNELS, 3, 1)
        self.anchor_deltas = nn.Conv2d(CHANNELS, 3 * 4, 1)

    def forward(self, pyramid: list[Tensor]) -> tuple[Tensor, Tensor]:
        hidden = [self.conv(level) for level in pyramid]
        objectness = [self.objectness_logits(level).permute(0, 2, 3, 1).reshape(-1) for level in hidden]
        deltas = [self.anchor_deltas(level).permute(0, 2, 3, 1).reshape(-1, 4) for level in hidden]
        return torch.cat(objectness), torch.cat(deltas)


class Decoder(nn.Module):
    """p2..p5 -> (1, 256, H / 4, W / 4), as in Panoptic FPN (arXiv 1901.02446, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        self.p2 = nn.Sequential(ReluConv(CHANNELS, CHANNELS))
        self.p3 = self._scale(times=1)
        self.p4 = self._scale(times=2)
        self.p5 = self._scale(times=3)
        self.predictor = nn.Conv2d(CHANNELS, CHANNELS, 1)

    @staticmethod
    def _scale(times: int) -> nn.Sequential:
        up = nn.Upsample(scale_factor=2.0, mode="bilinear", align_corners=False)
        return nn.Sequential(*(layer for _ in range(times) for layer in (ReluConv(CHANNELS, CHANNELS), up)))

    def forward(self, pyramid: list[Tensor]) -> Tensor:
        scales = zip((self.p2, self.p3, self.p4, self.p5), pyramid, strict=True)
        merged: Tensor = self.predictor(sum(scale(level) for scale, level in scales))
        return merged


class BoxHead(nn.Module):
    """Pooled (N, 256, 7, 7) -> hidden (N, 1024)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(CHANNELS * 7 * 7, 1024)
        self.fc2 = nn.Linear(1024, 1024)

    def forward(self, pooled: Tensor) -> Tensor:
        return relu(self.fc2(relu(self.fc1(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Hidden (N, 1024) -> logits of person and background (N, 2), and box deltas (N, 4)."""

    def __init__(self) -> None:
        super().__init__()
        self.cls_score = nn.Linear(1024, 2)
        self.bbox_pred = nn.Linear(1024, 4)

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(hidden), self.bbox_pred(hidden)


class DensePoseHead(nn.Sequential):
    """Pooled (N, 256, 28, 28) -> hidden (N, 512, 28, 28) (arXiv 1802.00434, section 3.1)."""

    def __init__(self) -> None:
        super().__init__()
        for number in range(1, 9):
            self.add_module(f"body_conv_fcn{number}", ReluConv(CHANNELS if number == 1 else 512, 512))


class DensePosePredictor(nn.Module):
    """Hidden (N, 512, 28, 28) -> logits of body or not (N, 2, 112, 112) and of the part (N, 25, 112, 112).

    The checkpoint's coordinates on the parts' surface, u and v, are loaded (so that nothing of it goes unchecked)
    and not computed.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, channels in (("ann_index", 2), ("index_uv", 25), ("u", 25), ("v", 25)):
            self.add_module(f"{name}_lowres", nn.ConvTranspose2d(512, channels, 4, stride=2, padding=1))

    def forward(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        coarse = self.get_submodule("ann_index_lowres")(hidden)
        fine = self.get_submodule("index_uv_lowres")(hidden)
        return _twice(coarse), _twice(fine)


def _twice(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
