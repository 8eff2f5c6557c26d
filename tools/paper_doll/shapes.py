"""Outlines of bodies and clothes: float arrays (N, 2) of points (x, y), units of a 192x256 canvas.

"Canonical" outlines belong to the mean body; a flat garment is drawn just so.
"""

import math

import numpy as np

from tools.paper_doll.scene import Garment, Pose

CENTRE = (96.0, 130.0)  # body scale is about this point


def ellipse(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> np.ndarray:
    angle = np.radians(np.linspace(start, end, 33))
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def limb(p: np.ndarray, q: np.ndarray, rp: float, rq: float, flat: bool = False) -> np.ndarray:
    """A tapering limb from p to q with round ends (a flat far end where `flat`)."""
    angle = math.degrees(math.atan2(q[1] - p[1], q[0] - p[0]))
    near = ellipse(p[0], p[1], rp, rp, angle + 90, angle + 270)
    far = ellipse(q[0], q[1], rq, rq, angle - 90, angle + 90)
    return np.concatenate([near, far[[0, -1]] if flat else far])


def mirrored(right: list[tuple[float, float]], rounds: int = 3) -> np.ndarray:
    """A closed outline from its half, given as (distance from the middle axis, y), top to bottom,
    with corners cut (Chaikin)."""
    half = np.array(right, float)
    points = np.concatenate([half, half[::-1] * (-1, 1)]) + np.array([CENTRE[0], 0])
    for _ in range(rounds):
        following = np.roll(points, -1, axis=0)
        points = np.stack([0.8 * points + 0.2 * following, 0.2 * points + 0.8 * following], 1).reshape(-1, 2)
    return points


NECKLINES = {
    "round": [(0, 71), (7, 70), (11, 61)],
    "vee": [(0, 80), (0.5, 79.5), (10, 61)],
    "wide": [(0, 69), (13, 68.5), (16.5, 62)],
}
TORSO = mirrored([(0, 58), (14, 61), (28, 65), (26, 84), (20, 110), (24, 132), (10, 142), (0, 142)])


def bodice(garment: Garment) -> np.ndarray:
    """The torso of a top or a dress, canonical coordinates."""
    shoulder = (25, 65) if garment.sleeve == "none" else (31, 66)
    side = [*NECKLINES[garment.neck], shoulder, (27.5, 84), (23.5, 110)]
    if garment.category == "overall":
        return mirrored([*side, *_hem(23.5, 110, garment)], 2)
    return mirrored([*side, (26.5, 125), (26.5, garment.hem), (0, garment.hem + 1)], 2)


def _hem(x: float, y: float, garment: Garment) -> list[tuple[float, float]]:
    """The side of a skirt from (x, y) down, and its lower edge; the corner is only a little round."""
    width, hem = 24 + garment.flare, garment.hem
    return [(x + 0.9 * (width - x), y + 0.9 * (hem - y)), (width, hem), (0.9 * width, hem + 0.4), (0, hem + 2)]


def bottoms(garment: Garment) -> list[np.ndarray]:
    """Trousers, shorts or a skirt as polygons, canonical coordinates."""
    waist = [(0, 109), (21, 109)]
    if garment.leg == "skirt":
        return [mirrored([*waist, *_hem(21, 109, garment)], 2)]
    hem, inner, outer = garment.hem, *((4.0, 21.5) if garment.leg == "trousers" else (2.0, 29.0))
    leg = np.array([(0, 109), (21, 109), (26, 132), (outer, hem), (inner, hem), (0, 146)], float)
    return [leg * (side, 1) + (CENTRE[0], 0) for side in (-1, 1)]


def arm_joints(pose: Pose, side: int) -> np.ndarray:
    """Shoulder, elbow and wrist relative to the shoulder (3, 2). side: 0 right, 1 left."""
    sign, angle = (-1, 1)[side], math.radians(pose.upper[side])
    fore = angle - math.radians(pose.bend[side])
    elbow = np.array([sign * math.sin(angle), math.cos(angle)]) * 36
    wrist = elbow + np.array([sign * math.sin(fore), math.cos(fore)]) * 33
    return np.stack([np.zeros(2), elbow, wrist])
