"""Draws a scene: the person, the flat garment and the label maps a human parser would give.

Everything is drawn in the units of a 192x256 canvas, at any 3:4 size. The visible picture is one
map of part numbers (`PARTS`); colours and both parsings are looked up in it. The DensePose map is
drawn apart, because it knows the body underneath the clothes.

Left and right are the figure's own: its left side is at the right of the picture.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from tools.paper_doll.patterns import Colour, pattern_index
from tools.paper_doll.scene import Body, Garment, Pose, Scene
from tools.paper_doll.shapes import CENTRE, TORSO, arm_joints, bodice, bottoms, ellipse, limb

SIZE = (192, 256)  # width, height
PAPER = 247  # grey level behind a flat garment
SUPERSAMPLE = 2

# part: (LIP label, ATR label)
PARTS: dict[str, tuple[int, int]] = {
    "background": (0, 0),
    "shadow": (0, 0),
    "hair": (2, 2),
    "face": (13, 11),
    "neck": (13, 11),
    "chest": (0, 0),
    "eye": (13, 11),
    "cheek": (13, 11),
    "mouth": (13, 11),
    "right arm": (15, 15),
    "left arm": (14, 14),
    "right leg": (17, 13),
    "left leg": (16, 12),
    "right shoe": (19, 10),
    "left shoe": (18, 9),
    "top": (5, 4),
    "top sleeve": (5, 4),
    "dress": (6, 7),
    "dress sleeve": (6, 7),
    "trousers": (9, 6),
    "shorts": (9, 6),
    "skirt": (12, 5),
}
PART = {name: number for number, name in enumerate(PARTS)}
LIP = np.array([labels[0] for labels in PARTS.values()], np.uint8)
ATR = np.array([labels[1] for labels in PARTS.values()], np.uint8)


@dataclass(frozen=True)
class Figure:
    """One drawn scene; all arrays have the same height and width."""

    person: np.ndarray  # uint8 (H, W, 3), RGB
    garment: np.ndarray  # uint8 (H, W, 3), RGB, flat on near-white
    garment_area: np.ndarray  # bool (H, W), THE garment on the person
    densepose: np.ndarray  # uint8 (H, W), 0..24
    lip: np.ndarray  # uint8 (H, W), 0..19
    atr: np.ndarray  # uint8 (H, W), 0..17


class _Canvas:
    """A part map and the figure's frame: canonical coordinates, body scale and shift, pixels."""

    def __init__(self, size: tuple[int, int], body: Body | None) -> None:
        width, height = size[0] * SUPERSAMPLE, size[1] * SUPERSAMPLE
        self.parts = np.zeros((height, width), np.uint8)
        self.body_map = np.zeros((height, width), np.uint8)
        self.zoom = width / SIZE[0]
        self.scale = np.array((body.width, body.height) if body else (1.0, 1.0))
        self.shift = np.array(body.shift if body else (0.0, 0.0))

    def place(self, points: np.ndarray) -> np.ndarray:
        """Canonical to this body's coordinates (still canvas units)."""
        return (points - CENTRE) * self.scale + CENTRE + self.shift

    def unplace(self) -> tuple[np.ndarray, np.ndarray]:
        """Canonical x (1, W) and y (H, 1) of every pixel."""
        height, width = self.parts.shape
        x = ((np.arange(width, dtype=np.float32) + 0.5) / self.zoom - CENTRE[0] - self.shift[0]) / self.scale[0]
        y = ((np.arange(height, dtype=np.float32) + 0.5) / self.zoom - CENTRE[1] - self.shift[1]) / self.scale[1]
        return x[None] + CENTRE[0], y[:, None] + CENTRE[1]

    def fill(self, points: np.ndarray, part: str | None = None, densepose: int | None = None) -> None:
        """Fill a polygon given in this body's coordinates."""
        pixels = np.round((points * self.zoom - 0.5) * 16).astype(np.int32)[None]
        if part is not None:
            cv2.fillPoly(self.parts, pixels, PART[part], shift=4)
        if densepose is not None:
            cv2.fillPoly(self.body_map, pixels, densepose, shift=4)


def _bare_body(canvas: _Canvas, pose: Pose) -> None:
    """Legs, torso and arms; shoes and hands come with them."""
    ground = canvas.place(np.array([[96, 235.0]]))[0]
    canvas.fill(ellipse(ground[0], ground[1], 36, 5), "shadow")
    for side, name in enumerate(("right", "left")):
        sign = (-1, 1)[side]
        joints = np.array([(sign * 12.5, 134), (sign * 12, 180), (sign * 12, 226)]) + np.array([CENTRE[0], 0])
        hip, knee, ankle = canvas.place(joints)
        canvas.fill(limb(hip, knee, 11.5, 8.5), f"{name} leg", 9 + side)
        canvas.fill(limb(knee, ankle, 8.5, 5.5), f"{name} leg", 13 + side)
        canvas.fill(ellipse(ankle[0] + sign * 3, ankle[1] + 11, 10, 7, 180, 360), f"{name} shoe", 5 + side)
    canvas.fill(canvas.place(TORSO), "chest", 2)
    for side, name in enumerate(("right", "left")):
        shoulder, elbow, wrist = _arm(canvas, pose, side)
        canvas.fill(limb(shoulder, elbow, 7.5, 6), f"{name} arm", 18 - side)
        canvas.fill(limb(elbow, wrist, 6, 4.5), f"{name} arm", 22 - side)
        along = (wrist - elbow) / np.linalg.norm(wrist - elbow)
        canvas.fill(limb(wrist + 2 * along, wrist + 8 * along, 5, 5.5), f"{name} arm", 3 + side)
        thumb = wrist + 3 * along
        canvas.fill(limb(thumb, thumb + np.array([(6, -6)[side], 5]), 2, 2), f"{name} arm", 3 + side)


def _arm(canvas: _Canvas, pose: Pose, side: int) -> np.ndarray:
    shoulder = canvas.place(np.array([[CENTRE[0] + (-1, 1)[side] * 22.5, 71.0]]))
    return shoulder + arm_joints(pose, side)


def _head(canvas: _Canvas, style: str) -> None:
    """Neck, head, face and hair. Hair behind the head is drawn by `_hair_behind`."""
    x, y = canvas.place(np.array([[96, 35.0]]))[0]
    neck = canvas.place(np.array([[96, 62.0]]))[0]
    canvas.fill(limb(np.array([x, y + 10]), neck, 6.5, 7, flat=True), "neck", 24)
    canvas.fill(ellipse(x - 15, y + 2, 2.5, 4), "face")
    canvas.fill(ellipse(x + 15, y + 2, 2.5, 4), "face")
    canvas.fill(ellipse(x, y, 15, 18.5), "face", 23)
    canvas.fill(ellipse(x, y, 15, 18.5, -90, 90), None, 24)
    for sign in (-1, 1):
        canvas.fill(ellipse(x + sign * 9, y + 7, 3, 2), "cheek")
        canvas.fill(ellipse(x + sign * 5.5, y + 1, 1.5, 2), "eye")
    smile = ellipse(x, y + 7, 4.5, 4.5, 20, 160)
    canvas.fill(np.concatenate([smile, smile[::-1] - (0, 1.3)]), "mouth")
    fringe = ellipse(x, y - 2, 16.5, 18.5, 180, 360)
    dip = {"short": 8, "bob": 5, "long": 11, "bun": 10, "curly": 6}[style]
    canvas.fill(np.concatenate([fringe, ellipse(x, y - 2, 14, dip, 360, 180)]), "hair")
    if style in ("bob", "long"):
        for sign in (-1, 1):
            canvas.fill(limb(np.array([x + sign * 14, y - 4]), np.array([x + sign * 15, y + 13]), 3, 3), "hair")
    if style == "curly":
        for angle in range(-180, 1, 30):
            a = math.radians(angle)
            canvas.fill(ellipse(x + 14.5 * math.cos(a), y - 4 + 15 * math.sin(a), 6, 6), "hair")


def _hair_behind(canvas: _Canvas, style: str) -> None:
    x, y = canvas.place(np.array([[96, 35.0]]))[0]
    if style in ("bob", "long"):
        low = 16 if style == "bob" else 26
        canvas.fill(limb(np.array([x, y]), np.array([x, y + low - 10]), 17, 18 if style == "bob" else 17), "hair")
    if style == "bun":
        canvas.fill(ellipse(x, y - 21, 7.5, 7), "hair")


def _dress_up(canvas: _Canvas, garment: Garment, pose: Pose) -> list[str]:
    """Draw a garment on the canvas; returns the names of its parts."""
    if garment.category == "lower":
        for polygon in bottoms(garment):
            canvas.fill(canvas.place(polygon), garment.leg)
        return [garment.leg]
    part = "dress" if garment.category == "overall" else "top"
    canvas.fill(canvas.place(bodice(garment)), part)
    if garment.sleeve == "none":
        return [part]
    for side in (0, 1):
        shoulder, elbow, wrist = _arm(canvas, pose, side)
        if garment.sleeve == "long":
            canvas.fill(limb(elbow, wrist, 8, 7.5, flat=True), f"{part} sleeve")
            canvas.fill(limb(shoulder, elbow, 9.5, 8), f"{part} sleeve")
        else:
            canvas.fill(limb(shoulder, shoulder + 0.72 * (elbow - shoulder), 9.5, 10, flat=True), f"{part} sleeve")
    return [part, f"{part} sleeve"]


def _garment_colours(canvas: _Canvas, garment: Garment, image: np.ndarray) -> None:
    """Paint the patterned part of a garment and its plain sleeves into the image."""
    body_part = {"upper": "top", "overall": "dress"}.get(garment.category, garment.leg)
    palette = np.array(garment.pattern.colours, np.uint8)
    image[canvas.parts == PART.get(f"{body_part} sleeve", 255)] = (palette[0] * 0.92).astype(np.uint8)
    area = canvas.parts == PART[body_part]
    left, top, width, height = cv2.boundingRect(area.view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    x, y = canvas.unplace()
    extent = (128.0 if garment.category == "lower" else 66.0, garment.hem)
    emblem = {"upper": (96, 97, 12), "overall": (96, 100, 13)}.get(garment.category, (108, 150, 9))
    if garment.category == "lower" and garment.leg == "skirt":
        emblem = (96, 140, 13)
    index = pattern_index(garment.pattern, x[:, box[1]], y[box[0]], extent, emblem)
    image[box][area[box]] = palette[index[area[box]]]


def _shade(colour: Colour, factor: float) -> tuple[float, float, float]:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def _background(scene: Scene, height: int) -> np.ndarray:
    """Wall gradient over a floor: float32 (H, 1, 3)."""
    wall_top, wall_bottom, floor = (np.array(c, np.float32) for c in vars(scene.background).values())
    y = ((np.arange(height, dtype=np.float32) + 0.5) / height * SIZE[1])[:, None]
    wall = wall_top + (wall_bottom - wall_top) * np.clip(y / 212, 0, 1)
    return (wall + (floor - wall) * np.clip((y - 211) / 2, 0, 1))[:, None]


def _colours(scene: Scene) -> np.ndarray:
    """RGB of every part but the background and the garments' patterns: uint8 (len(PARTS), 3)."""
    skin, dark = scene.body.skin, sum(scene.body.skin) < 400
    palette = {
        "shadow": _shade(scene.background.floor, 0.88),
        "hair": scene.body.hair,
        "neck": _shade(skin, 0.93),
        "eye": (40, 34, 38) if not dark else (24, 18, 20),
        "cheek": (skin[0] * 0.98, skin[1] * 0.86, skin[2] * 0.84),
        "mouth": (skin[0] * 0.72, skin[1] * 0.42, skin[2] * 0.42),
        "right shoe": scene.shoes,
        "left shoe": scene.shoes,
    }
    return np.array([palette.get(name, skin) for name in PARTS]).astype(np.uint8)


def _flat(garment: Garment, size: tuple[int, int]) -> np.ndarray:
    """The garment laid out flat, at the place and size of the canonical body."""
    canvas = _Canvas(size, None)
    _dress_up(canvas, garment, Pose((32, 32), (6, 6)))
    image = np.full((*canvas.parts.shape, 3), PAPER, np.uint8)
    _garment_colours(canvas, garment, image)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def draw(scene: Scene, size: tuple[int, int] = SIZE) -> Figure:
    """Draw a scene at a 3:4 size (width, height)."""
    if size[0] * 4 != size[1] * 3:
        raise ValueError(f"expected a size of 3:4 (width, height), received {size}")
    canvas = _Canvas(size, scene.body)
    _bare_body(canvas, scene.pose)
    # Hair falls behind the shoulders but in front of the wall.
    behind = _Canvas(size, scene.body)
    _hair_behind(behind, scene.body.hair_style)
    np.copyto(canvas.parts, behind.parts, where=canvas.parts == 0)
    if scene.other and scene.other.category == "lower":
        _dress_up(canvas, scene.other, scene.pose)
        names = _dress_up(canvas, scene.garment, scene.pose)
    else:
        names = _dress_up(canvas, scene.garment, scene.pose)
        if scene.other:
            _dress_up(canvas, scene.other, scene.pose)
    _head(canvas, scene.body.hair_style)

    image = _colours(scene)[canvas.parts]
    background = _background(scene, image.shape[0]).astype(np.uint8)
    np.copyto(image, background, where=(canvas.parts == 0)[..., None])
    for garment in filter(None, (scene.other, scene.garment)):
        _garment_colours(canvas, garment, image)

    middle = np.s_[SUPERSAMPLE // 2 :: SUPERSAMPLE, SUPERSAMPLE // 2 :: SUPERSAMPLE]
    parts = canvas.parts[middle]
    return Figure(
        person=cv2.resize(image, size, interpolation=cv2.INTER_AREA),
        garment=_flat(scene.garment, size),
        garment_area=np.isin(parts, [PART[name] for name in names]),
        densepose=canvas.body_map[middle].copy(),
        lip=LIP[parts],
        atr=ATR[parts],
    )
