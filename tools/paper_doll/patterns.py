"""Colours and textile patterns of the paper dolls' clothes."""

import math
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]  # RGB, 0..255

PATTERNS = ("solid", "stripes", "checks", "dots", "bands", "emblem")
EMBLEMS = ("circle", "square", "diamond", "heart", "cross")


@dataclass(frozen=True)
class Pattern:
    """A pattern in garment coordinates (the units of a 192x256 canvas)."""

    name: str  # one of PATTERNS
    colours: tuple[Colour, Colour, Colour]  # ground, figure, third block of "bands"
    period: float  # stripe period, check cell or dot spacing, in units
    vertical: bool  # stripes only
    blocks: int  # bands only: 2 or 3
    emblem: str  # one of EMBLEMS


def lab_to_rgb(lab: tuple[float, float, float]) -> tuple[float, float, float]:
    """CIE Lab (D65) to sRGB in 0..1; a value outside that range is out of gamut."""
    fy = (lab[0] + 16) / 116
    x, y, z = (
        white * (f**3 if f > 6 / 29 else 3 * (6 / 29) ** 2 * (f - 4 / 29))
        for white, f in ((0.9505, fy + lab[1] / 500), (1.0, fy), (1.089, fy - lab[2] / 200))
    )
    linear = (
        3.2406 * x - 1.5372 * y - 0.4986 * z,
        -0.9689 * x + 1.8758 * y + 0.0415 * z,
        0.0557 * x - 0.2040 * y + 1.0570 * z,
    )
    r, g, b = (12.92 * c if c <= 0.0031308 else 1.055 * c ** (1 / 2.4) - 0.055 for c in linear)
    return r, g, b


def sample_colour(
    rng: np.random.Generator,
    lightness: tuple[float, float],
    chroma: tuple[float, float],
    away_from: tuple[tuple[float, float, float], float, float] | None = None,
) -> tuple[Colour, tuple[float, float, float]]:
    """A colour drawn in Lab, as (RGB, Lab). `away_from` is (Lab, min, max) of a CIE76 distance."""
    while True:
        hue, c = rng.uniform(0, 2 * math.pi), rng.uniform(*chroma)
        lab = (rng.uniform(*lightness), c * math.cos(hue), c * math.sin(hue))
        if away_from and not away_from[1] <= math.dist(lab, away_from[0]) <= away_from[2]:
            continue
        rgb = lab_to_rgb(lab)
        if min(rgb) >= 0 and max(rgb) <= 1:
            return (round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])), lab


def sample_pattern(rng: np.random.Generator) -> Pattern:
    """Patterns are coarse, and their colours 25 to 55 CIE76 apart: the latent has 16-pixel cells."""
    name = PATTERNS[rng.integers(len(PATTERNS))]
    ground, lab = sample_colour(rng, (30, 80), (8, 60))
    figure, _ = sample_colour(rng, (25, 88), (5, 60), (lab, 28, 55))
    third, _ = sample_colour(rng, (25, 88), (5, 60), (lab, 28, 55))
    low, high = {"stripes": (16, 21), "checks": (12, 15), "dots": (18, 23)}.get(name, (16, 17))
    return Pattern(
        name=name,
        colours=(ground, figure, third),
        period=float(rng.uniform(low, high)),
        vertical=bool(rng.random() < 0.5),
        blocks=int(rng.integers(2, 4)),
        emblem=EMBLEMS[rng.integers(len(EMBLEMS))],
    )


def _emblem(shape: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where a shape of about unit radius covers the points (x, y)."""
    if shape == "circle":
        return x**2 + y**2 < 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.88
    if shape == "diamond":
        return abs(x) + abs(y) < 1.25
    if shape == "cross":
        return (np.minimum(abs(x), abs(y)) < 0.4) & (np.maximum(abs(x), abs(y)) < 1.1)
    lobes = (abs(x) - 0.5) ** 2 + (y + 0.4) ** 2 < 0.55**2  # heart: two lobes over a tip
    return lobes | ((y > -0.4) & (abs(x) < 1.02 * (1 - (y + 0.4) / 1.5)))


def pattern_index(
    pattern: Pattern,
    x: np.ndarray,
    y: np.ndarray,
    extent: tuple[float, float],
    centre: tuple[float, float, float],
) -> np.ndarray:
    """Which of the three colours covers each point.

    x: (1, W) and y: (H, 1), garment coordinates. extent: top and bottom of the garment.
    centre: x, y and radius of an emblem. Returns uint8 (H, W) in 0..2.
    """
    shape = (y.shape[0], x.shape[1])
    u, v = x - 96, y - extent[0]
    p = pattern.period
    if pattern.name == "stripes":
        index = (u / p + 0.25 if pattern.vertical else v / p) % 1 >= 0.5
    elif pattern.name == "checks":
        index = (np.floor(u / p + 0.5) + np.floor(v / p)) % 2 == 1
    elif pattern.name == "dots":
        row = np.floor(v / p)
        du = (u / p + 0.5 * (row % 2)) % 1 - 0.5
        dv = v / p - row - 0.5
        index = du**2 + dv**2 < 0.29**2
    elif pattern.name == "bands":
        block = np.floor(v / (extent[1] - extent[0]) * pattern.blocks)
        index = np.clip(block, 0, pattern.blocks - 1)
    elif pattern.name == "emblem":
        index = _emblem(pattern.emblem, (x - centre[0]) / centre[2], (y - centre[1]) / centre[2])
    else:
        index = np.zeros((1, 1))
    return np.broadcast_to(index, shape).astype(np.uint8)
