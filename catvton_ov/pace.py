"""How long a picture will take on this machine, and how long it still takes while it is made."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from catvton_ov.bundle import Manifest
from catvton_ov.machine import cores
from catvton_ov.memory import Memory
from catvton_ov.options import TryOnOptions
from catvton_ov.pictures.reading import Size
from catvton_ov.shortcuts import Pass, plan_passes

SHALLOW = 0.15  # of a full pass, until this machine has shown its own; 0.1 to 0.2 was measured
BEFORE_STAGES = ("prepare", "encode")  # of TryOnResult.seconds
AFTER_STAGES = ("decode", "paste", "check")  # the last is the page's: its safety checker


@dataclass(frozen=True)
class Pace:
    """Seconds."""

    full: float  # a full pass
    shallow: float  # a shallow one
    before: float  # what precedes the first step: encoding, mostly
    after: float  # what follows the last: decoding, mostly, and the safety checker

    def picture(self, plan: Sequence[tuple[Pass, ...]]) -> float:
        """A whole picture."""
        return self.before + self.steps(plan) + self.after

    def steps(self, plan: Sequence[tuple[Pass, ...]]) -> float:
        """Some steps of a picture."""
        return sum(self.full if each.full else self.shallow for step in plan for each in step)


class Paces:
    """What this machine has shown, by model, size and device; remembered between starts."""

    def __init__(self, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()

    def get(self, key: str) -> Pace | None:
        """The pace of the last picture of this kind, if there was one."""
        found = self._memory.get(f"pace {key}")
        if isinstance(found, list) and len(found) == 4 and all(isinstance(each, int | float) for each in found):
            return Pace(*found)
        return None

    def put(self, key: str, pace: Pace) -> None:
        self._memory.put(f"pace {key}", [pace.full, pace.shallow, pace.before, pace.after])


def pace_key(manifest: Manifest, size: Size, device: str, options: TryOnOptions) -> str:
    """What decides the time of a pass on this machine."""
    weights = manifest.files[manifest.parts["unet"].removesuffix(".xml") + ".bin"].sha256[:16]
    return f"{weights} {size[0]}x{size[1]} {device} {cores()} {options.shortcuts.keys}"


def decoding_share(size: Size) -> float:
    """How long a decoding takes of a full pass, until this machine has shown it.

    Decoding grows with the pixels, a pass with their square too, for attention. Fitted to the published network's size
    (docs/performance.md): 1.3 at 384x512, 0.8 at 576x768, 0.55 at 768x1024.
    """
    return 28 / (11 + 52 * size[0] * size[1] / 1e6)


@dataclass
class Clock:
    """Says, step after step of one picture, how long the rest will take.

    The first step of a process is slower, so only later ones count where there are any.
    """

    options: TryOnOptions
    known: Pace | None = None  # what the machine has shown before
    size: Size = (384, 512)  # (width, height) the model works at
    preview_every: int = 0  # a preview is shown every so many steps, but the last; 0 for never
    _full: list[float] = field(default_factory=list)
    _shallow: list[float] = field(default_factory=list)
    _done: int = 0
    _previews: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        options = self.options
        self.plan = plan_passes(options.steps, options.guidance_scale, options.shortcuts)

    def before(self) -> float | None:
        """Seconds of the whole picture, before it is begun; None on a machine that has shown nothing yet."""
        return None if self.known is None else self.known.picture(self.plan)

    def preview(self, seconds: float) -> None:
        """A preview was made and checked after a step, and took so long."""
        self._previews.append(seconds)

    def step(self, seconds: float) -> float:
        """One more step is done, and took so long without its preview; returns the seconds that are left."""
        passes = self.plan[self._done]
        self._done += 1
        full = sum(each.full for each in passes)
        shallow = len(passes) - full
        if full:
            self._full.append((seconds - shallow * self._shallow_pass()) / full)
        else:
            self._shallow.append(seconds / shallow)
        shown = self.so_far()
        return shown.steps(self.plan[self._done :]) + self._previewing() + shown.after

    def so_far(self, before: float = 0.0) -> Pace:
        """What the steps until now have shown; the decoding is guessed where the machine has never shown one.

        Args:
            before: seconds that preceded the first step.
        """
        after = self.known.after if self.known else decoding_share(self.size) * self._full_pass()
        return Pace(self._full_pass(), self._shallow_pass(), before, after)

    def pace(self, seconds: Mapping[str, float]) -> Pace:
        """What this picture has shown.

        Args:
            seconds: by stage, of its result.
        """
        before, after = (sum(seconds.get(each, 0.0) for each in part) for part in (BEFORE_STAGES, AFTER_STAGES))
        return Pace(self._full_pass(), self._shallow_pass(), before, after)

    def _previewing(self) -> float:
        if not self._previews[1:]:  # before the first one the checker is compiled
            return 0.0
        to_come = (len(self.plan) - 1) // self.preview_every - self._done // self.preview_every
        return to_come * statistics.median(self._previews[1:])

    def _full_pass(self) -> float:
        if self._full[1:] or not self.known:
            return statistics.median(self._full[1:] or self._full or [0.0])
        return self.known.full

    def _shallow_pass(self) -> float:
        if self._shallow[1:]:
            return statistics.median(self._shallow[1:])
        usual = self.known.shallow if self.known else SHALLOW * self._full_pass()
        return min(usual, *self._shallow) if self._shallow else usual  # the first one is compiled first
