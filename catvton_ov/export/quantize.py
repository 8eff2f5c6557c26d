"""INT8 with NNCF: three recipes for the UNet, weight compression for the parts around it.

What is measured on a CPU without VNNI (docs/how-it-works.md has the figures): INT8 convolutions are more than twice
as fast as float ones; INT8 MatMuls are not faster; and quantizing what goes into the attention takes OpenVINO's fused
attention apart, so that its scores are written to memory, which at 768x1024 is more than most machines have.
So `hybrid`, the default, quantizes convolutions, stores MatMul weights in 8 bits, and leaves attention alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nncf
import openvino as ov
from nncf.quantization.advanced_parameters import (
    AdvancedQuantizationParameters,
    AdvancedSmoothQuantParameters,
    OverflowFix,
)

from catvton_ov.errors import ExportError
from catvton_ov.export.calibration import Sample
from catvton_ov.export.options import Recipe


def quantize_unet(model: ov.Model, recipe: Recipe, samples: Iterable[Sample], overflow_fix: bool) -> ov.Model:
    """Quantize a UNet; may change `model`.

    Args:
        model: the float model.
        recipe: "hybrid": INT8 convolutions, 8-bit weights of MatMuls, attention in float. "ptq": everything NNCF
            quantizes of a transformer by default, as the notebook this project replaces did. "weights": 8-bit
            weights only. "none": the model as it is.
        samples: inputs the model sees in use.
        overflow_fix: keep one bit of range free, without which INT8 sums saturate on CPUs that lack VNNI.

    Raises:
        ExportError: NNCF could not quantize it.
    """
    if recipe == "hybrid":
        return quantize_convolutions(model, list(samples), overflow_fix)
    if recipe == "ptq":
        calibration = list(samples)
        with _explained(recipe):
            return nncf.quantize(
                model,
                nncf.Dataset(calibration),
                subset_size=len(calibration),
                model_type=nncf.ModelType.TRANSFORMER,
            )
    return compress(model) if recipe == "weights" else model


def compress(model: ov.Model) -> ov.Model:
    """8-bit weights, symmetric and per channel; computing stays in float. Raises ExportError if NNCF cannot."""
    with _explained("8-bit weights"):
        return nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)


def quantize_convolutions(model: ov.Model, samples: Sequence[Sample], overflow_fix: bool) -> ov.Model:
    """INT8 convolutions, 8-bit weights of MatMuls, attention in float: the recipe "hybrid".

    Raises:
        ExportError: NNCF could not quantize it.
    """
    with _explained("INT8 convolutions"):
        compressed = nncf.compress_weights(
            model,
            mode=nncf.CompressWeightsMode.INT8_SYM,
            ignored_scope=nncf.IgnoredScope(types=["Convolution"], validate=False),
        )
        kept = [op.get_friendly_name() for op in compressed.get_ops() if op.get_type_name() == "MatMul"]
        return nncf.quantize(
            compressed,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=nncf.IgnoredScope(names=kept, types=["ScaledDotProductAttention"], validate=False),
            advanced_parameters=AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if overflow_fix else OverflowFix.DISABLE,
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=-1),
            ),
        )


@contextmanager
def _explained(how: str) -> Iterator[None]:
    nncf.set_log_level(logging.WARNING)  # its tables would be printed among our results
    try:
        yield
    except (RuntimeError, nncf.ValidationError) as error:
        raise ExportError(f"NNCF could not quantize a network ({how}): {error}") from error


def quantization_record(model: ov.Model) -> Mapping[str, Any]:
    """What a quantized graph holds, counted: for the manifest, and for whoever doubts it."""
    ops = list(model.get_ops())
    attentions = [op for op in ops if op.get_type_name() == "ScaledDotProductAttention"]
    return {
        "fake_quantize": sum(op.get_type_name() == "FakeQuantize" for op in ops),
        "attentions": len(attentions),
        "attentions_quantized": sum(_quantized_inputs(op) for op in attentions),
    }


def _quantized_inputs(attention: ov.Node) -> bool:
    """Whether query, key or value come out of a FakeQuantize, reshapes and transposes apart."""
    for port in range(3):
        node = attention.input_value(port).get_node()
        while node.get_type_name() in ("Transpose", "Reshape", "Unsqueeze", "Squeeze"):
            node = node.input_value(0).get_node()
        if node.get_type_name() == "FakeQuantize":
            return True
    return False


def write_model(model: ov.Model, xml: Path) -> None:
    """Write an IR, its folder included, over what may be there.

    Raises:
        ExportError: OpenVINO could not write it: no space left, most likely.
    """
    xml.parent.mkdir(parents=True, exist_ok=True)
    try:
        ov.save_model(model, xml)
    except RuntimeError as error:
        raise ExportError(f"{xml.parent.name} could not be written; is the disk full? ({error})") from error
