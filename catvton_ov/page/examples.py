"""A bundle's example pictures, by file name.

examples/person/NAME.png            a person
examples/mask/NAME-CATEGORY.png     what to repaint on that person for a garment of the category
examples/garment/CATEGORY-NAME.png  a garment of the category
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.images import open_picture
from catvton_ov.page.editor import EditorValue, editor_value


class Examples:
    """The examples of one bundle; empty where it brings none."""

    def __init__(self, bundle: Bundle, categories: Sequence[str]) -> None:
        self._bundle = bundle
        self._categories = categories
        self.persons: list[Path] = bundle.examples("person")
        self.garments: list[Path] = sorted(bundle.examples("garment"), key=self._rank)

    def person(self, name: str, category: str) -> EditorValue:
        """The editor's value for a person (the stem of the file), the category's mask painted on if there is one."""
        masks = {path.stem: path for path in self._bundle.examples("mask")}
        mask = masks.get(f"{name}-{category}")
        return editor_value(str(self._path(name)), None if mask is None else _open(mask))

    def shows(self, name: str, editor: EditorValue | None) -> bool:
        """Whether the photo in the editor is the example person `name`."""
        photo = (editor or {}).get("background")
        if photo is None or name not in {path.stem for path in self.persons}:
            return False
        example = _open(self._path(name)).convert("RGB")
        return photo.size == example.size and bool(
            np.array_equal(np.asarray(photo.convert("RGB")), np.asarray(example))
        )

    def _path(self, name: str) -> Path:
        return next(path for path in self.persons if path.stem == name)

    def _rank(self, garment: Path) -> int:
        """Garments are shown category by category, in the order of the categories; others come last."""
        category = self.category(garment)
        return len(self._categories) if category is None else self._categories.index(category)

    def category(self, garment: Path) -> str | None:
        """The category in a garment's file name."""
        prefix = garment.stem.split("-")[0]
        return prefix if prefix in self._categories else None


def _open(path: Path) -> Image.Image:
    return open_picture(path, "example")
