"""`python -m catvton_ov evaluate`. SSIM and PSNR need what serving needs; the rest requirements-metrics.txt."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--pred", metavar="DIR", type=Path, required=True, help="the results")
    add("--truth", metavar="DIR", type=Path, required=True, help="the true pictures")
    add("--paired", action="store_true", help="each result has a truth of its name: SSIM, PSNR, LPIPS")
    add("--networks", metavar="DIR", type=Path, help="the two networks' files, for LPIPS, FID and KID")
    add("--report", metavar="FILE.html", type=Path, help="write a page: table, distributions, worst and best pairs")
    add("--json", action="store_true", help="print the figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns 0.

    Raises:
        BatchError: there is nothing to measure with or at, or the report cannot be written.
    """
    from tqdm import tqdm

    from catvton_ov.errors import BatchError
    from catvton_ov.evaluate.report import shown, write_report
    from catvton_ov.evaluate.scores import evaluate
    from catvton_ov.files import check_writable

    if args.report is not None and not args.report.resolve().parent.is_dir():
        raise BatchError(f"The folder of --report does not exist: {args.report.parent}.")
    if args.report is not None:
        try:
            check_writable(args.report)
        except OSError as error:
            raise BatchError(f"--report {args.report} cannot be written: {error.strerror or error}.") from None
    with tqdm(unit="pair", desc="Comparing", disable=None) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        scores = evaluate(args.pred, args.truth, args.paired, args.networks, progress)
    for sentence in scores.left_out:
        print(f"left out: {sentence}", file=sys.stderr)
    figures = {**scores.means, **scores.sets}
    made, true = scores.counts
    if args.json:
        known = {name: value if math.isfinite(value) else None for name, value in figures.items()}
        print(json.dumps({"results": made, "truths": true, "pairs": len(scores.rows), **known}))
    else:
        print(f"{made} results, {true} true pictures, {len(scores.rows)} pairs compared")
        for name, value in figures.items():
            print(f"{name:6}{shown(name, value)}")
    if args.report is not None:
        write_report(args.report, scores, args.pred.resolve(), args.truth.resolve())
    return 0
