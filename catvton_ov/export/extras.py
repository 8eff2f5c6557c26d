"""8-bit weights for the parts around the try-on, wherever they come to the same answers."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.export.quantize import compress, write_model
from catvton_ov.export.safety import compress_matmuls
from catvton_ov.masking.densepose import PARTS as DENSEPOSE
from catvton_ov.masking.densepose import DensePoseParser
from catvton_ov.masking.labels import Labels
from catvton_ov.masking.schp import ATR_KIND, LIP_KIND, SchpKind, SchpParser
from catvton_ov.runtime import Network, Runtime
from catvton_ov.safety import PART as SAFETY
from catvton_ov.safety import open_checker

AGREEMENT = 0.99  # of the pixels' labels that must stay the same
SCORE_CHANGE = 0.005  # of a safety score, a cosine, that may change; its thresholds lie around 0.2

Locate = Callable[[str], Path]  # a part's name -> its .xml


def compress_extras(bundle: Bundle, runtime: Runtime, photos: Sequence[Image.Image], folder: Path) -> dict[str, Any]:
    """Put 8-bit weights into the new bundle at `folder`, a part at a time, where the answers on `photos` stay.

    Returns:
        Part -> what was compared and found; parts that changed too much keep their float weights.
    """
    record: dict[str, Any] = {}
    for names, answers, same in _judgements(bundle, runtime, photos):
        with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
            for name in names:
                model = ov.Core().read_model(bundle.part(name))
                smaller = compress_matmuls(model) if name == SAFETY else compress(model)
                write_model(smaller, Path(temporary) / bundle.manifest.parts[name])
            before = answers(bundle.part)
            found = same(before, answers(lambda name, at=temporary: Path(at) / bundle.manifest.parts[name]))  # type: ignore[misc]
            for name in names:
                record[name] = found
                if found["compressed"]:
                    _move(Path(temporary) / bundle.manifest.parts[name], folder / bundle.manifest.parts[name])
    return record


_Judgement = tuple[Sequence[str], Callable[[Locate], Any], Callable[[Any, Any], dict[str, Any]]]


def _judgements(bundle: Bundle, runtime: Runtime, photos: Sequence[Image.Image]) -> Iterator[_Judgement]:
    """The parts that belong together, what they answer about the photos, and whether two answers are the same."""
    parts = bundle.manifest.parts

    def schp(kind: SchpKind, part: str) -> Callable[[Locate], list[Labels]]:
        def answers(locate: Locate) -> list[Labels]:
            parser = SchpParser(Network(runtime, lambda: locate(part)), kind)
            return [parser(photo) for photo in photos]

        return answers

    def densepose(locate: Locate) -> list[Labels]:
        parser = DensePoseParser(runtime, locate)
        return [parser(photo).label_map() for photo in photos]

    def safety(locate: Locate) -> list[Any]:
        checker = open_checker(bundle, runtime, locate)
        assert checker is not None
        return [checker.scores(photo) for photo in photos]

    for part, kind in (("schp_lip", LIP_KIND), ("schp_atr", ATR_KIND)):
        if part in parts:
            yield (part,), schp(kind, part), _labels_agree
    if DENSEPOSE[0] in parts:
        yield DENSEPOSE, densepose, _labels_agree
    if SAFETY in parts:
        yield (SAFETY,), safety, _scores_agree


def _labels_agree(before: Sequence[Labels], after: Sequence[Labels]) -> dict[str, Any]:
    if not any(labels.any() for labels in before):  # two networks that see nobody agree on everything
        return {"compressed": False, "label_agreement": None}
    agreement = float(np.mean([np.mean(a == b) for a, b in zip(before, after, strict=True)]))
    return {"compressed": agreement >= AGREEMENT, "label_agreement": round(agreement, 5)}


def _scores_agree(before: Sequence[Any], after: Sequence[Any]) -> dict[str, Any]:
    change = max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))
    return {"compressed": change <= SCORE_CHANGE, "largest_score_change": round(change, 5)}


def _move(source: Path, target: Path) -> None:
    for suffix in (".xml", ".bin"):
        source.with_suffix(suffix).replace(target.with_suffix(suffix))
