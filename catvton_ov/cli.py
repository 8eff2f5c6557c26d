"""The command line: `python -m catvton_ov try-on | export`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from catvton_ov.errors import ImageError, TryOnError
from catvton_ov.export import command as export
from catvton_ov.images import open_picture
from catvton_ov.options import FRAMINGS, TryOnOptions, TryOnStep
from catvton_ov.samplers import SAMPLERS, SPACINGS
from catvton_ov.sources import BUNDLED


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

    exporting = commands.add_parser("export", help="convert published checkpoints to a model bundle")
    export.add_arguments(exporting)
    exporting.set_defaults(run=export.run)
    return parser


def add_try_on_arguments(parser: argparse.ArgumentParser) -> None:
    defaults = TryOnOptions()
    model = os.environ.get("CATVTON_OV_MODEL", BUNDLED)
    add = parser.add_argument
    add("--model", metavar="SOURCE", default=model, help="folder, paper_doll, or Hub owner/name[@revision]")
    add("--person", metavar="FILE", type=Path, required=True, help="photo of the person")
    add("--garment", metavar="FILE", type=Path, required=True, help="photo of the garment")
    add("--mask", metavar="FILE", type=Path, required=True, help="white is repainted; of the photo's size")
    add("--out", metavar="FILE.png", type=Path, required=True, help="where the result is written")
    add("--steps", type=int, default=defaults.steps, help="denoising steps")
    add("--guidance-scale", type=float, default=defaults.guidance_scale, help="how closely to follow the garment")
    add("--sampler", choices=SAMPLERS, default=defaults.sampler, help="dpmpp_2m is made for few steps")
    add("--eta", type=float, default=defaults.eta, help="ddim: noise drawn at every step, 0 to 1")
    add("--spacing", choices=SPACINGS, help="of the timesteps; the model's own if not given")
    add("--seed", type=int, help="0 to 4294967295; a new one, which is printed, if not given")
    add("--size", type=export.parse_size, metavar="WxH", help="the model works at; the bundle's first if not given")
    add("--framing", choices=FRAMINGS, default=defaults.framing, help="the part of the photo the model sees")
    add("--device", default="CPU", help="what OpenVINO lists, or AUTO")
    add("--threads", type=int, help="CPU threads; OpenVINO's choice if not given")
    add("--cache-dir", type=Path, help="keeps compiled models between runs; none are kept if not given")


def run_try_on(args: argparse.Namespace) -> int:
    from catvton_ov.pipeline import TryOnPipeline  # OpenVINO is imported only when it is needed

    options = TryOnOptions(
        steps=args.steps, guidance_scale=args.guidance_scale, sampler=args.sampler, eta=args.eta,
        spacing=args.spacing, seed=args.seed, size=args.size, framing=args.framing,
    )  # fmt: skip
    if args.out.suffix.lower() != ".png":
        raise ImageError(f"The result is written as PNG; --out must end in .png, got {args.out.name!r}.")
    if not args.out.parent.is_dir():
        raise ImageError(f"The folder of --out does not exist: {args.out.parent}.")
    if args.out.is_dir():
        raise ImageError(f"--out must name a file; {args.out} is a folder.")
    person = open_picture(args.person, "photo of the person")
    garment = open_picture(args.garment, "photo of the garment")
    mask = open_picture(args.mask, "mask")
    pipeline = TryOnPipeline.load(args.model, args.device, threads=args.threads, cache_dir=args.cache_dir)
    print(f"{pipeline.bundle.manifest.name}: {pipeline.bundle.manifest.notice}", file=sys.stderr)
    with tqdm(total=options.steps, unit="step", desc="Trying on") as bar:
        for item in pipeline.steps(person, garment, mask, options):
            if isinstance(item, TryOnStep):
                bar.update()
            else:
                result = item
    try:
        write_png(result.picture, args.out)
    except OSError as error:
        raise ImageError(f"{args.out} could not be written: {error.strerror or error}.") from error
    seconds = ", ".join(f"{stage} {value:.1f}" for stage, value in result.seconds.items())
    print(f"{args.out}  seed {result.seed}  seconds: {seconds}")
    return 0


def write_png(picture: Image.Image, path: Path) -> None:
    """Write a PNG without metadata, whole or not at all."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            picture.save(stream, format="PNG")
        temporary.chmod(0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
