"""What the results on the page were made with. It lies in the browser, which brings it back after a reload."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter, ValidationError

from catvton_ov.errors import OptionsError
from catvton_ov.page import words
from catvton_ov.settings import TryOnSettings


@dataclass(frozen=True)
class Shown:
    settings: tuple[TryOnSettings, ...]  # of every result
    chosen: int  # which of them is shown large

    def __post_init__(self) -> None:
        """Raises OptionsError where there is no such result."""
        if not 0 <= self.chosen < len(self.settings):
            raise OptionsError(words.UNREADABLE)

    @classmethod
    def of(cls, value: Any) -> Shown:
        """Read what a browser sends; raises OptionsError for what `value` cannot have given."""
        try:
            shown: Shown = TypeAdapter(cls).validate_python(value)
        except ValidationError:
            raise OptionsError(words.UNREADABLE) from None
        return shown

    @property
    def current(self) -> TryOnSettings:
        return self.settings[self.chosen]

    def value(self) -> dict[str, Any]:
        """For the browser."""
        return asdict(self)
