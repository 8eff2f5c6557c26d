"""From a float bundle to an INT8 bundle."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import openvino as ov
from PIL import Image

from catvton_ov.bundle import MANIFEST, Bundle, record_files
from catvton_ov.errors import ExportError
from catvton_ov.export.calibration import (
    Pair,
    Pictures,
    calibration_pictures,
    calibration_sizes,
    collect,
    model_pictures,
    split,
)
from catvton_ov.export.extras import compress_extras
from catvton_ov.export.options import QuantizationOptions
from catvton_ov.export.quantize import quantization_record, quantize_unet, write_model
from catvton_ov.export.vae_int8 import Form, quantize_vae
from catvton_ov.images import to_array
from catvton_ov.machine import this_machine
from catvton_ov.pictures.reading import read_photo
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions


def quantize_bundle(
    source: Path, out: Path, options: QuantizationOptions, progress: Callable[[str], None] | None = None
) -> Path:
    """Make an INT8 bundle at `out` of the float bundle in `source`.

    The bundle is made in a temporary folder beside its place and renamed when whole.

    Args:
        progress: called with a line for people before each step.

    Returns:
        The folder of the new bundle.

    Raises:
        BundleError: `source` is not a usable bundle.
        ExportError: `source` is quantized already, `out` exists or cannot be written, there are no calibration
            pictures, or a part cannot be quantized.
    """
    say = progress or (lambda line: None)
    if os.path.lexists(out):
        raise ExportError(f"{out} exists already: remove it or choose another place.")
    runtime = Runtime(RuntimeOptions())
    bundle = Bundle.open(source)
    pipeline = TryOnPipeline(bundle, runtime)
    if bundle.manifest.precision == "int8":
        raise ExportError(f"{source} is an INT8 bundle already; quantizing needs a float one.")
    pictures = calibration_pictures(source, options.calibration, say)
    used = split(pictures.folder, options.calibration).used
    machine = this_machine()
    overflow_fix = options.overflow_fix == "on" or (options.overflow_fix == "auto" and not machine.has_vnni)
    record: dict[str, Any] = {
        "recipe": options.recipe,
        "overflow_fix": overflow_fix if options.recipe == "hybrid" else None,  # NNCF's own choice, or nothing to fix
        "machine": str(machine),
        "calibration": _calibration_record(pipeline, pictures, used, options),
    }
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            folder = Path(temporary) / out.name
            _copy(bundle, folder)
            say("Running the model for calibration")
            samples = []
            if options.recipe in ("hybrid", "ptq"):
                for sample in collect(pipeline, used, options.calibration):
                    samples.append(sample)
                    say(f"Calibration sample {len(samples)}")
            record["calibration"]["samples"] = len(samples)
            pipeline.unet.release()
            say("Quantizing the VAE")
            size = calibration_sizes(options.calibration, pipeline)[0]
            seen = [to_array(each) for pair in used[:2] for each in model_pictures(pipeline, pair, size)[:2]]
            forms: tuple[Form, ...] = ("int8", "weights") if options.recipe == "hybrid" else ("weights",)
            record["vae"] = quantize_vae(bundle, runtime, seen, folder, forms, overflow_fix)
            photos = {pair.person: _photo(pair) for pair in used}
            record["extras"] = compress_extras(bundle, runtime, list(photos.values()), folder)
            gc.collect()
            say("Quantizing the UNet")
            model = quantize_unet(_read(bundle, "unet"), options.recipe, samples, overflow_fix)
            record["unet"] = dict(quantization_record(model))
            write_model(model, folder / bundle.manifest.parts["unet"])
            del model
            gc.collect()
            say("Writing the manifest")
            _mark_config(folder / "openvino_config.json")
            manifest = replace(bundle.manifest, precision="int8", quantization=record, files=record_files(folder))
            (folder / MANIFEST).write_bytes(manifest.to_json())
            folder.rename(out)
    except OSError as error:
        raise ExportError(f"{out} could not be written: {error}.") from error
    return out


def _calibration_record(
    pipeline: TryOnPipeline, pictures: Pictures, used: Sequence[Pair], options: QuantizationOptions
) -> dict[str, Any]:
    plan = {key: value for key, value in asdict(options.calibration).items() if key != "folder"}
    return {
        **plan,
        "origin": pictures.origin,
        "sizes": [list(size) for size in calibration_sizes(options.calibration, pipeline)],
        "pairs": [pair.category for pair in used],  # by no name: those of people's photos are theirs
    }


def _photo(pair: Pair) -> Image.Image:
    return read_photo(pair.person, "person")


def _copy(bundle: Bundle, folder: Path) -> None:
    for name in bundle.manifest.files:
        bundle.verify(name)
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.folder / name, target)


def _mark_config(path: Path) -> None:
    """Tell tools that know optimum-intel's layout; this program reads the manifest."""
    if path.is_file():
        config = json.loads(path.read_bytes())
        path.write_text(json.dumps({**config, "dtype": "int8"}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _read(bundle: Bundle, part: str) -> ov.Model:
    return ov.Core().read_model(bundle.part(part))
