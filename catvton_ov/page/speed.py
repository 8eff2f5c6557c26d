"""The choice between quality and time, and what is said about how long it takes."""

from __future__ import annotations

import math
from dataclasses import asdict, replace
from typing import Any

from catvton_ov.errors import TryOnError
from catvton_ov.options import Preview, TryOnOptions, TryOnResult
from catvton_ov.pace import Clock, Paces, pace_key
from catvton_ov.page import words
from catvton_ov.page.engine import Engine
from catvton_ov.pictures.reading import Size
from catvton_ov.presets import PRESETS, PresetName, default_preset, default_size

PREVIEWS = 6  # in a picture, at most
PREVIEW_SHARE = 0.15  # of a picture's time that decoding and checking them may add


class Speed:
    """Estimates for the page's models, from what this machine has shown."""

    def __init__(self, engine: Engine, paces: Paces | None = None) -> None:
        self.engine = engine
        self.paces = paces or Paces()
        self._warm: str | None = None  # the kind of picture that the model in memory is compiled for

    def clock(self, model: str, device: str, options: TryOnOptions) -> Clock:
        """For one picture of a model; raises BundleError if that cannot be opened."""
        size = self._size(model, device, options)
        return Clock(options, self.paces.get(self._key(model, device, options)), size)

    def estimate(self, model: str, device: str, options: TryOnOptions) -> float | None:
        """Seconds of a picture; None where this machine has shown nothing yet, or the model is not open."""
        try:
            if not self.engine.opening(model).is_over(0):
                return None
            return self.clock(model, device, options).before()
        except TryOnError:
            return None

    def learn(self, model: str, device: str, clock: Clock, result: TryOnResult) -> None:
        """Remember what a picture has shown; of one that compiled the model the steps alone, once more is known."""
        key, pace = self._key(model, device, clock.options), clock.pace(result.seconds)
        if key != self._warm and clock.known is not None:
            pace = replace(pace, before=clock.known.before, after=clock.known.after)
        self._warm = key
        self.paces.put(key, pace)

    def glimpse(self, model: str, device: str, clock: Clock, before: float) -> None:
        """Remember what the first steps have shown, on a machine that knew nothing: the picture may never be finished.

        Args:
            before: seconds that preceded the first step.
        """
        if clock.known is None:
            self.paces.put(self._key(model, device, clock.options), clock.so_far(before))

    def presets(self) -> dict[str, Any]:
        """The endpoint `/presets`: every preset's options, its seconds here if they are known, and the defaults.

        The model's sizes and which of them is the default are there once it is open.
        """
        model, device = self.engine.sources[0], self.engine.device
        sizes = self.engine.sizes(model)
        size = default_size(sizes, device) if sizes else None
        named = [words.size(each) for each in sizes]
        found = {
            name: {"options": asdict(options), "seconds": self.estimate(model, device, replace(options, size=size))}
            for name, options in PRESETS.items()
        }
        return {
            "default": default_preset(device),
            "presets": found,
            "default_size": size and words.size(size),
            "sizes": named,
        }

    def _key(self, model: str, device: str, options: TryOnOptions) -> str:
        manifest = self.engine.bundle(model).manifest
        return pace_key(manifest, self._size(model, device, options), device, options)

    def _size(self, model: str, device: str, options: TryOnOptions) -> Size:
        return options.size or default_size(self.engine.bundle(model).manifest.sizes, device)


def previews(clock: Clock) -> tuple[int, Preview]:
    """Every so many steps a preview, and of what kind: decoded where that is known to add little time."""
    kind: Preview = "rough"
    if (known := clock.known) is not None:
        kind = "decoded" if PREVIEWS * known.after <= PREVIEW_SHARE * known.picture(clock.plan) else "rough"
    return math.ceil(clock.options.steps / (PREVIEWS + 1)), kind


def preset_of(options: TryOnOptions) -> PresetName:
    """The preset whose shortcuts and timesteps these options have; the reference where no other fits."""
    for name, known in PRESETS.items():
        if (options.shortcuts, options.spacing) == (known.shortcuts, known.spacing):
            return name
    return "reference"
