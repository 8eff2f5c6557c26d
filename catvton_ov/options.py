"""What a caller may choose for one try-on, and what comes back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal, get_args

from PIL import Image

from catvton_ov.bundle import Manifest
from catvton_ov.errors import OptionsError
from catvton_ov.samplers import Spacing, check_sampler, make_sampler
from catvton_ov.shortcuts import Shortcuts

Preview = Literal["decoded", "rough"]
Framing = Literal["whole", "mask", "center"]
GarmentCategory = Literal["upper", "lower", "overall", "inner", "outer"]  # "inner" is worn under an open "outer"
GARMENT_CATEGORIES: tuple[str, ...] = get_args(GarmentCategory)
FRAMINGS: tuple[Framing, ...] = ("whole", "mask", "center")
MAX_SEED = 2**32 - 1
MOST_CHANGE = 30.0  # percent of the body's height by which a mask may be changed


@dataclass(frozen=True)
class TryOnOptions:
    steps: int = 20  # denoising steps
    guidance_scale: float = 2.5  # how closely to follow the garment; up to 1 skips the unconditional pass
    sampler: str = "ddim"  # "ddim" or "dpmpp_2m"
    eta: float = 1.0  # DDIM only: 0 is deterministic after the first noise, 1 (the paper) draws noise at every step
    spacing: Spacing | None = None  # of the timesteps: "leading", "trailing", "linspace"; None is the model's own
    shortcuts: Shortcuts = Shortcuts()  # what is left out to save time; by default nothing
    seed: int | None = None  # 0 .. 2**32 - 1; None draws one, which the result tells
    size: tuple[int, int] | None = None  # (width, height) the model works at; None is the bundle's first
    framing: Framing = "whole"  # the part of the photo the model sees: all, around the mask, or the centre (reference)
    blur: int | None = None  # softness of the mask's edge in pixels at model size; None is the bundle's own
    repaint: bool = True  # keep the photo's own pixels where the mask is black; False shows the model's everywhere

    def __post_init__(self) -> None:
        """Raises OptionsError for values no model can use; `steps` is checked by the sampler, `size` by the bundle."""
        if not _is_number(self.guidance_scale) or not 0 <= self.guidance_scale <= 20:
            raise OptionsError(f"guidance_scale must be a number from 0 to 20; got {self.guidance_scale!r}.")
        check_sampler(self.sampler, self.eta, self.spacing)
        if self.framing not in FRAMINGS:
            raise OptionsError(f"Unknown framing {self.framing!r}; expected one of {', '.join(FRAMINGS)}.")
        if self.seed is not None and not (type(self.seed) is int and 0 <= self.seed <= MAX_SEED):
            raise OptionsError(f"seed must be a whole number from 0 to {MAX_SEED}; got {self.seed!r}.")
        if self.size is not None and not _is_size(self.size):
            raise OptionsError(f"size must be (width, height) in pixels; got {self.size!r}.")
        if not isinstance(self.shortcuts, Shortcuts):
            raise OptionsError(f"shortcuts must be Shortcuts; got {self.shortcuts!r}.")
        if self.blur is not None and (not _is_number(self.blur) or not 0 <= self.blur <= 64):
            raise OptionsError(f"blur must be from 0 to 64 pixels; got {self.blur!r}.")


def check_options(manifest: Manifest, options: TryOnOptions) -> None:
    """Raises OptionsError for steps or a size that a bundle's model cannot use."""
    manifest.work_size(options.size)
    make_sampler(options.sampler, manifest.schedule, options.steps, options.eta, options.spacing)


def size_of(text: str) -> tuple[int, int]:
    """(width, height) of "384x512"; raises OptionsError for anything else."""
    match = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX×]\s*([0-9]{1,5})\s*", text) if isinstance(text, str) else None
    if match is None:
        raise OptionsError(f"A size is WIDTHxHEIGHT in pixels, such as 384x512; got {str(text)[:40]!r}.")
    return int(match[1]), int(match[2])


@dataclass(frozen=True)
class MaskAdjustment:
    """How a mask is nudged, in percent of the body's height."""

    grow: float = 0.0  # all around; below 0 the mask shrinks
    up: float = 0.0
    down: float = 0.0
    left: float = 0.0  # in the picture
    right: float = 0.0

    def __post_init__(self) -> None:
        """Raises OptionsError outside -MOST_CHANGE..MOST_CHANGE for grow, 0..MOST_CHANGE for the others."""
        for field in fields(self):
            value = getattr(self, field.name)
            least = -MOST_CHANGE if field.name == "grow" else 0.0
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= MOST_CHANGE:
                raise OptionsError(f"{field.name} must be {least:.0f} to {MOST_CHANGE:.0f} percent; got {value!r}.")


def _is_size(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and all(type(side) is int for side in value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class TryOnStep:
    """One denoising step is done."""

    step: int  # 1 .. total
    total: int
    seconds: float  # of this step, its preview apart
    preview: Image.Image | None  # at the photo's own size, when it was asked for


@dataclass(frozen=True)
class TryOnResult:
    picture: Image.Image  # RGB, at the person photo's own size
    seed: int
    seconds: Mapping[str, float]  # by stage: "prepare", "encode", "denoise", "decode", "paste"
