"""A bundle's example pictures, by file name.

examples/person/NAME.png            a person
examples/mask/NAME-CATEGORY.png     what to repaint on that person for a garment of the category
examples/garment/CATEGORY-NAME.png  a garment of the category
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from catvton_ov.bundle import Bundle
from catvton_ov.files import write_whole
from catvton_ov.page.editor import EditorValue, editor_value
from catvton_ov.pictures.reader import PictureReader


class Examples:
    """The examples of one bundle; empty where it brings none.

    Gradio shows files of its own folder alone, and a bundle may lie anywhere: in the Hub's cache, or where only the
    page's user may read. So what is shown are copies.
    """

    def __init__(self, bundle: Bundle, categories: Sequence[str], reader: PictureReader, folder: Path) -> None:
        """
        Args:
            folder: of the page's pictures, where copies are put.
        """
        self._bundle = bundle
        self._categories = categories
        self._reader = reader
        self._folder = folder
        self.persons: list[Path] = bundle.examples("person")
        self.garments: list[Path] = sorted(bundle.examples("garment"), key=self._rank)

    def copy(self, path: Path) -> str:
        """The path of an example's copy, which may be shown.

        Raises:
            BundleError: the example is not what the manifest says. OSError: the copy cannot be written.
        """
        name = path.relative_to(self._bundle.folder).as_posix()
        copy = self._folder / "examples" / self._bundle.manifest.files[name].sha256 / path.name
        try:
            os.utime(copy)  # it is in use: what is swept is what was written long ago
        except FileNotFoundError:
            copy.parent.mkdir(parents=True, exist_ok=True)
            write_whole(copy, self._bundle.read(name))
        return str(copy)

    def person(self, name: str, category: str) -> EditorValue:
        """The editor's value for a person (the stem of the file), the category's mask painted on if there is one.

        Raises what `copy` raises.
        """
        masks = {path.stem: path for path in self._bundle.examples("mask")}
        mask = masks.get(f"{name}-{category}")
        painted = None if mask is None else self._reader.read(mask, "mask", "mask of the example")
        return editor_value(self.copy(self._path(name)), painted)

    def shows(self, name: str, editor: EditorValue | None) -> bool:
        """Whether the photo in the editor is the example person `name`."""
        photo = (editor or {}).get("background")
        if photo is None or name not in {path.stem for path in self.persons}:
            return False
        example = self._reader.read(self._path(name), "photo", "example")
        return photo.size == example.size and bool(np.array_equal(np.asarray(photo), np.asarray(example)))

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
