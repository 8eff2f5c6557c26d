"""The command line: `python -m catvton_ov try-on | mask | batch | evaluate | export | report | publish | bench`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from catvton_ov.batch import command as batch
from catvton_ov.bench import command as bench
from catvton_ov.errors import ImageError, MaskError, OptionsError, TryOnError
from catvton_ov.evaluate import command as evaluate
from catvton_ov.export import command as export
from catvton_ov.export import publish_command as publish
from catvton_ov.export import report_command as report
from catvton_ov.images import as_rgb, open_picture
from catvton_ov.marking import marked, to_png
from catvton_ov.options import FRAMINGS, GARMENT_CATEGORIES, MaskAdjustment, TryOnOptions, TryOnStep
from catvton_ov.presets import PRESETS, default_preset, default_size, preset
from catvton_ov.samplers import SAMPLERS, SPACINGS
from catvton_ov.sources import BUNDLED, open_bundle

if TYPE_CHECKING:
    from catvton_ov.masking.labels import LabelMaps
    from catvton_ov.settings import TryOnSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for what the error tree knows, 130 when interrupted."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code: int = args.run(args)
        return code
    except TryOnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m catvton_ov", description="Virtual try-on: CatVTON on OpenVINO.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    try_on = commands.add_parser(
        "try-on", help="put a garment on a person", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_try_on_arguments(try_on)
    try_on.set_defaults(run=run_try_on)

    masking = commands.add_parser(
        "mask", help="find the clothes on a photo", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add_mask_arguments(masking)
    masking.set_defaults(run=run_mask)

    batching = commands.add_parser(
        "batch",
        help="many try-ons in one run that can be stopped and resumed",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    batch.add_arguments(batching)
    batching.set_defaults(run=batch.run)

    evaluating = commands.add_parser("evaluate", help="measure results against the truth: SSIM, PSNR, LPIPS, FID, KID")
    evaluate.add_arguments(evaluating)
    evaluating.set_defaults(run=evaluate.run)

    exporting = commands.add_parser("export", help="convert published checkpoints to a model bundle")
    export.add_arguments(exporting)
    exporting.set_defaults(run=export.run)

    publishing = commands.add_parser("publish", help="put a model bundle, and a Space that serves it, on the Hub")
    publish.add_arguments(publishing)
    publishing.set_defaults(run=publish.run)

    reporting = commands.add_parser("report", help="measure a bundle: size, speed, and how far from another one it is")
    report.add_arguments(reporting)
    reporting.set_defaults(run=report.run)

    benching = commands.add_parser("bench", help="time recipes side by side, the notebook's among them")
    bench.add_arguments(benching)
    benching.set_defaults(run=bench.run)
    return parser


def add_try_on_arguments(parser: argparse.ArgumentParser) -> None:
    model = os.environ.get("CATVTON_OV_MODEL", BUNDLED)
    add = parser.add_argument
    add("--model", metavar="SOURCE", default=model, help="folder, paper_doll, or Hub owner/name[@revision]")
    add("--person", metavar="FILE", type=Path, required=True, help="photo of the person")
    add("--garment", metavar="FILE", type=Path, required=True, help="photo of the garment")
    add("--mask", metavar="FILE", type=Path, help="white is repainted; of the photo's size; the auto-mask if not given")
    add("--category", choices=GARMENT_CATEGORIES, help="of the garment, for the auto-mask; upper if not given")
    add("--out", metavar="FILE.png", type=Path, required=True, help="where the result is written")
    add("--settings", metavar="FILE.json", type=Path, help="as the page gives them with a result; options count more")
    add("--preset", choices=tuple(PRESETS), help="between quality and time; what suits this machine if not given")
    add("--steps", type=int, help="denoising steps; this and the next four: the preset's if not given")
    add("--guidance-scale", type=float, help="how closely to follow the garment")
    add("--sampler", choices=SAMPLERS, help="dpmpp_2m is made for few steps")
    add("--eta", type=float, help="ddim: noise drawn at every step, 0 to 1")
    add("--spacing", choices=SPACINGS, help="of the timesteps")
    add("--seed", type=int, help="0 to 4294967295; a new one, which is printed, if not given")
    add(
        "--size", type=export.parse_size, metavar="WxH", help="the model works at; what suits this machine if not given"
    )
    add("--framing", choices=FRAMINGS, help="the part of the photo the model sees; whole if not given")
    add("--device", default="CPU", help="what OpenVINO lists, or AUTO")
    add("--threads", type=int, help="CPU threads; OpenVINO's choice if not given")
    add("--cache-dir", type=Path, help="keeps compiled models between runs; none are kept if not given")


def _options(args: argparse.Namespace, settings: TryOnSettings | None) -> TryOnOptions:
    """Those of the settings, or of a preset; with what is given besides."""
    if settings is not None and args.preset is None:
        base = settings.options
    else:
        base = preset(args.preset or default_preset(args.device))
    names = ("steps", "guidance_scale", "sampler", "eta", "spacing", "seed", "size", "framing")
    return replace(base, **{name: value for name in names if (value := getattr(args, name)) is not None})


def _read_settings(path: Path) -> TryOnSettings:
    from catvton_ov.settings import TryOnSettings

    try:
        settings = TryOnSettings.from_json(path.read_bytes())
    except OSError as error:
        raise OptionsError(f"The settings {path} cannot be read: {error.strerror or error}.") from None
    if settings.painted:
        print("The mask of these settings was painted by hand: give it with --mask.", file=sys.stderr)
    return settings


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    model = os.environ.get("CATVTON_OV_MODEL", BUNDLED)
    add("--model", metavar="SOURCE", default=model, help="folder, paper_doll, or Hub owner/name[@revision]")
    add("--person", metavar="FILE", type=Path, required=True, help="photo of the person")
    add("--category", choices=GARMENT_CATEGORIES, default="upper", help="of the garment")
    add("--out", metavar="FILE.png", type=Path, required=True, help="where the mask is written")
    add("--labels", metavar="FILE.png", type=Path, help="where a picture of what was recognised is written")
    for name in ("grow", "up", "down", "left", "right"):
        add(f"--{name}", type=float, default=0.0, metavar="PERCENT", help="change the mask, in %% of the body's height")
    add("--device", default="CPU", help="what OpenVINO lists, or AUTO")


def run_mask(args: argparse.Namespace) -> int:
    from catvton_ov.masking.automask import auto_mask
    from catvton_ov.masking.show import picture_of_labels

    adjustment = MaskAdjustment(args.grow, args.up, args.down, args.left, args.right)
    for option, path in (("--out", args.out), ("--labels", args.labels)):
        if path is not None:
            _check_png(path, option)
    photo = as_rgb(open_picture(args.person, "photo of the person"), "photo of the person")
    maps = _parse(photo, args.model, args.device)
    _tell_persons(maps)
    mask = auto_mask(maps, args.category, adjustment)
    _write(mask, args.out)
    if args.labels is not None:
        _write(picture_of_labels(maps), args.labels)
    print(args.out)
    return 0


def _tell_persons(maps: LabelMaps) -> None:
    if maps.persons == 0:
        print("No body was recognised; the mask follows the clothes alone. Check it.", file=sys.stderr)
    elif maps.persons > 1:
        print(f"{maps.persons} persons were found; the mask is for the largest.", file=sys.stderr)


def _parse(photo: Image.Image, model: str, device: str) -> LabelMaps:
    from catvton_ov.masking.parsers import open_parser
    from catvton_ov.runtime import Runtime, RuntimeOptions

    runtime = Runtime(RuntimeOptions(device=device))
    parser = open_parser(open_bundle(model), runtime)
    if parser is None:
        raise MaskError(f"The model {model} brings no parsers, which find the clothes: give a mask with --mask.")
    return parser(photo)


def run_try_on(args: argparse.Namespace) -> int:
    from catvton_ov.masking.automask import auto_mask  # OpenVINO and OpenCV are imported only when they are needed
    from catvton_ov.pipeline import TryOnPipeline

    settings = None if args.settings is None else _read_settings(args.settings)
    options = _options(args, settings)
    category = args.category or (settings.category if settings else "upper")
    adjustment = settings.adjustment if settings else None
    _check_png(args.out, "--out")
    person = open_picture(args.person, "photo of the person")
    garment = open_picture(args.garment, "photo of the garment")
    if args.mask is not None:
        mask = open_picture(args.mask, "mask")
    else:
        person = as_rgb(person, "photo of the person")
        maps = _parse(person, args.model, args.device)
        _tell_persons(maps)
        mask = auto_mask(maps, category, adjustment)
    pipeline = TryOnPipeline.load(args.model, args.device, threads=args.threads, cache_dir=args.cache_dir)
    if options.size is None and (settings is None or args.preset is not None):
        options = replace(options, size=default_size(pipeline.bundle.manifest.sizes, args.device))
    print(f"{pipeline.bundle.manifest.name}: {pipeline.bundle.manifest.notice}", file=sys.stderr)
    with tqdm(total=options.steps, unit="step", desc="Trying on") as bar:
        for item in pipeline.steps(person, garment, mask, options):
            if isinstance(item, TryOnStep):
                bar.update()
            else:
                result = item
    _write(marked(result.picture), args.out)
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in result.seconds.items())
    print(f"{args.out}  seed {result.seed}  seconds: {seconds}")
    return 0


def _check_png(path: Path, option: str) -> None:
    if path.suffix.lower() != ".png":
        raise ImageError(f"The result is written as PNG; {option} must end in .png, got {path.name!r}.")
    if not path.parent.is_dir():
        raise ImageError(f"The folder of {option} does not exist: {path.parent}.")
    if path.is_dir():
        raise ImageError(f"{option} must name a file; {path} is a folder.")


def _write(picture: Image.Image, path: Path) -> None:
    try:
        write_png(picture, path)
    except OSError as error:
        raise ImageError(f"{path} could not be written: {error.strerror or error}.") from error


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG without metadata but the mark of a result, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(to_png(picture))
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
