"""The command line: `python -m catvton_ov try-on | mask | batch | evaluate | export | report | publish | bench`."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from catvton_ov import try_on_command
from catvton_ov.batch import command as batch
from catvton_ov.bench import command as bench
from catvton_ov.errors import TryOnError
from catvton_ov.evaluate import command as evaluate
from catvton_ov.export import command as export
from catvton_ov.export import publish_command as publish
from catvton_ov.export import report_command as report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 1 for what the error tree or the system says, 130 when interrupted."""
    args = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except TryOnError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read what is printed has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"error: {where}{error.strerror or error}.", file=sys.stderr)
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
    try_on_command.add_try_on_arguments(try_on)
    try_on.set_defaults(run=try_on_command.run_try_on)

    masking = commands.add_parser(
        "mask", help="find the clothes on a photo", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    try_on_command.add_mask_arguments(masking)
    masking.set_defaults(run=try_on_command.run_mask)

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
