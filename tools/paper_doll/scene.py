"""What a paper-doll picture shows: a person, clothes, one garment of interest, a background."""

from dataclasses import dataclass

import numpy as np

from tools.paper_doll.patterns import Colour, Pattern, sample_colour, sample_pattern

CATEGORIES = ("upper", "overall", "lower")
SKINS: tuple[Colour, ...] = (
    (250, 220, 200), (241, 200, 170), (228, 180, 142), (208, 156, 116),
    (178, 124, 86), (146, 98, 66), (114, 74, 52), (86, 56, 42),
)  # fmt: skip
HAIRS: tuple[Colour, ...] = (
    (36, 30, 32), (62, 42, 34), (98, 62, 40), (142, 92, 52),
    (196, 152, 90), (226, 196, 132), (164, 74, 44), (150, 150, 156),
)  # fmt: skip
HAIR_STYLES = ("short", "bob", "long", "bun", "curly")


@dataclass(frozen=True)
class Body:
    """A body: scale and shift against the canonical one, in units of a 192x256 canvas."""

    width: float  # 0.9 .. 1.1
    height: float  # 0.95 .. 1.05
    shift: tuple[float, float]  # within +-4
    skin: Colour
    hair: Colour
    hair_style: str  # one of HAIR_STYLES


@dataclass(frozen=True)
class Pose:
    """Arm angles in degrees, (figure's right, figure's left)."""

    upper: tuple[float, float]  # upper arm from hanging down, outwards
    bend: tuple[float, float]  # how far the forearm turns back in


@dataclass(frozen=True)
class Garment:
    """A top ("upper"), a dress ("overall"), or trousers, shorts or a skirt ("lower")."""

    category: str  # one of CATEGORIES
    pattern: Pattern
    sleeve: str  # none | short | long
    neck: str  # round | vee | wide
    leg: str  # trousers | shorts | skirt; of "lower" only
    hem: float  # y of the lower edge
    flare: float  # how much a skirt widens down to its hem


@dataclass(frozen=True)
class Background:
    top: Colour
    bottom: Colour
    floor: Colour


@dataclass(frozen=True)
class Scene:
    body: Body
    pose: Pose
    garment: Garment  # THE garment
    other: Garment | None  # the plain second piece of clothing; none with a dress
    shoes: Colour
    background: Background

    @property
    def category(self) -> str:
        return self.garment.category

    @property
    def pattern(self) -> str:
        return self.garment.pattern.name


def sample_garment(rng: np.random.Generator, category: str, plain: bool = False) -> Garment:
    """A garment of a category; a plain one has a single colour."""
    pattern = sample_pattern(rng)
    if plain:
        pattern = Pattern("solid", (pattern.colours[0],) * 3, 16, False, 2, "circle")
    leg = ("trousers", "shorts", "skirt")[rng.integers(3)]
    hem = {
        "upper": rng.uniform(127, 135),
        "overall": rng.uniform(168, 196),
        "lower": {"trousers": 222.0, "shorts": rng.uniform(164, 174)}.get(leg, rng.uniform(166, 190)),
    }[category]
    return Garment(
        category=category,
        pattern=pattern,
        sleeve=("none", "short", "long")[rng.integers(3)],
        neck=("round", "vee", "wide")[rng.integers(3)],
        leg=leg,
        hem=float(hem),
        flare=float(rng.uniform(8, 20)),
    )


def sample_scene(rng: np.random.Generator) -> Scene:
    """A random scene. All randomness comes from `rng`, so a seed names a picture."""
    category = CATEGORIES[rng.choice(3, p=(0.5, 0.3, 0.2))]
    body = Body(
        width=float(rng.uniform(0.9, 1.1)),
        height=float(rng.uniform(0.95, 1.05)),
        shift=(float(rng.uniform(-4, 4)), float(rng.uniform(-4, 4))),
        skin=SKINS[rng.integers(len(SKINS))],
        hair=HAIRS[rng.integers(len(HAIRS))],
        hair_style=HAIR_STYLES[rng.integers(len(HAIR_STYLES))],
    )
    upper, bend = rng.uniform(14, 46, 2), rng.uniform(0, 24, 2)
    pose = Pose((float(upper[0]), float(upper[1])), (float(bend[0]), float(bend[1])))
    garment = sample_garment(rng, category)
    other = None
    if category != "overall":
        other = sample_garment(rng, "lower" if category == "upper" else "upper", plain=True)
    top, lab = sample_colour(rng, (78, 93), (4, 18))
    bottom, _ = sample_colour(rng, (78, 95), (4, 18), (lab, 0, 22))
    floor, _ = sample_colour(rng, (62, 80), (4, 22))
    shoes, _ = sample_colour(rng, (20, 70), (5, 50))
    return Scene(body, pose, garment, other, shoes, Background(top, bottom, floor))
