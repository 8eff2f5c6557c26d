"""`python -m catvton_ov report`. Needs what serving needs, and no torch."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from catvton_ov.errors import ExportError
from catvton_ov.export.command import parse_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("bundle", metavar="BUNDLE", type=Path, help="the folder of a bundle; report.json and report.md are put into it")
    add("--against", metavar="BUNDLE", type=Path, help="another bundle of the same model: how far are the pictures?")
    add("--kind", choices=("quick", "full"), default="quick", help="time a few passes, or whole pictures")
    add(
        "--size",
        metavar="WxH",
        dest="sizes",
        type=parse_size,
        action="append",
        help="time at; repeatable (default: all)",
    )
    add("--pictures", metavar="DIR", type=Path, help="person/, mask/ and garment/; the bundle's examples if not given")


def run(args: argparse.Namespace) -> int:
    """Measure and print the table; returns 0.

    Raises:
        BundleError: a bundle cannot be used. ExportError: no pictures to compare with, or the report cannot be
            written.
    """
    from catvton_ov.bundle import Bundle
    from catvton_ov.export.calibration import calibration_pictures, split
    from catvton_ov.export.report import calibration_of, make_report, read_report, with_comparison_of, write_report
    from catvton_ov.export.report_table import render

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    bundle = Bundle.open(args.bundle)
    sizes = tuple(map(bundle.manifest.work_size, args.sizes or ()))
    bundles = {bundle.manifest.precision: args.bundle}  # called as its export calls it
    if args.against is not None:
        bundles[f"{args.against.resolve().name} (against)"] = args.against
    plan = calibration_of(bundle.manifest, args.pictures)
    pictures = calibration_pictures(args.bundle, plan, say, what="comparing", option="--pictures").folder
    pairs = split(pictures, plan).held_back
    content = make_report(bundles, args.against and list(bundles)[1], pairs, args.kind, sizes, say)
    if args.against is None:
        content = with_comparison_of(read_report(args.bundle), content)
    try:
        write_report(args.bundle, content)
    except OSError as error:
        raise ExportError(f"The report could not be written: {error}.") from error
    print(render(content))
    return 0
