"""The published try-on data sets, in the layouts their authors and CatVTON's use.

    VITON-HD                              DressCode
    ├── test_pairs_unpaired.txt           ├── upper_body | lower_body | dresses
    └── test                              │   ├── test_pairs_paired.txt
        ├── image/00006_00.jpg            │   ├── test_pairs_unpaired.txt
        ├── cloth/00006_00.jpg            │   ├── images/013563_0.jpg, 013563_1.jpg
        └── agnostic-mask/00006_00_mask.png   └── agnostic_masks/013563_0.png

A line of a list is a person and a garment. VITON-HD's paired list is the unpaired one with each person's own garment
(as CatVTON's inference.py has it). Names are matched without regard to capitals, and to the kind of picture.
Without any folder of masks, they are found; where only some are missing, those lines are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catvton_ov.batch.pairs import Defaults, Refused, Row, check_name
from catvton_ov.errors import BatchError

Dataset = Literal["vitonhd", "dresscode"]
Pairing = Literal["paired", "unpaired"]
DATASETS: tuple[Dataset, ...] = ("vitonhd", "dresscode")
PAIRINGS: tuple[Pairing, ...] = ("paired", "unpaired")
_CATEGORIES = {"upper_body": "upper", "lower_body": "lower", "dresses": "overall"}
_PICTURES = (".jpg", ".jpeg", ".png", ".webp")


def read_dataset(dataset: Dataset, root: Path, pairing: Pairing, defaults: Defaults) -> list[Row | Refused]:
    """The try-ons of a data set's test, in the order of its lists.

    Results are named after the person, DressCode's below a folder for each category.

    Raises:
        BatchError: the folder is not in the data set's layout.
    """
    if dataset == "vitonhd":
        test = _folder(root, "test")
        persons, garments = _Pictures(_folder(test, "image")), _Pictures(_folder(test, "cloth"))
        part = _Part(persons, garments, _Pictures.of(test, "agnostic-mask"), "_mask", "", "upper")
        return list(_rows(_file(root, "test_pairs_unpaired.txt"), root, part, pairing == "paired", defaults))
    rows: list[Row | Refused] = []
    present = [name for name in _CATEGORIES if _find(root, name) is not None]
    if not present:
        raise BatchError(f"{root} is not DressCode: it has none of the folders {', '.join(_CATEGORIES)}.")
    for name in present:
        folder = _folder(root, name)
        pictures = _Pictures(_folder(folder, "images"))
        part = _Part(pictures, pictures, _Pictures.of(folder, "agnostic_masks"), "", f"{name}/", _CATEGORIES[name])
        rows += _rows(_file(folder, f"test_pairs_{pairing}.txt"), root, part, False, defaults)
    return rows


class _Pictures:
    """The pictures of a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _PICTURES and path.is_file()]
        self._exact = {path.name: path for path in found}
        self._stems: dict[str, list[Path]] = {}
        for path in found:
            self._stems.setdefault(path.stem.casefold(), []).append(path)

    @classmethod
    def of(cls, folder: Path, name: str) -> _Pictures | None:
        found = _find(folder, name)
        return None if found is None else cls(found)

    def find(self, name: str) -> Path:
        """By exact name, else by its stem in any capitals; raises BatchError when there is none, or several."""
        if name in self._exact:
            return self._exact[name]
        found = self._stems.get(Path(name).stem.casefold(), [])
        if len(found) != 1:
            what = "there is no picture" if not found else "there are several pictures"
            raise BatchError(f"{what} {name} in {self.folder}.")
        return found[0]


@dataclass(frozen=True)
class _Part:
    """The folders that one list speaks of."""

    persons: _Pictures
    garments: _Pictures
    masks: _Pictures | None
    mask_suffix: str  # of a mask's stem
    prefix: str  # of the results' names
    category: str


def _rows(list_file: Path, root: Path, part: _Part, own: bool, defaults: Defaults) -> Iterator[Row | Refused]:
    """Args: own: whether each person wears their own garment again."""
    options = defaults.options()
    try:
        text = list_file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BatchError(f"{list_file} cannot be read: {error}.") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        where = f"{list_file.relative_to(root).as_posix()}, line {number}"
        try:
            person_name, garment_name = _names(line)
            person = part.persons.find(person_name)
            garment = part.garments.find(person_name if own else garment_name)
            mask = None
            if part.masks is not None:
                mask = part.masks.find(f"{Path(person_name).stem}{part.mask_suffix}.png")
            name = check_name(part.prefix + person.stem)
            yield Row(where, name, person, garment, mask, part.category, options, defaults.adjustment)
        except BatchError as error:
            yield Refused(where, str(error))


def _names(line: str) -> tuple[str, str]:
    """Two names, at blanks; a third column (DressCode's own lists have one, the category) is not needed."""
    words = line.split()
    if len(words) not in (2, 3) or (len(words) == 3 and Path(words[2]).suffix):
        raise BatchError(f"expected the names of a person and a garment, got {line.strip()!r}.")
    return words[0], words[1]


def _find(folder: Path, name: str, kind: Callable[[Path], bool] = Path.is_dir) -> Path | None:
    """What is called `name` in a folder, in these capitals if possible, else in any."""
    if kind(folder / name):
        return folder / name
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name.casefold() == name.casefold() and kind(path):
                return path
    return None


def _folder(parent: Path, name: str) -> Path:
    return _required(parent, name, Path.is_dir)


def _file(parent: Path, name: str) -> Path:
    return _required(parent, name, Path.is_file)


def _required(parent: Path, name: str, kind: Callable[[Path], bool]) -> Path:
    found = _find(parent, name, kind)
    if found is None:
        raise BatchError(f"{parent} is not in the layout of the data set: it has no {name}.")
    return found
