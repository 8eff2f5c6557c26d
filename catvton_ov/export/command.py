"""`python -m catvton_ov export`. Quick to import: torch and diffusers come in only when it runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from catvton_ov.errors import ExportError, OptionsError
from catvton_ov.export.options import (
    CHECKPOINTS,
    OVERFLOW_FIXES,
    PART_GROUPS,
    PRECISIONS,
    RECIPES,
    REPORTS,
    CalibrationOptions,
    ExportOptions,
    QuantizationOptions,
)
from catvton_ov.options import size_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = "a folder, or a Hub id owner/name[@revision]"
    add = parser.add_argument
    add("--base", metavar="SRC", required=True, help=f"as booksforcharlie/stable-diffusion-inpainting: {source}")
    add("--vae", metavar="SRC", required=True, help=f"as stabilityai/sd-vae-ft-mse: {source}")
    add("--catvton", metavar="SRC", required=True, help=f"as zhengchong/CatVTON: {source}")
    add("--checkpoint", choices=tuple(CHECKPOINTS), required=True, help="which of CatVTON's sets of weights")
    add("--out", metavar="BUNDLE", type=Path, required=True, help="the folder to make")
    add("--precision", choices=PRECISIONS, default="int8", help="of the stored weights (default: int8)")
    add(
        "--size",
        metavar="WxH",
        dest="sizes",
        type=parse_size,
        action="append",
        help="a size in pixels the bundle is for, repeatable, the first is its default (default: the checkpoint's own)",
    )
    add(
        "--parts",
        type=lambda text: tuple(text.split(",")),
        default=PART_GROUPS,
        metavar="A,B",
        help=f"of {','.join(PART_GROUPS)} (default: all)",
    )
    add("--report", choices=REPORTS, default="quick", help="what to measure at the end (default: quick)")
    add("--examples", metavar="DIR", type=Path, help="pictures for the page, laid out as those of --calibration")
    quantization, calibration = QuantizationOptions(), CalibrationOptions()
    add("--recipe", choices=RECIPES, default=quantization.recipe, help="of int8 (default: hybrid)")
    add(
        "--overflow-fix",
        choices=OVERFLOW_FIXES,
        default=quantization.overflow_fix,
        help="keep int8 sums from saturating where a CPU lacks VNNI; auto: only if this one does (default: on)",
    )
    add(
        "--calibration",
        metavar="DIR",
        type=Path,
        help="pictures to calibrate int8 on: person/NAME.png, garment/CATEGORY-NAME.png, and mask/NAME-CATEGORY.png, "
        "without which the parsers make masks",
    )
    add("--calibration-runs", type=int, default=calibration.runs, help=f"try-ons (default: {calibration.runs})")
    add("--calibration-steps", type=int, default=calibration.steps, help=f"of each (default: {calibration.steps})")
    add("--calibration-size", metavar="WxH", dest="calibration_sizes", type=parse_size, action="append", help="of them")


def parse_size(text: str) -> tuple[int, int]:
    """Turn "384x512" into (384, 512)."""
    try:
        return size_of(text)
    except OptionsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    """Export what `add_arguments` parsed; returns 0.

    Raises:
        ExportError: see `export_bundle`; or torch and diffusers are not installed.
    """
    options = ExportOptions(
        base=args.base,
        vae=args.vae,
        catvton=args.catvton,
        checkpoint=args.checkpoint,
        out=args.out,
        precision=args.precision,
        sizes=tuple(args.sizes) if args.sizes else None,
        parts=args.parts,
        examples=args.examples,
        report=args.report,
        quantization=QuantizationOptions(
            recipe=args.recipe,
            overflow_fix=args.overflow_fix,
            calibration=CalibrationOptions(
                folder=args.calibration,
                runs=args.calibration_runs,
                steps=args.calibration_steps,
                sizes=tuple(args.calibration_sizes or ()),
            ),
        ),
    )
    try:
        from catvton_ov.export.build import export_bundle
    except ModuleNotFoundError as error:
        raise ExportError(
            f"Exporting needs {error.name}, which is not installed: pip install -r requirements-export.txt."
        ) from None
    print(export_bundle(options, progress=lambda line: print(line, file=sys.stderr, flush=True)))
    return 0
