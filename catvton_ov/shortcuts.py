"""Which passes through the UNet a picture takes, and how much of it each goes through."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from catvton_ov.errors import OptionsError

Keys = Literal["all", "person-thinned", "thinned"]
KEYS: tuple[Keys, ...] = ("all", "person-thinned", "thinned")
Branch = Literal["unconditional", "conditional"]


@dataclass(frozen=True)
class Shortcuts:
    """What is left out; the default is nothing. See graph.py for how."""

    cache_every: int = 1  # full passes every so many steps, shallow ones between; 1: all are full
    full_steps: tuple[int, ...] = ()  # further steps, counted from 0, whose passes are full
    keys: Keys = "all"  # of the first level's attention: all, the person's thinned, or the garment's too
    guided: tuple[float, float] = (0.0, 1.0)  # the share of the steps, from noisy to clean, that guidance covers

    def __post_init__(self) -> None:
        """Raises OptionsError for a value it does not know."""
        if type(self.cache_every) is not int or self.cache_every < 1:
            raise OptionsError(f"cache_every must be a whole number from 1; got {self.cache_every!r}.")
        if not isinstance(self.full_steps, tuple) or not all(
            type(step) is int and step >= 0 for step in self.full_steps
        ):
            raise OptionsError(f"full_steps must be whole numbers from 0; got {self.full_steps!r}.")
        if self.keys not in KEYS:
            raise OptionsError(f"Unknown keys {self.keys!r}; expected one of {', '.join(KEYS)}.")
        if not _are_numbers(self.guided) or len(self.guided) != 2 or not 0 <= self.guided[0] <= self.guided[1] <= 1:
            raise OptionsError(f"guided must be two shares of the steps, as in (0, 0.6); got {self.guided!r}.")

    @property
    def caches(self) -> bool:
        """Whether some passes are shallow."""
        return self.cache_every > 1


def _are_numbers(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, int | float) for each in value)


class Pass(NamedTuple):
    """One run of the UNet."""

    branch: Branch
    full: bool  # or shallow, from what the last full pass of this branch left


def plan_passes(steps: int, guidance_scale: float, shortcuts: Shortcuts) -> Sequence[tuple[Pass, ...]]:
    """The passes of every step, from noisy to clean; where there are two, the unconditional one is first.

    Guidance in a limited interval: arXiv 2404.07724. A branch's first pass is full whatever the step.
    """
    first, last = (round(share * steps) for share in shortcuts.guided)
    seen: set[Branch] = set()
    plan = []
    for step in range(steps):
        guided = guidance_scale > 1 and first <= step < last
        branches: tuple[Branch, ...] = ("unconditional", "conditional") if guided else ("conditional",)
        refresh = step % shortcuts.cache_every == 0 or step in shortcuts.full_steps
        plan.append(tuple(Pass(branch, refresh or branch not in seen) for branch in branches))
        seen.update(branches)
    return plan
