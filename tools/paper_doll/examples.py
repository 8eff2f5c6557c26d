"""The bundle's example pictures: scenes never trained on, chosen for variety."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from tools.paper_doll.data import UNSEEN, mask_of, scene_of
from tools.paper_doll.figures import draw
from tools.paper_doll.scene import CATEGORIES

SIZE = (384, 512)  # twice the model's
FIRST_SEED = UNSEEN + 300_000

# name -> scene, counted from FIRST_SEED
PERSONS: Mapping[str, int] = {
    "Ada": 5, "Ben": 80, "Ivy": 14, "Leo": 13, "Mia": 10, "Noa": 3, "Sam": 46, "Zola": 2,
}  # fmt: skip
GARMENTS: Mapping[str, int] = {
    "upper-blocks": 38,
    "upper-checks": 61,
    "upper-dots": 139,
    "upper-heart": 158,
    "upper-plain": 18,
    "upper-stripes": 19,
    "overall-blocks": 91,
    "overall-dots": 138,
    "overall-stripes": 155,
    "lower-checks": 333,
    "lower-plain": 22,
    "lower-stripes": 200,
}


def draw_examples(folder: Path) -> None:
    """Write `person/`, `mask/` and `garment/` below `folder`; see catvton_ov/page/examples.py for the names."""
    for kind in ("person", "mask", "garment"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for name, number in PERSONS.items():
        figure = draw(scene_of(FIRST_SEED + number), SIZE)
        _write(figure.person, folder / "person" / f"{name}.png")
        for category in CATEGORIES:
            _write(mask_of(figure, category), folder / "mask" / f"{name}-{category}.png")
    for name, number in GARMENTS.items():
        scene = scene_of(FIRST_SEED + number)
        if scene.category != name.split("-")[0]:
            raise ValueError(f"scene {number} shows no garment for {name}: it is of category {scene.category}")
        _write(draw(scene, SIZE).garment, folder / "garment" / f"{name}.png")


def _write(picture: np.ndarray, path: Path) -> None:
    Image.fromarray(picture).save(path, optimize=True)
