"""A bundle's example pictures, by file name.

examples/person/NAME.png            a person
examples/mask/NAME-CATEGORY.png     what to repaint on that person for a garment of the category
examples/garment/CATEGORY-NAME.png  a garment of the category
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from catvton_ov.bundle import Bundle
from catvton_ov.errors import OptionsError
from catvton_ov.files import write_whole
from catvton_ov.marking import to_png
from catvton_ov.page import words
from catvton_ov.page.editor import EditorValue, mask_layer
from catvton_ov.page.private_folder import EXAMPLES
from catvton_ov.pictures.reader import PictureReader

LAYER = "mask.png"


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
        name = self._name(path)
        return self._kept(self._bundle.manifest.files[name].sha256, path.name, lambda: self._bundle.read(name))

    def person(self, name: str, category: str) -> EditorValue:
        """The editor's value for a person (the stem of the file), the category's mask painted on if there is one.

        Raises what `copy` raises.
        """
        masks = {path.stem: path for path in self._bundle.examples("mask")}
        mask = masks.get(f"{name}-{category}")
        photo = self.copy(self._path(name))
        layers = []
        if mask is not None:
            record = self._bundle.manifest.files[self._name(mask)]
            layers.append(self._kept(record.sha256, LAYER, lambda: self._layer(mask)))
        return {"background": photo, "layers": layers, "composite": None}

    def shows(self, name: str, editor: EditorValue | None) -> bool:
        """Whether the photo in the editor is the example person `name`."""
        photo = (editor or {}).get("background")
        if photo is None or name not in {path.stem for path in self.persons}:
            return False
        example = self._reader.read(Path(self.copy(self._path(name))), "photo", "example")
        return photo.size == example.size and bool(np.array_equal(np.asarray(photo), np.asarray(example)))

    def _layer(self, mask: Path) -> bytes:
        """What the editor shows of a mask, as PNG."""
        painted = self._reader.read(self._bundle.read(self._name(mask)), "mask", "mask of the example")
        return to_png(mask_layer(painted))

    def _kept(self, digest: str, name: str, content: Callable[[], bytes]) -> str:
        """The path of a file in the page's folder, which is written once, and whole: visitors share it."""
        path = self._folder / EXAMPLES / digest / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content())
        return str(path)

    def _name(self, path: Path) -> str:
        return path.relative_to(self._bundle.folder).as_posix()

    def _path(self, name: str) -> Path:
        path = next((path for path in self.persons if path.stem == name), None)
        if path is None:
            raise OptionsError(words.NO_EXAMPLE)
        return path

    def _rank(self, garment: Path) -> int:
        """Garments are shown category by category, in the order of the categories; others come last."""
        category = self.category(garment)
        return len(self._categories) if category is None else self._categories.index(category)

    def category(self, garment: Path) -> str | None:
        """The category in a garment's file name."""
        prefix = garment.stem.split("-")[0]
        return prefix if prefix in self._categories else None
