"""What to try on, as a table: one row a try-on.

person,garment,mask,category,seed
people/ada.jpg,tops/a.jpg,masks/ada.png,,7
people/ada.jpg,tops/b.jpg,,upper,7
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from catvton_ov.errors import BatchError, OptionsError
from catvton_ov.options import GARMENT_CATEGORIES, MaskAdjustment, TryOnOptions
from catvton_ov.presets import preset

FILES = ("person", "garment", "mask")
OPTIONS = tuple(field.name for field in dataclasses.fields(TryOnOptions) if field.name != "shortcuts")  # as text
CHANGES = tuple(field.name for field in dataclasses.fields(MaskAdjustment))
COLUMNS = (*FILES, "category", "name", "preset", *OPTIONS, *CHANGES)

Adapters = Mapping[str, TypeAdapter[Any]]  # by column: from a cell's text to a value
Options = TypeVar("Options", TryOnOptions, MaskAdjustment)


@dataclass(frozen=True)
class Row:
    """A try-on to make."""

    where: str  # "line 7": where it stands, for people
    name: str  # of the result below the folder of results, without .png; "/" for folders
    person: Path
    garment: Path
    mask: Path | None  # None: the clothes of `category` are found on the photo
    category: str
    options: TryOnOptions  # the seed is given
    adjustment: MaskAdjustment = MaskAdjustment()  # of the mask that is found


@dataclass(frozen=True)
class Refused:
    """A try-on that cannot be made."""

    where: str
    reason: str


@dataclass(frozen=True)
class Defaults:
    """What rows are made with that do not say otherwise."""

    preset: str = "balanced"
    given: Mapping[str, Any] = field(default_factory=dict)  # fields of TryOnOptions, instead of the preset's
    category: str = "upper"
    adjustment: MaskAdjustment = MaskAdjustment()

    def options(self, preset_name: str | None = None) -> TryOnOptions:
        """Those of a preset, or of this one, with what is given; the seed is 0 if it is not.

        Raises:
            OptionsError: an unknown preset, or a value no model can use.
        """
        return preset(preset_name or self.preset, **{"seed": 0, **self.given})


def read_pairs(table: Path, defaults: Defaults) -> list[Row | Refused]:
    """The rows of a CSV file, in its order.

    The first line names the columns: `person` and `garment` (files, relative to the table's folder), and any of
    COLUMNS, `size` as 384x512. An empty cell means the default. Commas, semicolons or tabs; UTF-8.

    Raises:
        BatchError: no such table, or columns that are missing, unknown or named twice. (A bad row is Refused, not
            raised.)
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BatchError(f"The table {table} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise BatchError(f"The table {table} is not text in UTF-8; save it as CSV UTF-8.") from None
    first = text.partition("\n")[0]
    lines = _Lines(text, max(",;\t", key=first.count))
    columns = _columns(lines, table.name)
    return list(_rows(lines, columns, table.parent, defaults))


class _Lines:
    """The cells of one row after the other, and where each stands; a quoted cell may span lines."""

    def __init__(self, text: str, delimiter: str) -> None:
        # Strict: a quotation mark that is never closed would swallow the rows after it without a word.
        self._reader = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
        )

    def __iter__(self) -> Iterator[tuple[str, list[str] | csv.Error]]:
        while True:
            first = self._reader.line_num + 1
            cells: list[str] | csv.Error | None
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                cells = error
            if cells is None:
                return
            last = self._reader.line_num
            yield f"line {first}" if first == last else f"lines {first} to {last}", cells


def _columns(lines: _Lines, name: str) -> list[str]:
    _, cells = next(iter(lines), ("", []))
    if isinstance(cells, csv.Error):
        raise BatchError(f"The first line of {name} cannot be read: {cells}.")
    columns = [cell.strip() for cell in cells]
    while columns and not columns[-1]:  # as spreadsheets may write them
        columns.pop()
    for column in columns:
        if column not in COLUMNS:
            raise BatchError(f"{name} has an unknown column {column!r}; known are {', '.join(COLUMNS)}.")
        if columns.count(column) > 1:
            raise BatchError(f"{name} has the column {column!r} twice.")
    for column in ("person", "garment"):
        if column not in columns:
            raise BatchError(f"{name} has no column {column!r}. Its first line must name the columns.")
    return columns


def _rows(lines: _Lines, columns: list[str], folder: Path, defaults: Defaults) -> Iterator[Row | Refused]:
    hints = {**get_type_hints(TryOnOptions), **get_type_hints(MaskAdjustment)}
    adapters = {name: TypeAdapter(hints[name]) for name in (*OPTIONS, *CHANGES)}
    for where, cells in lines:
        if isinstance(cells, csv.Error):
            yield Refused(where, f"it cannot be read ({cells}); a quotation mark is missing, or one too many.")
            continue
        if any(cell.strip() for cell in cells[len(columns) :]):
            yield Refused(where, "it has more cells than the first line names columns.")
            continue
        filled = {name: cell.strip() for name, cell in zip(columns, cells, strict=False) if cell.strip()}
        if not filled:
            continue
        try:
            yield _row(where, filled, folder, defaults, adapters)
        except (OptionsError, BatchError) as error:
            yield Refused(where, str(error))


def _row(where: str, cells: Mapping[str, str], folder: Path, defaults: Defaults, adapters: Adapters) -> Row:
    for name in ("person", "garment"):
        if name not in cells:
            raise BatchError(f"the {name} is missing.")
    for name in FILES:
        if "\0" in cells.get(name, ""):
            raise BatchError(f"{cells[name]!r} cannot be the name of a file.")
    category = cells.get("category", defaults.category)
    if category not in GARMENT_CATEGORIES:
        raise BatchError(f"unknown category {category!r}; expected one of {', '.join(GARMENT_CATEGORIES)}.")
    changes = [name for name in CHANGES if name in cells]
    if changes and "mask" in cells:
        raise BatchError(f"{changes[0]} changes a mask that is found, and this row gives one: leave one of them out.")
    person, garment = folder / cells["person"], folder / cells["garment"]
    return Row(
        where=where,
        name=check_name(cells.get("name", f"{person.stem}_{garment.stem}")),
        person=person,
        garment=garment,
        mask=folder / cells["mask"] if "mask" in cells else None,
        category=category,
        options=_changed(defaults.options(cells.get("preset")), cells, adapters),
        adjustment=_changed(defaults.adjustment, cells, adapters),
    )


def _changed(options: Options, cells: Mapping[str, str], adapters: Adapters) -> Options:
    """`options` with the fields that `cells` hold as text; raises OptionsError for what cannot be used."""
    given: dict[str, Any] = {}
    for name in dataclasses.asdict(options).keys() & cells.keys():
        text = cells[name]
        value = text.lower().split("x") if name == "size" else text
        try:
            given[name] = adapters[name].validate_python(value)
        except ValidationError:
            raise OptionsError(f"{text!r} is not a value for {name}.") from None
    return dataclasses.replace(options, **given)


def check_name(name: str) -> str:
    """`name` without .png; raises BatchError unless it names a file below a folder."""
    name = name.removesuffix(".png")
    *folders, _ = parts = name.split("/")
    for part in parts:
        if (
            not part
            or part.startswith(".")
            or len(part.encode()) > 200  # bytes: file systems count those, and 255 is their most
            or not part.isprintable()
            or set(part) & set('\\:*?"<>|')
        ):
            raise BatchError(f"{name!r} cannot be the name of a result; give another one in the column `name`.")
    if any(part.lower().endswith(".png") for part in folders):
        raise BatchError(f"{name!r} would lie in a folder that is called like a picture; give another name.")
    return name
