"""Rough previews: colours from latents by a linear map."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.options import Preview, TryOnOptions, TryOnStep
from catvton_ov.pace import Clock, Pace
from catvton_ov.page.speed import previews
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.preview import RoughDecoder


def test_colours_that_are_linear_in_the_latent_are_found_again() -> None:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((1, 5, 12, 6), dtype=np.float32)
    colours = np.einsum("kc,bcij->bkij", rng.uniform(-0.2, 0.2, (3, 5)), latents).astype(np.float32) + np.float32(0.1)
    pictures = colours.repeat(8, axis=2).repeat(8, axis=3)
    pictures += rng.uniform(-0.01, 0.01, pictures.shape).astype(np.float32)  # what is finer than a cell
    rough = RoughDecoder(pictures, latents)
    assert np.abs(rough(latents) - colours.clip(-1, 1)).max() < 0.01
    assert np.abs(rough(100 * latents)).max() <= 1


def test_a_rough_preview_has_the_colours_of_a_decoded_one_and_changes_nothing_outside_the_mask() -> None:
    pipeline = TryOnPipeline.load("paper_doll")
    examples = pipeline.bundle.folder / "examples"
    names = ("person/Ada.png", "garment/upper-stripes.png", "mask/Ada-upper.png")
    person, garment, mask = (Image.open(examples / name) for name in names)

    def preview(kind: Preview) -> npt.NDArray[np.float32]:
        steps = pipeline.steps(person, garment, mask, TryOnOptions(seed=3), preview_every=10, preview_kind=kind)
        shown = next(item.preview for item in steps if isinstance(item, TryOnStep) and item.preview)
        assert shown.size == person.size
        return np.asarray(shown).astype(np.float32)

    decoded, rough, photo = preview("decoded"), preview("rough"), np.asarray(person.convert("RGB"))
    inside = (np.asarray(mask.convert("L")) >= 128).astype(np.uint8)
    beyond = cv2.dilate(inside, np.ones((41, 41), np.uint8)) == 0  # further out than the soft edge reaches
    assert np.array_equal(rough[beyond], photo[beyond])
    within = inside > 0
    assert np.abs(rough[within].mean(axis=0) - decoded[within].mean(axis=0)).max() < 20
    assert np.abs(rough - decoded)[within].mean() < np.abs(photo - decoded)[within].mean()


def test_the_page_decodes_its_previews_only_where_that_adds_little() -> None:
    options = TryOnOptions(steps=20)
    assert previews(Clock(options)) == (3, "rough")  # nothing is known yet
    assert previews(Clock(options, Pace(full=0.05, shallow=0.01, before=0.1, after=0.01))) == (3, "decoded")
    assert previews(Clock(options, Pace(full=6, shallow=0.6, before=40, after=20))) == (3, "rough")
