"""Recipes side by side: rounds in which each takes its turn, in a process of its own."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from catvton_ov.bench.notebook import NOTEBOOK
from catvton_ov.bench.recipes import RECIPES, YARDSTICKS
from catvton_ov.errors import DeviceError, OptionsError
from catvton_ov.measure import Engine, Measurement, Work, measure
from catvton_ov.pictures.reading import Size
from catvton_ov.presets import PRESETS
from catvton_ov.runtime import Precision


@dataclass(frozen=True)
class BenchOptions:
    recipes: tuple[str, ...] = ("notebook", *PRESETS)
    sizes: tuple[Size, ...] = ((384, 512),)  # (width, height)
    rounds: int = 2  # how often each recipe takes its turn
    passes: int | None = 4  # UNet passes to time in each turn, the rest is multiplied; None: all of them
    operations: bool = True  # one more turn each, to say which operations take the time
    threads: int | None = None
    precision: Precision | None = None  # of inference, in every recipe but torch; None is f32

    def __post_init__(self) -> None:
        """Raises OptionsError for an unknown recipe, or no rounds."""
        for recipe in self.recipes:
            if recipe not in RECIPES:
                raise OptionsError(f"Unknown recipe {recipe!r}; expected some of {', '.join(RECIPES)}.")
        for name in ("rounds", "passes", "threads"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise OptionsError(f"{name} must be at least 1; got {value}.")


@dataclass(frozen=True)
class Row:
    """One recipe at one size; seconds unless said otherwise. Medians over rounds, `None` where it could not run."""

    recipe: str
    size: Size
    seconds_per_picture: float | None = None  # encoding, every pass, decoding; compiling is apart
    seconds_per_picture_range: tuple[float, float] | None = None  # the quickest and the slowest round
    seconds_per_unet_pass: float | None = None  # of a full one; of batch 2 where guidance is done so
    seconds_per_unet_pass_range: tuple[float, float] | None = None  # the quickest and the slowest of all rounds
    seconds_per_shallow_pass: float | None = None
    passes: tuple[int, int] | None = None  # of a picture: full and shallow
    peak_rss_bytes: int | None = None  # of the whole process, the highest of the rounds
    estimated: bool | None = None  # whether pictures were multiplied up from fewer passes
    times_notebook: float | None = None  # how many pictures in the notebook's time for one
    load: float | None = None  # opening the bundle
    compile: float | None = None
    first_pass: float | None = None  # which is slower and not counted
    encode: float | None = None  # both pictures
    decode: float | None = None
    vae_range: tuple[float, float] | None = None  # of both together, the quickest and the slowest round
    operations: Mapping[str, float] | None = None  # operation type -> its share of a full pass
    against: str | None = None  # whose time is the notebook's: notebook-fp16 where that could not run
    error: str | None = None  # why it could not run


def work_of(recipe: str, bundle: str, size: Size, options: BenchOptions) -> Work:
    """What a turn of a recipe does."""
    if recipe in YARDSTICKS:
        engine: Engine = "torch" if recipe == "torch" else "notebook"
        return Work(
            bundle, size, NOTEBOOK, engine, options.passes, threads=options.threads, precision=options.precision
        )
    preset = next(preset for name, preset in PRESETS.items() if name == recipe)
    return Work(bundle, size, preset, passes=options.passes, threads=options.threads, precision=options.precision)


def run_bench(bundles: Mapping[str, str], options: BenchOptions, say: Callable[[str], None]) -> list[Row]:
    """Measure every recipe at every size.

    Args:
        bundles: recipe -> the bundle it runs.
        say: called with a line for people before every turn.
    """
    rows = []
    for size in options.sizes:
        turns = {recipe: work_of(recipe, bundles[recipe], size, options) for recipe in options.recipes}
        found: dict[str, list[Measurement]] = {recipe: [] for recipe in turns}
        faults: dict[str, str] = {}
        for number in range(options.rounds):
            for recipe, work in turns.items():
                if recipe in faults:
                    continue
                say(f"{size[0]}x{size[1]}, round {number + 1} of {options.rounds}: {recipe}")
                try:
                    found[recipe].append(measure(work))
                except DeviceError as error:
                    faults[recipe] = str(error)
        shares = {recipe: _operations(turns[recipe]) for recipe in turns if options.operations and recipe not in faults}
        against = next((name for name in ("notebook", "notebook-fp16") if found.get(name) and name not in faults), None)
        for recipe in turns:
            if recipe in faults:
                rows.append(Row(recipe, size, error=faults[recipe]))
            else:
                rows.append(_row(recipe, size, found, against, shares.get(recipe)))
    return rows


def _operations(work: Work) -> Mapping[str, float] | None:
    """Operation type -> its share of a full pass, those below 1 % left out."""
    try:
        seconds = measure(Work(**{**vars(work), "passes": 1, "operations": True})).operations
    except DeviceError:
        return None
    whole = sum(seconds.values())
    shares = {name: value / whole for name, value in seconds.items() if value >= 0.01 * whole}
    return dict(sorted(shares.items(), key=lambda share: -share[1])) or None


def _row(
    recipe: str,
    size: Size,
    every: Mapping[str, Sequence[Measurement]],
    against: str | None,
    operations: Mapping[str, float] | None,
) -> Row:
    found = every[recipe]

    def middle(value: Callable[[Measurement], float]) -> float:
        return statistics.median(map(value, found))

    pictures = [each.picture for each in found]
    vae = [each.encode + each.decode for each in found]
    # Round by round: turns that were neighbours in time are compared with each other.
    ratios = [theirs.picture / ours.picture for theirs, ours in zip(every.get(against or "", ()), found, strict=False)]
    return Row(
        recipe=recipe,
        size=size,
        seconds_per_picture=statistics.median(pictures),
        seconds_per_picture_range=(min(pictures), max(pictures)),
        seconds_per_unet_pass=middle(lambda each: each.unet_pass[1]),
        seconds_per_unet_pass_range=(
            min(each.unet_pass[0] for each in found),
            max(each.unet_pass[2] for each in found),
        ),
        seconds_per_shallow_pass=None if found[0].shallow_pass is None else middle(lambda each: each.shallow_pass or 0),
        passes=found[0].passes,
        peak_rss_bytes=max(each.peak_rss_bytes for each in found),
        estimated=any(each.estimated for each in found),
        times_notebook=statistics.median(ratios) if ratios else None,
        against=against,
        load=middle(lambda each: each.load),
        compile=middle(lambda each: each.compile),
        first_pass=middle(lambda each: each.first_pass),
        encode=middle(lambda each: each.encode),
        decode=middle(lambda each: each.decode),
        vae_range=(min(vae), max(vae)),
        operations=operations,
    )


def render(rows: Sequence[Row]) -> Iterator[str]:
    """Lines of Markdown: the table, where the time goes, and what could not run."""
    head = ("recipe", "size", "s a picture", "range", "× notebook", "passes", "s a pass", "shallow", "VAE", "load",
            "compile", "first pass", "peak RSS")  # fmt: skip
    yield "| " + " | ".join(head) + " |"
    yield "|---|---|" + "---:|" * (len(head) - 2)
    for row in rows:
        yield "| " + " | ".join(_cells(row)) + " |"
    if any(row.estimated for row in rows):
        yield ""
        yield "≈: multiplied up from fewer passes than a picture takes."
    for size in dict.fromkeys(row.size for row in rows if row.against == "notebook-fp16"):
        yield ""
        yield f"At {size[0]}x{size[1]} the notebook's time is that of notebook-fp16."
    for row in rows:
        if row.operations:
            shares = ", ".join(f"{name} {share:.0%}" for name, share in row.operations.items())
            yield ""
            yield f"{row.recipe} at {_size(row)}, a full pass: {shares}."
        if row.error:
            yield ""
            yield f"{row.recipe} at {_size(row)} could not run: {row.error}"


def _cells(row: Row) -> tuple[Any, ...]:
    if row.seconds_per_picture is None or row.seconds_per_picture_range is None or row.passes is None:
        return row.recipe, _size(row), "could not run", *[""] * 10
    low, high = row.seconds_per_picture_range
    return (
        row.recipe,
        _size(row),
        f"{'≈ ' if row.estimated else ''}{row.seconds_per_picture:.3g}",
        f"{low:.3g} to {high:.3g}",
        "" if row.times_notebook is None else f"{row.times_notebook:.2f}",
        f"{row.passes[0]} + {row.passes[1]}" if row.passes[1] else f"{row.passes[0]}",
        _with_range(row.seconds_per_unet_pass, row.seconds_per_unet_pass_range),
        "" if row.seconds_per_shallow_pass is None else f"{row.seconds_per_shallow_pass:.3g}",
        _with_range((row.encode or 0) + (row.decode or 0), row.vae_range),
        f"{row.load:.2g}",
        f"{row.compile:.3g}",
        f"{row.first_pass:.3g}",
        f"{(row.peak_rss_bytes or 0) / 1e9:.2f} GB",
    )


def _with_range(value: float | None, extent: tuple[float, float] | None) -> str:
    return f"{value:.3g}" if extent is None else f"{value:.3g} ({extent[0]:.3g} to {extent[1]:.3g})"


def _size(row: Row) -> str:
    return f"{row.size[0]}x{row.size[1]}"
