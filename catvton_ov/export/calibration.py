"""What quantization learns ranges from, and a report judges by: real denoising runs of the unquantized model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.errors import ExportError, TryOnError
from catvton_ov.export.options import CalibrationOptions
from catvton_ov.images import Frame, blur_mask, fit_garment
from catvton_ov.masking import CATEGORIES
from catvton_ov.pictures.reading import Size, as_mask, open_picture, read_photo
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.samplers import make_sampler
from catvton_ov.sources import bundled_folder

Array = npt.NDArray[np.float32]
Sample = dict[str, npt.NDArray[Any]]  # the UNet's inputs by name
KINDS = ("person", "garment", "mask")  # folders of pictures, see find_pairs
PICTURES = (".jpg", ".jpeg", ".png", ".webp")


@dataclass(frozen=True)
class Pair:
    """A try-on to run, in files."""

    person: Path
    garment: Path
    mask: Path
    category: str


class Pictures(NamedTuple):
    """Where pictures are, laid out as `find_pairs` says, and where they came from."""

    folder: Path
    origin: str  # in words, without a path of this machine


def calibration_pictures(
    bundle: Path,
    options: CalibrationOptions,
    say: Callable[[str], None],
    because: str = "",
    what: str = "calibrating",
    option: str = "--calibration",
) -> Pictures:
    """The pictures of the folder named, the bundle's own examples, else this repository's figures, said so.

    Args:
        because: a sentence on why there is nothing better than the figures, for the warning.
        what: is done with them, for the warning; so is `option`, which names a folder.
    """
    if options.folder is not None:
        return Pictures(options.folder, options.origin or "a folder that was named")
    if pictures_in(bundle / "examples" / "mask"):
        return Pictures(bundle / "examples", "the bundle's examples")
    say(
        f"Warning: {what} on this repository's drawn figures; for photos, name a folder of photos ({option})"
        + (f". {because}" if because else "")
    )
    return Pictures(bundled_folder() / "examples", "the drawn figures of CatVTON OpenVINO")


class Split(NamedTuple):
    """What ranges are learned from, and what is kept for the report; the same only where there is a single pair."""

    used: list[Pair]
    held_back: list[Pair]


def split(folder: Path, options: CalibrationOptions) -> Split:
    """The pairs of a folder: one for each run, or fewer, so that some are left; raises what `find_pairs` raises."""
    pairs = find_pairs(folder, options.seed)
    used = max(1, min(options.runs, len(pairs) - options.held_back))
    return Split(pairs[:used], pairs[used:][: options.held_back] or pairs)


def find_pairs(folder: Path, seed: int) -> list[Pair]:
    """Every person once with every category there is a mask for, with a garment of that category.

    Args:
        folder: holds person/NAME.*, mask/NAME-CATEGORY.* and garment/CATEGORY-NAME.*, as a bundle's examples/ do.
        seed: decides the order and who gets which garment.

    Returns:
        Pairs in an order in which the categories take turns.

    Raises:
        ExportError: no pair can be made; the message tells the layout.
    """
    persons = {path.stem: path for path in pictures_in(folder / "person")}
    garments = pictures_in(folder / "garment")
    rng = np.random.default_rng(seed)
    by_category: list[list[Pair]] = []
    for category in CATEGORIES:
        fitting = [path for path in garments if path.stem.split("-")[0] == category]
        masks = [path for path in pictures_in(folder / "mask") if path.stem.endswith(f"-{category}")]
        pairs = [
            Pair(persons[name], fitting[rng.integers(len(fitting))], path, category)
            for path in masks
            if fitting and (name := path.stem.removesuffix(f"-{category}")) in persons
        ]
        by_category.append([pairs[index] for index in rng.permutation(len(pairs))])
    turns = max(map(len, by_category))
    found = [pairs[turn] for turn in range(turns) for pairs in by_category if turn < len(pairs)]
    if not found:
        raise ExportError(
            f"No calibration pictures in {folder}: expected person/NAME.png, mask/NAME-CATEGORY.png and "
            f"garment/CATEGORY-NAME.png, CATEGORY being one of {', '.join(CATEGORIES)}."
        )
    return found


def calibration_sizes(options: CalibrationOptions, pipeline: TryOnPipeline) -> tuple[Size, ...]:
    """The sizes (width, height) of the runs."""
    if options.sizes:
        return options.sizes
    manifest = pipeline.bundle.manifest
    smallest = min(manifest.sizes)
    unit = math.lcm(manifest.size_multiple, 64)  # so that every level of the UNet halves evenly
    smaller = tuple(max(unit, side * 3 // 4 // unit * unit) for side in smallest)
    return smallest, (smaller[0], smaller[1])


def collect(pipeline: TryOnPipeline, pairs: Sequence[Pair], options: CalibrationOptions) -> Iterator[Sample]:
    """Run the model on pairs in turn and yield inputs its UNet saw: one of every pass of every step.

    The guided runs give passes with and without the garment; runs differ in category, size, sampler and noise, and
    each visits timesteps over the whole schedule.
    """
    sizes = calibration_sizes(options, pipeline)
    guided = guidance_of(pairs[run % len(pairs)].category for run in range(options.runs))
    for run in range(options.runs):
        pair = pairs[run % len(pairs)]
        person, garment, mask = model_pictures(pipeline, pair, sizes[(run + run // len(sizes)) % len(sizes)])
        rng = np.random.default_rng((options.seed, run))
        sampler = ("ddim", "dpmpp_2m")[run // 3 % 2]
        seen: list[Array] = []
        pipeline.generate(
            person, garment, mask,
            steps=options.steps,
            guidance_scale=options.guidance_scale if guided[run] else 1.0,
            sampler=sampler,
            eta=1.0 if sampler == "ddim" else 0.0,
            noise=lambda shape, rng=rng: rng.standard_normal(shape, dtype=np.float32),  # type: ignore[misc]
            on_step=lambda unet_input, noise_pred, latents, seen=seen: seen.append(unet_input),  # type: ignore[misc]
        )  # fmt: skip
        timesteps = make_sampler(sampler, pipeline.bundle.manifest.schedule, options.steps, 1.0, None).timesteps
        for timestep, inputs in zip(timesteps, seen, strict=True):
            for one in inputs:
                yield {"sample": one[None], "timestep": np.array([timestep], dtype=np.int64)}


def guidance_of(categories: Iterable[str]) -> list[bool]:
    """Whether each of some runs is guided: every second one of a category; with which it begins differs, too."""
    before: Counter[str] = Counter()
    guided = []
    for category in categories:
        guided.append((before[category] + list(CATEGORIES).index(category)) % 2 == 0)
        before[category] += 1
    return guided


def model_pictures(pipeline: TryOnPipeline, pair: Pair, size: Size) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Person, garment and soft mask at the model's `size`, as `TryOnPipeline.generate` takes them.

    Raises:
        ExportError: a picture cannot be used, naming it.
    """
    try:
        person = read_photo(pair.person, "person")
        mask = as_mask(open_picture(pair.mask, "mask"), person.size)
        frame = Frame.of("whole", mask, size)
        garment = fit_garment(read_photo(pair.garment, "garment"), size)
        soft = blur_mask(frame.cut_mask(mask), pipeline.bundle.manifest.mask_blur)
        return frame.cut(person), garment, soft
    except TryOnError as error:
        raise ExportError(f"{pair.person.name} with {pair.mask.name} and {pair.garment.name}: {error}") from error


def pictures_in(folder: Path) -> list[Path]:
    """The picture files right in a folder, by name."""
    return sorted(path for path in folder.glob("*") if path.suffix.lower() in PICTURES)
