"""`python -m catvton_ov batch`. Quick to import: OpenVINO comes in only when it runs."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from catvton_ov.batch.datasets import DATASETS, PAIRINGS, read_dataset
from catvton_ov.batch.pairs import CHANGES, OPTIONS, Defaults, Refused, Row, read_pairs
from catvton_ov.errors import BatchError, OptionsError
from catvton_ov.export.command import parse_size
from catvton_ov.options import FRAMINGS, GARMENT_CATEGORIES, MaskAdjustment, TryOnOptions, check_options
from catvton_ov.presets import PRESETS
from catvton_ov.samplers import SAMPLERS, SPACINGS
from catvton_ov.sources import default_source

if TYPE_CHECKING:
    from catvton_ov.batch.plan import Setting
    from catvton_ov.batch.run import Engine
    from catvton_ov.bundle import Manifest

INCOMPLETE = 3  # exit code: the run is through, and some rows were skipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    defaults, usual = TryOnOptions(), Defaults()
    model = default_source()
    what = parser.add_argument_group("what to try on").add_mutually_exclusive_group(required=True)
    what.add_argument("--pairs", metavar="FILE.csv", type=Path, help="columns person, garment, mask or category, ...")
    what.add_argument("--dataset", nargs=2, metavar=("|".join(DATASETS), "ROOT"), help="a published data set's folder")
    add = parser.add_argument
    add("--pairing", choices=PAIRINGS, default="unpaired", help="of the data set's lists: paired has a ground truth")
    add("--out", metavar="DIR", type=Path, required=True, help="where the results are; start again to go on")
    add("--replace", action="store_true", help="make results anew that were made with something else")
    add("--json", action="store_true", help="tell every event as a line of JSON on standard output")
    add("--model", metavar="SOURCE", default=model, help="folder, paper_doll, or Hub owner/name[@revision]")
    add = parser.add_argument_group("options of rows that do not say otherwise").add_argument
    # Not what suits this machine: the same command must make the same pictures on another one.
    add("--preset", choices=tuple(PRESETS), default=usual.preset, help="between quality and time")
    add("--steps", type=int, help="denoising steps; this and the next four: the preset's if not given")
    add("--guidance-scale", type=float, help="how closely to follow the garment")
    add("--sampler", choices=SAMPLERS, help="dpmpp_2m is made for few steps")
    add("--eta", type=float, help="ddim: noise drawn at every step, 0 to 1")
    add("--spacing", choices=SPACINGS, help="of the timesteps")
    add("--seed", type=int, default=0, help="0 to 4294967295")
    add("--size", type=parse_size, metavar="WxH", help="the model works at; the bundle's first if not given")
    add("--framing", choices=FRAMINGS, default=defaults.framing, help="the part of the photo the model sees")
    add(
        "--repaint",
        action=argparse.BooleanOptionalAction,
        default=defaults.repaint,
        help="keep the photo's own pixels around the mask (metrics differ by it)",
    )
    add("--blur", type=int, metavar="PIXELS", help="softness of the mask's edge; the bundle's if not given")
    add = parser.add_argument_group("masks that are found, in rows that do not say otherwise").add_argument
    add("--category", choices=GARMENT_CATEGORIES, default=usual.category, help="of the garment")
    for name in CHANGES:
        add(f"--{name}", type=float, default=0.0, metavar="PERCENT", help="change the mask, in %% of the body's height")
    add = parser.add_argument_group("where it runs").add_argument
    add("--engine", choices=("local", "ray"), default="local", help="ray needs requirements-ray.txt")
    add("--address", metavar="HOST:PORT", help="of a Ray cluster; Ray is started on this machine if not given")
    add("--workers", type=int, help="on Ray; as many as there are cores for if not given")
    add("--device", default="CPU", help="what OpenVINO lists")
    add("--threads", type=int, help="CPU threads of a worker, part of what a result is made with; all cores")


def run(args: argparse.Namespace) -> int:
    """Make what is not made yet; returns 0, or INCOMPLETE when rows were skipped.

    Raises:
        BatchError: the table, the data set or the folder of results cannot be used.
        OptionsError, BundleError: the options or the bundle cannot.
    """
    from catvton_ov.batch.ledger import Ledger
    from catvton_ov.batch.plan import make_tasks
    from catvton_ov.batch.run import Kept, outstanding, run
    from catvton_ov.batch.worker import setting_of
    from catvton_ov.machine import this_machine
    from catvton_ov.masking.parsers import has_parser
    from catvton_ov.sources import open_bundle

    if args.engine != "ray" and (args.address is not None or args.workers is not None):
        raise OptionsError("--address and --workers are for --engine ray.")
    defaults = _defaults(args)
    usual = defaults.options()  # what no row could be made with is told once
    rows = _rows(args, defaults)
    bundle = open_bundle(args.model)
    check_options(bundle.manifest, usual)
    setting = setting_of(bundle, args.device, this_machine().cores if args.threads is None else args.threads)
    voice = _Voice(args.json)
    voice.say(f"{bundle.manifest.name}: {bundle.manifest.notice}")
    tasks, refused = make_tasks(_usable(rows, bundle.manifest), setting, has_parser(bundle))
    with Ledger(args.out) as ledger:
        todo, foreign = outstanding(tasks, ledger, args.replace)
        skipped = [*refused, *foreign]
        done = len(tasks) - len(todo) - len(foreign)
        for fault in skipped:
            voice.skipped(fault)
        with voice.progress(len(todo), done):
            for event in run(todo, ledger, _engine(args, setting)) if todo else ():
                if isinstance(event, Kept):
                    voice.made(f"{event.task.row.name}.png", event.seconds)
                else:
                    skipped.append(event)
                    voice.skipped(event)
    voice.summary(done, len(skipped), args.out)
    return INCOMPLETE if skipped else 0


def _defaults(args: argparse.Namespace) -> Defaults:
    given = {name: value for name in OPTIONS if (value := getattr(args, name)) is not None}
    adjustment = MaskAdjustment(**{name: getattr(args, name) for name in CHANGES})
    return Defaults(args.preset, given, args.category, adjustment)


def _rows(args: argparse.Namespace, defaults: Defaults) -> Iterable[Row | Refused]:
    if args.pairs is not None:
        return read_pairs(args.pairs, defaults)
    dataset, root = args.dataset
    if dataset not in DATASETS:
        raise BatchError(f"Unknown data set {dataset!r}; known are {', '.join(DATASETS)}.")
    return read_dataset(dataset, Path(root), args.pairing, defaults)


def _usable(rows: Iterable[Row | Refused], manifest: Manifest) -> Iterator[Row | Refused]:
    """The rows, those refused whose options this model cannot use."""
    for row in rows:
        try:
            if isinstance(row, Row):
                check_options(manifest, row.options)
        except OptionsError as error:
            yield Refused(row.where, str(error))
        else:
            yield row


def _engine(args: argparse.Namespace, setting: Setting) -> Engine:
    from catvton_ov.batch.run import on_this_machine
    from catvton_ov.batch.worker import Worker

    if args.engine == "ray":
        from catvton_ov.batch.on_ray import Cluster, on_ray

        return on_ray(args.model, setting, Cluster(args.address, args.workers))
    return on_this_machine(Worker(args.model, setting))


class _Voice:
    """What the run tells: a bar and sentences on standard error, or lines of JSON on standard output."""

    def __init__(self, as_json: bool) -> None:
        self._json = as_json
        self._out = sys.stdout  # wherever an engine sends what it has to say
        self._made = self._left = 0
        self._start = time.monotonic()
        self._bar: tqdm[None] | None = None

    def say(self, line: str) -> None:
        if not self._json:
            print(line, file=sys.stderr, flush=True)

    def progress(self, todo: int, done: int) -> tqdm[None]:
        self._left = todo
        self._start = time.monotonic()
        self._bar = tqdm(
            total=todo + done,
            initial=done,
            unit="picture",
            desc="Trying on",
            disable=self._json,
            mininterval=0.1 if sys.stderr.isatty() else 60,  # a log of a night is to stay readable
        )
        self._tell(event="start", todo=todo, done_before=done)
        return self._bar

    def made(self, name: str, seconds: float) -> None:
        self._made += 1
        self._left -= 1
        if self._bar is not None:
            self._bar.update()
        rate = self._made / (time.monotonic() - self._start)
        self._tell(
            event="made",
            file=name,
            seconds=round(seconds, 3),
            pictures_per_hour=round(3600 * rate, 1),
            seconds_left=round(self._left / rate),
        )

    def skipped(self, fault: Refused) -> None:
        self._left -= 1
        if self._bar is not None:
            self._bar.total -= 1
        if not self._json:
            tqdm.write(f"skipped {fault.where}: {fault.reason}", file=sys.stderr)
        self._tell(event="skipped", where=fault.where, reason=fault.reason)

    def summary(self, done: int, skipped: int, folder: Path) -> None:
        seconds = time.monotonic() - self._start
        rate = 3600 * self._made / seconds if self._made else 0.0
        self._tell(
            event="summary", made=self._made, done_before=done, skipped=skipped, seconds=round(seconds, 1),
            pictures_per_hour=round(rate, 1),
        )  # fmt: skip
        if not self._json:
            speed = f" in {seconds:.0f} s ({rate:.0f} an hour)" if self._made else ""
            print(f"{folder}: {self._made} made{speed}, {done} done before, {skipped} skipped")

    def _tell(self, **event: Any) -> None:
        if self._json:
            print(json.dumps(event), file=self._out, flush=True)
