"""Ready-made choices between quality and time; the same words in the page, the command line and the benchmark.

What each costs in quality is measured: docs/performance.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from catvton_ov.errors import OptionsError
from catvton_ov.machine import cores
from catvton_ov.options import TryOnOptions
from catvton_ov.pictures.reading import Size
from catvton_ov.shortcuts import Shortcuts

PresetName = Literal["reference", "balanced", "fast"]

PRESETS: Mapping[PresetName, TryOnOptions] = {
    # The paper's own recipe (section 4.1): nothing left out.
    "reference": TryOnOptions(steps=50, sampler="ddim", eta=1.0),
    "balanced": TryOnOptions(steps=12, sampler="dpmpp_2m", spacing="trailing", shortcuts=Shortcuts(cache_every=2)),
    "fast": TryOnOptions(
        steps=8, sampler="dpmpp_2m", spacing="trailing", shortcuts=Shortcuts(cache_every=3, guided=(0.125, 0.75))
    ),
}  # fmt: skip
MANY_CORES = 8


def preset(name: str, **changes: Any) -> TryOnOptions:
    """The options of a preset, with changes.

    Args:
        changes: fields of `TryOnOptions`; those that are None leave the preset's own value.

    Raises:
        OptionsError: an unknown preset, or a value no model can use.
    """
    for known, options in PRESETS.items():
        if name == known:
            return replace(options, **{field: value for field, value in changes.items() if value is not None})
    raise OptionsError(f"Unknown preset {name!r}; expected one of {', '.join(PRESETS)}.")


def default_preset(device: str) -> PresetName:
    """`fast` for a CPU with few cores, `balanced` for anything else.

    Args:
        device: what OpenVINO calls it: "CPU", "GPU", "AUTO", ...
    """
    return "fast" if _is_slow(device) else "balanced"


def default_size(sizes: Sequence[Size], device: str) -> Size:
    """Of a bundle's sizes the smallest for a CPU with few cores, the bundle's first for anything else.

    768x1024 takes eight (`fast`) to ten times (`reference`) as long as 384x512, see docs/performance.md.

    Args:
        sizes: (width, height), as the manifest has them.
        device: as for `default_preset`.
    """
    return min(sizes, key=lambda size: size[0] * size[1]) if _is_slow(device) else sizes[0]


def _is_slow(device: str) -> bool:
    return device in ("CPU", "AUTO") and cores() < MANY_CORES
