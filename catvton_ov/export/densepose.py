"""DensePose R50-FPN (arXiv 1802.00434, detectron2's `densepose_rcnn_R_50_FPN_s1x`): checkpoint to OpenVINO models.

Three parts, none of which depends on what is in a picture; what lies between them (proposals, non-maximum
suppression, pooling) is in `catvton_ov.masking`.

    densepose_backbone   picture -> p2..p6, decoder, objectness, anchor_deltas
    densepose_box_head   pooled (N, 256, 7, 7) -> cls_score, bbox_pred
    densepose_head       pooled (N, 256, 28, 28) -> coarse_segm, fine_segm
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn

from catvton_ov.export.checkpoints import load_exactly
from catvton_ov.export.convert import convert
from catvton_ov.export.densepose_layers import (
    CHANNELS,
    BoxHead,
    BoxPredictor,
    Decoder,
    DensePoseHead,
    DensePosePredictor,
    FeaturePyramid,
    RpnHead,
)
from catvton_ov.export.pickles import read_arrays

# Buffers that older versions of detectron2 wrote; its own loader ignores them too (`detection_checkpoint.py`).
_CONSTANTS = re.compile(r"pixel_(mean|std)|proposal_generator\.anchor_generator\.cell_anchors\.[0-4]")
_ANY = -1


class DensePose(nn.Module):
    """Every module of the checkpoint under its published name; the parts below run it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = FeaturePyramid()
        self.proposal_generator = nn.ModuleDict({"rpn_head": RpnHead()})
        self.roi_heads = nn.ModuleDict(
            {
                "box_head": BoxHead(),
                "box_predictor": BoxPredictor(),
                "decoder": Decoder(),
                "densepose_head": DensePoseHead(),
                "densepose_predictor": DensePosePredictor(),
            }
        )


class Backbone(nn.Module):
    def __init__(self, network: DensePose) -> None:
        super().__init__()
        self.pyramid = network.backbone
        self.rpn_head = network.proposal_generator["rpn_head"]
        self.decoder = network.roi_heads["decoder"]

    def forward(self, picture: Tensor) -> tuple[Tensor, ...]:
        """Everything that is computed once a picture.

        Args:
            picture: shape = (1, 3, H, W), float32, BGR in 0..255 less the mean; H and W multiples of 32.

        Returns:
            p2..p6: shape = (1, 256, H / stride, W / stride), strides 4..64, rounded up.
            decoder: shape = (1, 256, H / 4, W / 4), what body parts are pooled from.
            objectness: shape = (A,), a logit for each anchor of all levels (see RpnHead for the order).
            anchor_deltas: shape = (A, 4).
        """
        pyramid = self.pyramid(picture)
        return *pyramid, self.decoder(pyramid[:4]), *self.rpn_head(pyramid)


class Head(nn.Module):
    def __init__(self, body: nn.Module, predictor: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.predictor = predictor

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """What is computed once a box: shape = (N, 256, size, size) -> the predictor's two outputs."""
        first, second = self.predictor(self.body(pooled))
        return first, second


def load_densepose(path: Path) -> DensePose:
    """The network with the weights of a published `.pkl`, float32.

    Raises:
        ExportError: the file holds something else than arrays, or naming what is missing, extra or misshapen.
    """
    with torch.device("meta"):
        network = DensePose()
    tensors = {name: tensor for name, tensor in read_arrays(path).items() if not _CONSTANTS.fullmatch(name)}
    load_exactly(network, tensors, path)
    return network


def convert_densepose(network: DensePose) -> Iterator[tuple[str, ov.Model]]:
    """The name and model of each part, one at a time; the models share the network's weights.

    Raises:
        ExportError: OpenVINO cannot follow the network.
    """
    backbone = ("p2", "p3", "p4", "p5", "p6", "decoder", "objectness", "anchor_deltas")
    picture = {"picture": torch.zeros(1, 3, 96, 64)}
    yield "densepose_backbone", convert(Backbone(network), picture, {"picture": (1, 3, _ANY, _ANY)}, *backbone)
    for part, body, predictor, size, outputs in (
        ("densepose_box_head", "box_head", "box_predictor", 7, ("cls_score", "bbox_pred")),
        ("densepose_head", "densepose_head", "densepose_predictor", 28, ("coarse_segm", "fine_segm")),
    ):
        head = Head(network.roi_heads[body], network.roi_heads[predictor])
        pooled = {"pooled": torch.zeros(2, CHANNELS, size, size)}
        yield part, convert(head, pooled, {"pooled": (_ANY, CHANNELS, size, size)}, *outputs)
