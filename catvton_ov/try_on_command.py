"""`python -m catvton_ov try-on` and `mask`: one picture."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tqdm import tqdm

from catvton_ov.errors import ImageError, MaskError, OptionsError
from catvton_ov.export.command import parse_size
from catvton_ov.files import check_writable, write_whole
from catvton_ov.marking import marked, to_png
from catvton_ov.options import FRAMINGS, GARMENT_CATEGORIES, MaskAdjustment, TryOnOptions, TryOnStep
from catvton_ov.pictures.reading import read_mask, read_photo
from catvton_ov.presets import PRESETS, default_preset, default_size, preset
from catvton_ov.samplers import SAMPLERS, SPACINGS
from catvton_ov.shortcuts import KEYS
from catvton_ov.sources import default_source, open_bundle

if TYPE_CHECKING:
    from catvton_ov.masking.labels import LabelMaps
    from catvton_ov.masking.parsers import Parser
    from catvton_ov.runtime import RuntimeOptions
    from catvton_ov.settings import TryOnSettings


def add_try_on_arguments(parser: argparse.ArgumentParser) -> None:
    model = default_source()
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
    add("--size", type=parse_size, metavar="WxH", help="the model works at; what suits this machine if not given")
    add("--framing", choices=FRAMINGS, help="the part of the photo the model sees; whole if not given")
    add(
        "--cache-every",
        type=int,
        help="full passes every so many steps, shallow ones between; this and the next two: "
        "the preset's if not given, see docs/performance.md",
    )
    add("--guided", type=float, nargs=2, metavar=("FROM", "TO"), help="the share of the steps that guidance covers")
    add("--keys", choices=KEYS, help="of the first level's attention")
    _add_person_number(parser)
    add("--worn", action="store_true", help="the garment photo shows somebody who wears it: cut it out")
    add("--device", default="CPU", help="what OpenVINO lists, or AUTO")
    add("--threads", type=int, help="CPU threads; OpenVINO's choice if not given")
    add("--cache-dir", type=Path, help="keeps compiled models between runs; none are kept if not given")


def _options(args: argparse.Namespace, settings: TryOnSettings | None) -> TryOnOptions:
    """Those of the settings, or of a preset; with what is given besides."""
    base = preset(args.preset or default_preset(args.device)) if settings is None else settings.options
    if settings is not None and args.preset is not None:
        kept = {name: getattr(base, name) for name in ("seed", "size", "framing", "blur", "repaint")}
        base = replace(preset(args.preset), **kept)
    names = ("steps", "guidance_scale", "sampler", "eta", "spacing", "seed", "size", "framing")
    chosen = replace(base, **{name: value for name in names if (value := getattr(args, name)) is not None})
    levers = {"cache_every": args.cache_every, "guided": args.guided and tuple(args.guided), "keys": args.keys}
    given = {name: value for name, value in levers.items() if value is not None}
    return replace(chosen, shortcuts=replace(chosen.shortcuts, **given))


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
    model = default_source()
    add("--model", metavar="SOURCE", default=model, help="folder, paper_doll, or Hub owner/name[@revision]")
    add("--person", metavar="FILE", type=Path, required=True, help="photo of the person")
    add("--category", choices=GARMENT_CATEGORIES, default="upper", help="of the garment")
    add("--out", metavar="FILE.png", type=Path, required=True, help="where the mask is written")
    add("--labels", metavar="FILE.png", type=Path, help="where a picture of what was recognised is written")
    _add_person_number(parser)
    for name in ("grow", "up", "down", "left", "right"):
        add(f"--{name}", type=float, default=0.0, metavar="PERCENT", help="change the mask, in %% of the body's height")
    add("--device", default="CPU", help="what OpenVINO lists, or AUTO")


def run_mask(args: argparse.Namespace) -> int:
    from catvton_ov.masking.automask import auto_mask
    from catvton_ov.masking.show import picture_of_labels
    from catvton_ov.runtime import RuntimeOptions

    adjustment = MaskAdjustment(args.grow, args.up, args.down, args.left, args.right)
    for option, path in (("--out", args.out), ("--labels", args.labels)):
        if path is not None:
            _check_png(path, option)
    if args.labels is not None and args.labels.absolute() == args.out.absolute():
        raise ImageError(f"--labels must name another file than --out; both are {args.out}.")
    photo = read_photo(args.person, "photo of the person")
    number = args.person_number
    maps = _parser(args.model, RuntimeOptions(device=args.device))(photo, 0 if number is None else number - 1)
    mask = auto_mask(maps, args.category, adjustment)
    _tell_persons(maps, number)
    _write(mask, args.out)
    if args.labels is not None:
        _write(picture_of_labels(maps), args.labels)
    print(args.out)
    return 0


def _add_person_number(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--person-number",
        type=int,
        metavar="N",
        help="of several persons: whose clothes; the first, the largest, if not given",
    )


def _tell_persons(maps: LabelMaps, number: int | None) -> None:
    if maps.persons == 0:
        print("No body was recognised; the mask follows the clothes alone. Check it.", file=sys.stderr)
    elif maps.persons > 1 and number is None:
        print(f"{maps.persons} persons were found; the mask is for the largest (--person-number).", file=sys.stderr)


def _parser(model: str, options: RuntimeOptions) -> Parser:
    from catvton_ov.masking.parsers import open_parser
    from catvton_ov.runtime import Runtime

    parser = open_parser(open_bundle(model), Runtime(options))
    if parser is None:
        raise MaskError(f"The model {model} brings no parsers, which find the clothes: give a mask with --mask.")
    return parser


def run_try_on(args: argparse.Namespace) -> int:
    from catvton_ov.masking.automask import auto_mask  # OpenVINO and OpenCV are imported only when they are needed
    from catvton_ov.masking.worn import worn_garment
    from catvton_ov.pipeline import TryOnPipeline
    from catvton_ov.runtime import RuntimeOptions

    if args.mask is not None and args.person_number is not None:
        raise OptionsError("--person-number chooses for whom the mask is found; with --mask there is nothing to find.")
    settings = None if args.settings is None else _read_settings(args.settings)
    options = _options(args, settings)
    category = args.category or (settings.category if settings else "upper")
    adjustment = settings.adjustment if settings else None
    _check_png(args.out, "--out")
    person = read_photo(args.person, "photo of the person")
    garment = read_photo(args.garment, "photo of the garment")
    worn = args.worn or (settings is not None and settings.worn)
    runtime = RuntimeOptions(device=args.device, threads=args.threads, cache_dir=args.cache_dir)
    parser = _parser(args.model, runtime) if args.mask is None or worn else None
    if args.mask is not None:
        mask = read_mask(args.mask)
    elif parser is not None:
        number = args.person_number
        if number is None and settings is not None:
            number = settings.person_number
        maps = parser(person, 0 if number is None else number - 1)
        mask = auto_mask(maps, category, adjustment)
        _tell_persons(maps, number)
    if worn and parser is not None:
        garment = worn_garment(garment, parser(garment), category)
    pipeline = TryOnPipeline.load(args.model, args.device, threads=args.threads, cache_dir=args.cache_dir)
    if options.size is None and settings is None:
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
    try:
        check_writable(path)
    except OSError as error:
        raise ImageError(f"{option} cannot be written, {path}: {error.strerror or error}.") from None


def _write(picture: Image.Image, path: Path) -> None:
    """Write a PNG without metadata but the mark of a result."""
    try:
        write_whole(path, to_png(picture))
    except OSError as error:
        raise ImageError(f"{path} could not be written: {error.strerror or error}.") from error
