"""Bundles to measure against: one quantized as the notebook does it, and full-size ones with random weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as opset

from catvton_ov.bundle import MANIFEST, Bundle, record_files
from catvton_ov.export.build import export_bundle
from catvton_ov.export.calibration import calibration_pictures, collect, find_pairs
from catvton_ov.export.int8 import quantize_bundle
from catvton_ov.export.options import CalibrationOptions, ExportOptions, QuantizationOptions
from catvton_ov.export.quantize import quantization_record, quantize_unet, write_model
from catvton_ov.export.random_checkpoints import SCALES, write_tryon
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions

# Ranges do not change how long a graph takes, so one short run is enough to learn some from.
SHORT = CalibrationOptions(runs=1, steps=1, sizes=((128, 192),))
PARTS = ("unet", "vae_encoder", "vae_decoder")
KINDS = {"notebook": "notebook", "notebook-fp16": "fp16"}  # of the random bundles; the other recipes run INT8


def yardsticks(bundle: Bundle, work: Path, recipes: Sequence[str], say: Callable[[str], None]) -> dict[str, Path]:
    """What the recipes "notebook" and "notebook-fp16" need of a model, each if it is asked for; kept in `work`.

    Raises:
        ExportError: it could not be quantized or written.
    """
    name = bundle.manifest.files[bundle.manifest.parts["unet"]].sha256[:16]
    makers = {"notebook": notebook_bundle, "notebook-fp16": float_bundle}
    return {recipe: make(bundle, work / name / recipe, say) for recipe, make in makers.items() if recipe in recipes}


def notebook_bundle(bundle: Bundle, out: Path, say: Callable[[str], None]) -> Path:
    """The same weights, quantized as the notebook does: NNCF's post-training quantization of all it finds.

    The VAE is computed in float. An INT8 bundle is brought back to float first. `out` is made unless it exists.

    Raises:
        ExportError: it could not be quantized or written.
    """
    if out.is_dir():
        return out
    say("Quantizing the UNet as the notebook does")
    pipeline = TryOnPipeline(bundle, Runtime(RuntimeOptions()))
    pairs = find_pairs(calibration_pictures(bundle.folder, SHORT, lambda line: None).folder, SHORT.seed)
    samples = list(collect(pipeline, pairs, SHORT))
    pipeline.unet.release()
    model = quantize_unet(float_again(ov.Core().read_model(bundle.part("unet"))), "ptq", samples, True)
    return _with_unet(bundle, model, {"recipe": "ptq", "unet": dict(quantization_record(model))}, out)


def float_bundle(bundle: Bundle, out: Path, say: Callable[[str], None]) -> Path:
    """The same weights in float; an INT8 bundle is brought back. `out` is made unless it exists."""
    if out.is_dir():
        return out
    say("Bringing the weights back to float")
    return _with_unet(bundle, float_again(ov.Core().read_model(bundle.part("unet"))), None, out)


def _with_unet(bundle: Bundle, unet: ov.Model, quantization: Mapping[str, Any] | None, out: Path) -> Path:
    """A bundle of this UNet and of the VAE in float."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
        folder = Path(temporary) / out.name
        for name in bundle.manifest.files:
            if name.split("/")[0] in PARTS:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(bundle.folder / name, folder / name)
        parts = {part: bundle.manifest.parts[part] for part in PARTS}
        write_model(unet, folder / parts["unet"])
        for part in ("vae_encoder", "vae_decoder"):
            write_model(float_again(ov.Core().read_model(bundle.part(part))), folder / parts[part])
        manifest = replace(
            bundle.manifest,
            precision="fp16" if quantization is None else "int8",
            parts=parts,
            quantization=quantization,
            files=record_files(folder),
        )
        (folder / MANIFEST).write_bytes(manifest.to_json())
        folder.rename(out)
    return out


def random_bundles(
    work: Path, recipes: Sequence[str], say: Callable[[str], None], scale: str = "full"
) -> dict[str, Path]:
    """Recipe -> a bundle with random weights for it; they are made once and kept in `work`.

    Args:
        scale: "full", or "tiny" for small networks of the same layout.

    Raises:
        ExportError: as `export_bundle` and `quantize_bundle`.
    """
    folders = {name: work / scale / name for name in ("fp16", "int8", "notebook")}
    if not folders["fp16"].is_dir():
        say("Writing random weights")
        work.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".checkpoints.", dir=work) as temporary:
            base, vae, catvton = write_tryon(Path(temporary), SCALES[scale])
            options = ExportOptions(
                base=str(base), vae=str(vae), catvton=str(catvton), checkpoint="mix", out=folders["fp16"],
                precision="fp16", parts=("tryon",), report="none",
            )  # fmt: skip
            export_bundle(options, say)
    kinds = {recipe: KINDS.get(recipe, "int8") for recipe in recipes}
    if "int8" in kinds.values() and not folders["int8"].is_dir():
        quantize_bundle(folders["fp16"], folders["int8"], QuantizationOptions(calibration=SHORT), say)
    if "notebook" in kinds.values():
        notebook_bundle(Bundle.open(folders["fp16"]), folders["notebook"], say)
    return {recipe: folders[kind] for recipe, kind in kinds.items()}


def float_again(model: ov.Model) -> ov.Model:
    """Take INT8 out of a graph: no quantized activations, and weights as float16 numbers; changes `model`."""
    for op in model.get_ordered_ops():
        if op.get_type_name() == "FakeQuantize" and op.input_value(0).get_node().get_type_name() != "Constant":
            op.output(0).replace(op.input_value(0))
        elif op.get_type_name() == "Multiply" and (weights := _stored_weights(op)) is not None:
            constant = opset.convert(opset.constant(weights.astype(np.float16)), "f32")
            op.output(0).replace(constant.output(0))
    model.validate_nodes_and_infer_types()
    return model


def _stored_weights(multiply: ov.Node) -> np.ndarray | None:
    """The float values of weights that are stored as int8 numbers and a scale, if that is what this multiplies."""
    convert, scale = (multiply.input_value(port).get_node() for port in (0, 1))
    if convert.get_type_name() != "Convert" or convert.input_value(0).get_element_type() not in (
        ov.Type.i8,
        ov.Type.u8,
    ):
        return None
    stored = convert.input_value(0).get_node()
    while scale.get_type_name() == "Convert":
        scale = scale.input_value(0).get_node()
    if stored.get_type_name() != "Constant" or scale.get_type_name() != "Constant":
        return None
    return np.asarray(stored.get_data(), np.float32) * np.asarray(scale.get_data(), np.float32)
