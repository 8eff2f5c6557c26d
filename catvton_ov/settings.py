"""The settings of a try-on, without its pictures: as a file beside a result, and as the query of a link.

The same pictures (and the same mask, where it was painted by hand) with the same settings give the same result.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

from pydantic import ConfigDict, TypeAdapter, ValidationError

from catvton_ov.errors import OptionsError
from catvton_ov.options import GARMENT_CATEGORIES, MaskAdjustment, TryOnOptions

MOST_BYTES = 100_000  # of a file with settings


@dataclass(frozen=True)
class TryOnSettings:
    """What reproduces a result, given its pictures."""

    __pydantic_config__ = ConfigDict(extra="forbid")  # a misspelt setting is told, not passed over

    category: str = "upper"
    options: TryOnOptions = field(default_factory=TryOnOptions)
    adjustment: MaskAdjustment = field(default_factory=MaskAdjustment)  # of the auto-mask
    painted: bool = False  # whether the mask was painted or corrected by hand, so that it has to be given again
    model: str = ""  # the bundle's name, for people
    person_number: int = 1  # of several persons on the photo, whose clothes: the largest is the first
    worn: bool = False  # whether the garment is cut out of a photo of somebody who wears it

    def __post_init__(self) -> None:
        """Raises OptionsError for an unknown category, or a person before the first."""
        if self.person_number < 1:
            raise OptionsError(f"Persons are counted from 1, the largest; got {self.person_number}.")
        if self.category not in GARMENT_CATEGORIES:
            expected = ", ".join(GARMENT_CATEGORIES)
            raise OptionsError(f"Unknown category {self.category!r}; expected one of {expected}.")

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> TryOnSettings:
        """Parse and check; raises OptionsError with the setting that is wrong."""
        if len(text) > MOST_BYTES:
            raise OptionsError("This is no file with the settings of a try-on: it is too large.")
        try:
            settings: TryOnSettings = TypeAdapter(cls).validate_json(text.removeprefix(codecs.BOM_UTF8))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"]) or "the file"
            raise OptionsError(f"These settings cannot be used: {where}: {first['msg']}.") from None
        return settings

    def to_query(self) -> str:
        """What differs from the defaults, as the query of a link: `category=upper&steps=30&seed=7`."""
        values: dict[str, Any] = {"category": self.category}
        values |= {name: value for name in _OWN if (value := getattr(self, name)) != getattr(TryOnSettings, name)}
        for part in (self.options, self.adjustment):
            usual = asdict(type(part)())
            values |= {name: value for name, value in asdict(part).items() if value != usual[name]}
        return urlencode(
            {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}
        )

    @classmethod
    def from_query(cls, query: Mapping[str, str]) -> TryOnSettings | None:
        """The settings in a link's query; None if it holds none. What is no setting is passed over.

        Raises OptionsError with the setting that is wrong.
        """
        found: dict[str, Any] = {}
        for name, owner in _PLACES.items():
            if name in query:
                value = query[name] if name in ("category", "model") else _value(query[name])
                (found if owner is None else found.setdefault(owner, {}))[name] = value
        return cls.from_json(json.dumps(found).encode()) if found else None


def _value(text: str) -> Any:
    """A number, a list or null as JSON writes it; anything else is text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


_OWN = ("person_number", "worn")  # of the settings themselves, beside the category
_PLACES: dict[str, str | None] = {
    **dict.fromkeys(("category", *_OWN)),
    **{item.name: "options" for item in fields(TryOnOptions)},
    **{item.name: "adjustment" for item in fields(MaskAdjustment)},
}
