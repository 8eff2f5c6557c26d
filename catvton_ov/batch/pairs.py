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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from catvton_ov.errors import BatchError, OptionsError
from catvton_ov.options import GARMENT_CATEGORIES, TryOnOptions

FILES = ("person", "garment", "mask")
COLUMNS = (*FILES, "category", "name", *(field.name for field in dataclasses.fields(TryOnOptions)))


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


@dataclass(frozen=True)
class Refused:
    """A try-on that cannot be made."""

    where: str
    reason: str


def read_pairs(table: Path, defaults: TryOnOptions, category: str) -> list[Row | Refused]:
    """The rows of a CSV file, in its order.

    The first line names the columns: `person` and `garment` (files, relative to the table's folder), and any of
    `mask`, `category`, `name`, and the fields of `TryOnOptions`, `size` as 384x512. An empty cell means the default.
    Commas, semicolons or tabs; UTF-8.

    Args:
        defaults: of the options; with a seed.
        category: of garments without mask and category.

    Raises:
        BatchError: no such table, or columns that are missing or unknown. (A bad row is Refused, not raised.)
    """
    try:
        text = table.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BatchError(f"The table {table} cannot be read: {error.strerror or error}.") from error
    except UnicodeDecodeError:
        raise BatchError(f"The table {table} is not text in UTF-8; save it as CSV UTF-8.") from None
    first = text.partition("\n")[0]
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count), skipinitialspace=True
    )
    columns = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = columns
    for name in columns:
        if name not in COLUMNS:
            raise BatchError(f"{table.name} has an unknown column {name!r}; known are {', '.join(COLUMNS)}.")
    for name in ("person", "garment"):
        if name not in columns:
            raise BatchError(f"{table.name} has no column {name!r}. Its first line must name the columns.")
    return list(_rows(reader, table.parent, defaults, category))


def _rows(reader: csv.DictReader[str], folder: Path, defaults: TryOnOptions, category: str) -> Iterator[Row | Refused]:
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Refused(f"line {reader.line_num}", f"it cannot be read: {error}.")
            continue
        if cells is None:
            return
        where = f"line {reader.line_num}"
        if None in cells:
            yield Refused(where, "it has more cells than the first line names columns.")
            continue
        filled = {name: cell.strip() for name, cell in cells.items() if cell and cell.strip()}
        if not filled:
            continue
        try:
            yield _row(where, filled, folder, defaults, category)
        except (OptionsError, BatchError) as error:
            yield Refused(where, str(error))


def _row(where: str, cells: Mapping[str, str], folder: Path, defaults: TryOnOptions, category: str) -> Row:
    for name in ("person", "garment"):
        if name not in cells:
            raise BatchError(f"the {name} is missing.")
    category = cells.get("category", category)
    if category not in GARMENT_CATEGORIES:
        raise BatchError(f"unknown category {category!r}; expected one of {', '.join(GARMENT_CATEGORIES)}.")
    person, garment = folder / cells["person"], folder / cells["garment"]
    return Row(
        where=where,
        name=check_name(cells.get("name", f"{person.stem}_{garment.stem}")),
        person=person,
        garment=garment,
        mask=folder / cells["mask"] if "mask" in cells else None,
        category=category,
        options=parse_options(cells, defaults),
    )


def parse_options(cells: Mapping[str, str], defaults: TryOnOptions) -> TryOnOptions:
    """`defaults` with the options that `cells` hold as text; raises OptionsError for what cannot be used."""
    types = get_type_hints(TryOnOptions)
    given: dict[str, Any] = {}
    for name in types.keys() & cells.keys():
        text = cells[name]
        value = text.lower().split("x") if name == "size" else text
        try:
            given[name] = TypeAdapter(types[name]).validate_python(value)
        except ValidationError:
            raise OptionsError(f"{text!r} is not a value for {name}.") from None
    return dataclasses.replace(defaults, **given)


def check_name(name: str) -> str:
    """`name` without .png; raises BatchError unless it names a file below a folder."""
    name = name.removesuffix(".png")
    for part in name.split("/"):
        if (
            not part
            or part.startswith(".")
            or len(part) > 200
            or not part.isprintable()
            or set(part) & set('\\:*?"<>|')
        ):
            raise BatchError(f"{name!r} cannot be the name of a result; give another one in the column `name`.")
    return name
