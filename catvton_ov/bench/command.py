"""`python -m catvton_ov bench`."""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, replace
from pathlib import Path

from catvton_ov.bench.recipes import MEANING, RECIPES
from catvton_ov.bundle import read_manifest
from catvton_ov.errors import OptionsError
from catvton_ov.export.command import parse_size
from catvton_ov.memory import cache_folder
from catvton_ov.sources import BUNDLED, open_bundle

DEFAULT = "notebook,reference,balanced,fast"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    models = parser.add_mutually_exclusive_group()
    model_help = "folder, paper_doll, or Hub owner/name[@revision]"
    models.add_argument("--model", metavar="SOURCE", default=BUNDLED, help=model_help)
    random_help = "the published networks at full size with random weights; made once, which takes long"
    models.add_argument("--random-weights", action="store_true", help=random_help)
    add("--size", metavar="WxH,...", default=None, help="of the pictures the model works at (default: its smallest)")
    add("--recipes", metavar="A,B", default=DEFAULT, help=f"some of {', '.join(RECIPES)} (default: {DEFAULT})")
    add("--rounds", type=int, default=2, help="turns of each recipe (default: 2)")
    passes_help = "UNet passes to time in each turn, or all; the rest is multiplied (default: 4)"
    add("--passes", type=_passes, default=4, metavar="N|all", help=passes_help)
    add("--threads", type=int, help="CPU threads; OpenVINO's choice if not given")
    add("--precision", choices=("f32", "bf16", "f16"), help="of inference, in every recipe but torch (default: f32)")
    add("--no-operations", action="store_true", help="do not look into where the time of a pass goes")
    add(
        "--work",
        type=Path,
        default=cache_folder() / "bench",
        metavar="DIR",
        help="keeps what has to be made (default: %(default)s)",
    )
    add("--json", action="store_true", help="print JSON rather than a table")


def run(args: argparse.Namespace) -> int:
    """Measure and print; returns 0, also where a recipe could not run: that is a result.

    Raises:
        OptionsError: an unknown recipe or size. BundleError: the model cannot be used. ExportError: what has to be
            made for a recipe cannot be.
    """
    from catvton_ov.bench.bench import BenchOptions, render, run_bench
    from catvton_ov.machine import this_machine

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    recipes = tuple(args.recipes.split(","))
    options = BenchOptions(
        recipes=recipes,
        sizes=_sizes(args.size),
        rounds=args.rounds,
        passes=args.passes,
        operations=not args.no_operations,
        threads=args.threads,
        precision=args.precision,
    )
    with redirect_stdout(sys.stderr):  # NNCF's tables are no result
        bundles = _bundles(args, recipes, say)
    manifest = read_manifest(bundles[recipes[0]])
    options = replace(options, sizes=tuple(map(manifest.work_size, options.sizes or (min(manifest.sizes),))))
    rows = run_bench({name: str(folder) for name, folder in bundles.items()}, options, say)
    what = "full-size random weights" if args.random_weights else args.model
    date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    if args.json:
        content = {
            "date": date,
            "model": what,
            "machine": asdict(this_machine()),
            "rows": [asdict(row) for row in rows],
        }
        print(json.dumps(content, indent=2))
    else:
        print(f"{what}, {date}, {this_machine()}\n")
        print("\n".join(f"- {name}: {MEANING[name]}" for name in recipes), end="\n\n")
        print("\n".join(render(rows)))
    return 0


def _bundles(args: argparse.Namespace, recipes: Sequence[str], say: Callable[[str], None]) -> dict[str, Path]:
    """Recipe -> its bundle, made where it has to be."""
    if args.random_weights or any(name.startswith("notebook") for name in recipes):
        try:
            from catvton_ov.export.yardstick import random_bundles, yardsticks
        except ModuleNotFoundError as error:
            raise OptionsError(
                f"The notebook's recipe and random weights have to be made first, for which {error.name} is missing: "
                "pip install -r requirements-export.txt, or choose --recipes reference,balanced,fast of a model."
            ) from None
        if args.random_weights:
            return random_bundles(args.work, recipes, say)
        opened = open_bundle(args.model)
        return dict.fromkeys(recipes, opened.folder) | yardsticks(opened, args.work, recipes, say)
    return dict.fromkeys(recipes, open_bundle(args.model).folder)


def _sizes(text: str | None) -> tuple[tuple[int, int], ...]:
    try:
        return tuple(parse_size(size) for size in text.split(",")) if text else ()
    except argparse.ArgumentTypeError as error:
        raise OptionsError(str(error)) from error


def _passes(text: str) -> int | None:
    if text == "all":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, or all; got {text!r}")
    return int(text)
