"""Torch modules to OpenVINO IR, with inputs and outputs named and batch, height and width left open."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import openvino as ov
import torch
from torch import Tensor, nn

from catvton_ov.errors import ExportError
from catvton_ov.export.options import StoredFloat

IR_NAME = "openvino_model.xml"
_ANY = -1


def convert_unet(module: nn.Module, channels: int) -> ov.Model:
    """`sample` (B, channels, h, w) f32 and `timestep` (1,) i64 -> `noise_pred` (B, C, h, w) f32.

    Any h and w will do, multiples of the UNet's down-sampling or not.
    """
    # Traced with sides that are no multiple of 8, so that the trace takes the branch of diffusers' UNet that
    # up-samples to the size of the skip connection. For multiples of 8 it gives the same as doubling.
    example = {"sample": torch.zeros(2, channels, 18, 10), "timestep": torch.ones(1, dtype=torch.int64)}
    return convert(module, example, {"sample": (_ANY, channels, _ANY, _ANY), "timestep": (1,)}, "noise_pred")


def convert_encoder(module: nn.Module, downsample: int) -> ov.Model:
    """`picture` (B, 3, H, W) f32 -> `latent` (B, C, h, w) f32; H and W multiples of `downsample`."""
    example = {"picture": torch.zeros(2, 3, 6 * downsample, 4 * downsample)}
    return convert(module, example, {"picture": (_ANY, 3, _ANY, _ANY)}, "latent")


def convert_decoder(module: nn.Module, channels: int) -> ov.Model:
    """`latent` (B, channels, h, w) f32 -> `picture` (B, 3, H, W) f32."""
    example = {"latent": torch.zeros(2, channels, 6, 4)}
    return convert(module, example, {"latent": (_ANY, channels, _ANY, _ANY)}, "picture")


def convert(
    module: nn.Module, example: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], *outputs: str
) -> ov.Model:
    """Trace a module once and convert the trace; the model shares the weights' memory with the module.

    Args:
        example: argument name -> a tensor of the right type; its values do not matter.
        shapes: argument name -> shape of the model's input, -1 where it is open; types are the example's.
        outputs: what to call the outputs, in their order.

    Raises:
        ExportError: torch or OpenVINO cannot follow the module.
    """
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # asserts on shapes, which hold for every size, warn when traced
            # ov.convert_model would trace too, but then repeats the trace twice to compare: most of its time.
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                module, example_kwarg_inputs=dict(example), strict=False, check_trace=False
            )
            inputs = [(name, ov.PartialShape(list(shapes[name])), _TYPES[example[name].dtype]) for name in example]
            model = ov.convert_model(traced, example_input=dict(example), input=inputs)
    except RuntimeError as error:
        raise ExportError(f"{type(module).__name__} could not be converted: {error}") from error
    for port, name in zip(model.outputs, outputs, strict=True):
        port.set_names({name})
    return model


_TYPES = {torch.float32: ov.Type.f32, torch.int64: ov.Type.i64}


def save_model(model: ov.Model, folder: Path, precision: StoredFloat) -> None:
    """Write `openvino_model.xml` and `.bin` into `folder`, which is made.

    Raises:
        ExportError: OpenVINO could not write them: no space left, most likely.
    """
    folder.mkdir(parents=True)
    try:
        ov.save_model(model, folder / IR_NAME, compress_to_fp16=precision == "fp16")
    except RuntimeError as error:
        raise ExportError(f"{folder.name}/{IR_NAME} could not be written; is the disk full? ({error})") from error
