"""The contact sheet: what a bundle does, as the app does it."""

import itertools
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
from tools.paper_doll import checkpoint
from tools.paper_doll.data import scene_of
from tools.paper_doll.trials import EVALUATION_SEED, Trials, draw_trials

COLUMNS = ("person", "garment", "masked", "result")
ROWS = {"upper": 4, "overall": 2, "lower": 2}
FIRST_SEED = EVALUATION_SEED + 2000
MARGIN = 24  # pixels, for the words above a column
GAP = 16  # pixels, between the halves


def make_sheet(bundle: Path, path: Path, threads: int | None = None) -> None:
    """16 results with fixed seeds; on the left in their own garments, on the right in those of others."""
    pipeline = TryOnPipeline.load(bundle, threads=threads)
    seeds = [seed for category, count in ROWS.items() for seed in _seeds(category, count)]
    halves = []
    for title, swapped in (("own garment", False), ("another garment", True)):
        trials = draw_trials(seeds, swapped)
        results = [_try_on(pipeline, trials, number) for number in range(len(seeds))]
        halves.append(_half(trials, results, title))
    height, width = halves[0].shape[:2]
    sheet = Image.new("RGB", (2 * width + GAP, height), "white")
    for number, half in enumerate(halves):
        sheet.paste(Image.fromarray(half), (number * (width + GAP), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True)
    checkpoint.say(f"{path}: {sheet.width}x{sheet.height}, {path.stat().st_size / 1e3:.0f} kB")


def _seeds(category: str, count: int) -> list[int]:
    """The first scenes of a category."""
    fitting = (seed for seed in itertools.count(FIRST_SEED) if scene_of(seed).category == category)
    return list(itertools.islice(fitting, count))


def _try_on(pipeline: TryOnPipeline, trials: Trials, number: int) -> np.ndarray:
    pictures = (trials.persons[number], trials.garments[number], trials.masks[number])
    options = TryOnOptions(steps=20, guidance_scale=2.5, sampler="ddim", seed=number)
    return np.asarray(pipeline(*map(Image.fromarray, pictures), options).picture)


def _half(trials: Trials, results: list[np.ndarray], title: str) -> np.ndarray:
    rows = zip(trials.persons, trials.garments, trials.masked, results, strict=True)
    pictures = np.vstack([np.hstack(row) for row in rows])
    words = Image.new("RGB", (pictures.shape[1], MARGIN), "white")
    for number, column in enumerate(COLUMNS):
        text = f"{title}: {column}" if number == 0 else column
        ImageDraw.Draw(words).text((number * pictures.shape[1] // len(COLUMNS) + 4, 6), text, fill="black")
    return np.vstack([np.asarray(words), pictures])
