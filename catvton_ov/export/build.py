"""From published checkpoints to a bundle, in order."""

from __future__ import annotations

import gc
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import openvino as ov
from pydantic import TypeAdapter

from catvton_ov.bundle import FORMAT_VERSION, MANIFEST, Latent, Manifest, Source, record_files
from catvton_ov.errors import ExportError, TryOnError
from catvton_ov.export import configs, convert
from catvton_ov.export.authors_pictures import with_pictures
from catvton_ov.export.calibration import KINDS, calibration_pictures, pictures_in, split
from catvton_ov.export.fetch import Fetched, fetch
from catvton_ov.export.int8 import quantize_bundle
from catvton_ov.export.options import (
    CHECKPOINTS,
    CalibrationOptions,
    CheckpointName,
    ExportOptions,
    Precision,
    StoredFloat,
)
from catvton_ov.export.parsers import FILES as PARSER_FILES
from catvton_ov.export.parsers import convert_parsers, load_parsers
from catvton_ov.export.report import make_report, write_report
from catvton_ov.export.safety import FILES as SAFETY_FILES
from catvton_ov.export.safety import convert_safety_checker, load_safety_checker
from catvton_ov.export.unet import load_unet
from catvton_ov.export.vae import LatentDecoder, PictureEncoder, downsampling, load_vae
from catvton_ov.pictures.reading import as_mask, as_rgb, open_picture
from catvton_ov.safety import PART as SAFETY
from catvton_ov.safety import SETTINGS as SAFETY_SETTINGS
from catvton_ov.safety import Preprocessing
from catvton_ov.samplers import NoiseSchedule

__all__ = ["ExportOptions", "export_bundle"]

FAMILY = "catvton-sd15"
MASK_BLUR = 9  # of the reference's repaint, at model size
NOTICE = "CatVTON's weights are for non-commercial use; do not dress people in pictures without their consent."
LICENCE = "CC BY-NC-SA 4.0, with the use restrictions of CreativeML OpenRAIL-M"
LICENCES = {
    "base": "CreativeML OpenRAIL-M",
    "vae": "MIT",
    "catvton": "CC BY-NC-SA 4.0",
    "parsers": "SCHP: MIT; DensePose: CC BY-SA 3.0",
}

_WEIGHTS = "diffusion_pytorch_model"


def export_bundle(options: ExportOptions, progress: Callable[[str], None] | None = None) -> Path:
    """Convert the checkpoints that `options` names and write a bundle at `options.out`.

    All inputs are read and checked before anything is converted. The bundle is made in a temporary folder beside
    its place and renamed when whole: if this raises before, KeyboardInterrupt included, nothing is left behind. The
    report comes last, and a bundle that could not be measured stays. An INT8 bundle is made of a float one, which
    goes away with the temporary folder.

    Args:
        progress: called with a line for people before each step.

    Returns:
        The folder of the bundle.

    Raises:
        ExportError: the target exists or cannot be written, a source cannot be had, or a checkpoint is not
            what it should be.
    """
    say = progress or (lambda line: None)
    out = options.out.expanduser().absolute()
    if os.path.lexists(out):
        raise ExportError(f"{options.out} exists already: remove it or name another place with --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as temporary:
            places = {precision: Path(temporary) / precision / out.name for precision in _precisions(options)}
            floats = {precision: place for precision, place in places.items() if precision != "int8"}
            examples = Path(temporary) / "examples"
            if options.examples is not None:
                _clean_examples(options.examples, examples)
            _export_float(options, floats, examples, say)
            plan = options.quantization.calibration
            if options.precision == "int8" or options.report != "none":
                made = floats["fp16" if "fp16" in floats else "fp32"]
                plan = with_pictures(plan, options.catvton, made, Path(temporary) / "pictures", say)
            if options.precision == "int8":
                quantize_bundle(floats["fp16"], places["int8"], replace(options.quantization, calibration=plan), say)
            places[options.precision] = places[options.precision].rename(out)
            if options.report != "none":
                say(f"{options.out} is made; measuring it")
                _report(options, plan, places, say)
    except OSError as error:
        raise ExportError(f"{options.out} could not be written: {error}.") from error
    return out


def _precisions(options: ExportOptions) -> tuple[Precision, ...]:
    """The bundles to make: the one asked for, the one it is made of, and the one a report compares with."""
    made: tuple[Precision, ...] = ("fp16", "int8") if options.precision == "int8" else (options.precision,)
    return ("fp32", *made) if options.report != "none" and "fp32" not in made else made


def _report(
    options: ExportOptions, plan: CalibrationOptions, places: Mapping[Precision, Path], say: Callable[[str], None]
) -> None:
    """Measure the bundles and write the report into the one asked for."""
    used, pairs = split(calibration_pictures(places[options.precision], plan, say).folder, plan)
    if options.precision == "int8" and pairs == used:
        say("Warning: there is a single calibration pair, which the report's pictures must be of too")
    write_report(places[options.precision], make_report(places, "fp32", pairs, options.report, progress=say))


def _export_float(
    options: ExportOptions,
    folders: Mapping[StoredFloat, Path],
    examples: Path,
    say: Callable[[str], None],
) -> None:
    """Write float bundles, one of each precision, into folders that are made."""
    say("Fetching the checkpoints")
    sources = _fetch_all(options)
    unet_config_file, scheduler_file, unet_file, *checker_files = sources["base"].files
    vae_config_file, vae_file = sources["vae"].files
    attention_file, *parser_files = sources["catvton"].files

    say("Reading and checking the checkpoints")
    schedule = configs.read_schedule(scheduler_file)
    unet_config = configs.read_unet_config(unet_config_file)
    vae_config = configs.read_vae_config(vae_config_file)
    vae = load_vae(vae_config, vae_file)
    predictor = load_unet(unet_config, unet_file, attention_file)
    parsers = load_parsers(*parser_files) if parser_files else None
    checker = load_safety_checker(*checker_files) if checker_files else None
    configs.check_fit(predictor.unet.config, vae.config)
    latent = Latent(vae.config["latent_channels"], downsampling(vae), vae.config["scaling_factor"])
    sizes = options.sizes or CHECKPOINTS[options.checkpoint].sizes
    for width, height in sizes:
        if min(width, height) < 1 or width % latent.downsample or height % latent.downsample:
            raise ExportError(f"A size must be in multiples of {latent.downsample} pixels; got {width}x{height}.")

    parts: list[str] = []

    def save(model: ov.Model, part: str) -> None:
        parts.append(part)
        for precision, folder in folders.items():
            convert.save_model(model, folder / part, precision)

    # Each model shares its weights with the torch module; both are let go before the next is converted.
    say("Converting the VAE encoder")
    model = convert.convert_encoder(PictureEncoder(vae), latent.downsample)
    save(model, "vae_encoder")
    say("Converting the VAE decoder")
    model = convert.convert_decoder(LatentDecoder(vae), latent.channels)
    save(model, "vae_decoder")
    del model, vae
    gc.collect()
    say("Converting the UNet")
    model = convert.convert_unet(predictor, predictor.unet.config["in_channels"])
    del predictor
    save(model, "unet")
    del model
    gc.collect()
    for part, model in convert_parsers(parsers) if parsers else ():
        say(f"Converting {part}")
        save(model, part)
    if checker is not None:
        say("Converting the safety checker")
        save(convert_safety_checker(checker), SAFETY)
        for folder in folders.values():
            (folder / SAFETY_SETTINGS).write_bytes(
                TypeAdapter(Preprocessing).dump_json(checker.preprocessing, indent=2)
            )
    say("Writing the manifest")
    for precision, folder in folders.items():
        if examples.is_dir():
            shutil.copytree(examples, folder / "examples")
        _write_configs(folder, precision, unet_config, vae_config, schedule)
        manifest = _manifest(folder, options.checkpoint, precision, parts, sources, sizes, latent, schedule)
        (folder / MANIFEST).write_bytes(manifest.to_json())


def _clean_examples(source: Path, target: Path) -> None:
    """Copies, upright and without metadata, since they are published; raises ExportError for what cannot be used."""
    for kind in KINDS:
        for path in pictures_in(source / kind):
            (target / kind).mkdir(parents=True, exist_ok=True)
            try:
                picture = open_picture(path, "example")
                clean = as_mask(picture, picture.size) if kind == "mask" else as_rgb(picture)
            except TryOnError as error:
                raise ExportError(f"{path}: {error}") from None
            as_jpeg = kind != "mask" and path.suffix.lower() in (".jpg", ".jpeg")
            place = target / kind / f"{path.stem}{'.jpg' if as_jpeg else '.png'}"
            if place.exists():
                raise ExportError(f"{path}: there is another example of this name; rename one of them.")
            clean.save(place, quality=95)  # which PNG knows nothing of


def _fetch_all(options: ExportOptions) -> dict[str, Fetched]:
    """Role -> its files, in the order in which export_bundle unpacks them."""
    weights = (f"{_WEIGHTS}.safetensors", f"{_WEIGHTS}.bin")
    parsers = tuple((name,) for name in PARSER_FILES) if "parsers" in options.parts else ()
    attention = f"{CHECKPOINTS[options.checkpoint].folder}/attention/model.safetensors"
    unet = tuple(f"unet/{name}" for name in weights)
    base: tuple[tuple[str, ...], ...] = (("unet/config.json",), ("scheduler/scheduler_config.json",), unet)
    if "safety" in options.parts:
        base = (*base, *SAFETY_FILES)
    return {
        "base": fetch(options.base, base, "base model"),
        "vae": fetch(options.vae, (("config.json",), weights), "VAE"),
        "catvton": fetch(options.catvton, ((attention,), *parsers), "CatVTON"),
    }


def _manifest(
    folder: Path,
    checkpoint: CheckpointName,
    precision: StoredFloat,
    parts: Sequence[str],
    sources: Mapping[str, Fetched],
    sizes: tuple[tuple[int, int], ...],
    latent: Latent,
    schedule: NoiseSchedule,
) -> Manifest:
    return Manifest(
        format_version=FORMAT_VERSION,
        name=f"catvton-{CHECKPOINTS[checkpoint].folder}",
        family=FAMILY,
        notice=NOTICE,
        precision=precision,
        sizes=sizes,
        size_multiple=latent.downsample,  # the VAE's need; the UNet's graph takes any size (see convert_unet)
        latent=latent,
        schedule=schedule,
        mask_blur=MASK_BLUR,
        parts={part: f"{part}/{convert.IR_NAME}" for part in parts},
        files=record_files(folder),
        sources=tuple(_sources(sources, parts)),
        licence=LICENCE,
    )


def _sources(fetched: Mapping[str, Fetched], parts: Sequence[str]) -> Iterator[Source]:
    for role, at in fetched.items():
        yield Source(role, at.repo, at.revision, LICENCES[role])
    if "schp_lip" in parts:
        yield Source("parsers", fetched["catvton"].repo, fetched["catvton"].revision, LICENCES["parsers"])


def _write_configs(
    folder: Path,
    precision: StoredFloat,
    unet_config: Mapping[str, Any],
    vae_config: Mapping[str, Any],
    schedule: NoiseSchedule,
) -> None:
    """The JSON files of optimum-intel's folder layout, for tools that know it; this program reads the manifest."""
    optimum = "optimum.intel.openvino.modeling_diffusion"
    index = {
        "_class_name": "TryOnPipeline",
        "scheduler": ["diffusers", "DDIMScheduler"],
        "unet": [optimum, "OVModelUnet"],
        "vae_decoder": [optimum, "OVModelVaeDecoder"],
        "vae_encoder": [optimum, "OVModelVaeEncoder"],
    }
    scheduler = {"_class_name": "DDIMScheduler", "clip_sample": False, **asdict(schedule)}
    dtype = {"dtype": precision, "input_info": None, "quantization_config": None, "save_onnx_model": False}
    files: dict[str, Mapping[str, Any]] = {
        "model_index.json": index,
        "openvino_config.json": dtype,
        "scheduler/scheduler_config.json": scheduler,
        "unet/config.json": unet_config,
        "vae_encoder/config.json": vae_config,
        "vae_decoder/config.json": vae_config,
    }
    for name, content in files.items():
        shown = {key: value for key, value in content.items() if key != "_name_or_path"}  # a path on someone's disk
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(shown, indent=2, sort_keys=True) + "\n", encoding="utf-8")
