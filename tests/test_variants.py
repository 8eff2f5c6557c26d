"""Several pictures in one press: what they share is computed once, and none differs from one made alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from catvton_ov.options import TryOnStep
from catvton_ov.pace import Clock, Pace
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import editor_value, photo_and_mask
from catvton_ov.page.engine import Engine
from catvton_ov.page.tryon import TryOn
from catvton_ov.pictures.reader import OwnProcess
from catvton_ov.pictures.reading import open_picture
from catvton_ov.presets import preset
from tests.serving import ROOT

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"


class Counted:
    def __init__(self, thing: Any) -> None:
        self.thing = thing
        self.calls = 0

    def __call__(self, **inputs: Any) -> Any:
        self.calls += 1
        return self.thing(**inputs)


def test_variants_share_the_encoding_and_are_the_pictures_of_single_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(["paper_doll"])
    pipeline, trying = engine.pipeline("paper_doll", "CPU"), TryOn(engine, OwnProcess(), Bounds(), False, str(tmp_path))
    editor = editor_value(open_picture(EXAMPLES / "person/Ada.png"), Image.open(EXAMPLES / "mask/Ada-upper.png"))
    garment = EXAMPLES / "garment/upper-stripes.png"
    last = 2**32 - 1  # the seed after it is 0

    encoder = Counted(pipeline.vae_encoder)
    monkeypatch.setattr(pipeline, "vae_encoder", encoder)
    inputs = (
        editor,
        None,
        0,
        "upper",
        False,
        "paper_doll",
        "CPU",
        str(garment),
        False,
        3,
        "fast",
        None,
        3,
        2.5,
        "ddim",
    )
    told: list[float] = []  # what is left after each step

    def step(item: TryOnStep, variant: int, variants: int, left: float) -> str:
        told.append(left)
        return ""

    monkeypatch.setattr(words, "step", step)
    monkeypatch.setattr(Clock, "step", lambda clock, seconds: 3.0)  # of this variant
    monkeypatch.setattr(Clock, "so_far", lambda clock, before=0.0: Pace(0.0, 0.0, 10.0, 0.0))  # a whole one
    *_, done = trying.press(*inputs, last, False, True, 0, 0, 0, 0, 0)
    assert encoder.calls == 2, "person and garment, once each"

    assert told == 3 * [23.0] + 3 * [13.0] + 3 * [3.0], "those still to come are left, too"

    pictures = [picture for picture, _ in done.variants["value"]]
    photo, mask = photo_and_mask(editor)
    flat = open_picture(garment)
    options = preset("fast", steps=3, guidance_scale=2.5, sampler="ddim")
    for seed, picture in zip((last, 0, 1), pictures, strict=True):
        alone = pipeline(photo, flat, mask, replace(options, seed=seed)).picture
        assert np.array_equal(np.asarray(picture), np.asarray(alone)), seed
