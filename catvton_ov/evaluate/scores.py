"""All measures of a folder of results against a folder of truths."""

from __future__ import annotations

import importlib.util
import math
import statistics
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from catvton_ov.errors import BatchError, ImageError
from catvton_ov.evaluate.matching import Match, at_height, match, open_match, open_rgb, pictures_in
from catvton_ov.metrics import psnr, ssim

if TYPE_CHECKING:
    from catvton_ov.evaluate.networks import Lpips


@dataclass(frozen=True)
class Row:
    """A result beside its truth."""

    pair: Match
    values: dict[str, float]  # "SSIM", "PSNR" (dB; infinite for equal pictures) and, with its network, "LPIPS"


@dataclass
class Scores:
    rows: list[Row] = field(default_factory=list)
    sets: dict[str, float] = field(default_factory=dict)  # "FID" and "KID" of all pictures
    counts: tuple[int, int] = (0, 0)  # of the pictures in both folders
    left_out: list[str] = field(default_factory=list)  # sentences about what could not be measured

    @property
    def means(self) -> dict[str, float]:
        """The means over all rows; PSNR's over those that differ from their truth."""
        names = self.rows[0].values if self.rows else {}
        means = {}
        for name in names:
            finite = [row.values[name] for row in self.rows if math.isfinite(row.values[name])]
            means[name] = statistics.fmean(finite) if finite else math.inf
        return means


def evaluate(
    results: Path, truths: Path, paired: bool, networks: Path | None, progress: Callable[[int, int], None]
) -> Scores:
    """Measure.

    Args:
        results: the folder of results.
        truths: the folder of true pictures. FID and KID take all of them.
        paired: whether each result has a truth: SSIM, PSNR and LPIPS.
        networks: the folder with the networks' files; None leaves out what needs them.
        progress: told how many pairs of how many are done.

    Raises:
        BatchError: there is nothing to measure; or a network's file, or what runs it, is missing or damaged.
    """
    scores = Scores()
    result_files, truth_files = pictures_in(results), pictures_in(truths)
    scores.counts = (len(result_files), len(truth_files))
    if not paired and networks is None:
        raise BatchError("Without --paired there are FID and KID only, which need --networks.")
    if networks is not None:
        _require_torch()
    if paired:
        lpips = None if networks is None else _lpips(networks)
        matches, unmatched = match(result_files, truth_files)
        scores.left_out += unmatched
        for number, pair in enumerate(matches, start=1):
            try:
                scores.rows.append(_row(pair, lpips))
            except ImageError as error:
                scores.left_out.append(str(error))
            progress(number, len(matches))
        if not scores.rows:
            raise BatchError(f"No result could be compared; the first: {scores.left_out[0]}")
    if networks is not None:
        _measure_sets(scores, result_files, truth_files, networks)
    return scores


def _row(pair: Match, lpips: Lpips | None) -> Row:
    result, truth = open_match(pair)
    a, b = np.asarray(result), np.asarray(truth)
    values = {"SSIM": ssim(a, b), "PSNR": psnr(a, b)}
    if lpips is not None:
        values["LPIPS"] = lpips(result, truth)
    return Row(pair, values)


def _measure_sets(scores: Scores, results: list[Path], truths: list[Path], networks: Path) -> None:
    from catvton_ov.evaluate.networks import INCEPTION_FILE, Inception, fid_and_kid

    inception = Inception(_network(networks, INCEPTION_FILE))
    height = open_rgb(results[0]).height
    shown = (at_height(picture, height) for picture in _readable(truths, scores))
    true = inception(shown)
    made = inception(_readable(results, scores))
    if min(len(true), len(made)) < 2:
        scores.left_out.append("FID and KID need two pictures at least in both folders.")
        return
    scores.sets["FID"], scores.sets["KID"] = fid_and_kid(made, true)


def _readable(files: Iterable[Path], scores: Scores) -> Iterator[Image.Image]:
    for file in files:
        try:
            yield open_rgb(file)
        except ImageError as error:
            if str(error) not in scores.left_out:
                scores.left_out.append(str(error))


def _lpips(networks: Path) -> Lpips:
    from catvton_ov.evaluate.networks import LPIPS_FILE, Lpips

    return Lpips(_network(networks, LPIPS_FILE))


def _network(folder: Path, name: str) -> Path:
    from catvton_ov.evaluate.networks import NETWORKS

    if not (folder / name).is_file():
        raise BatchError(f"{folder} has no {name}. Download it from {NETWORKS[name]} into that folder.")
    return folder / name


def _require_torch() -> None:
    for module in ("torch", "torchmetrics"):
        if importlib.util.find_spec(module) is None:
            raise BatchError(f"LPIPS, FID and KID need {module}: pip install -r requirements-metrics.txt.")
