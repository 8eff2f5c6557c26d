"""What the evaluation and the contact sheet try on: scenes never trained on."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch

from tools.paper_doll.data import UNSEEN, mask_of, masked_person, scene_of, to_tensor
from tools.paper_doll.figures import draw
from tools.paper_doll.patterns import PATTERNS
from tools.paper_doll.scene import Scene

EVALUATION_SEED = UNSEEN + 100_000


@dataclass(frozen=True)
class Trials:
    """N try-ons and the pictures they should give; arrays are of the model's size."""

    persons: np.ndarray  # uint8 (N, H, W, 3), RGB
    garments: np.ndarray  # uint8 (N, H, W, 3)
    masks: np.ndarray  # uint8 (N, H, W), 0 or 255
    truths: np.ndarray  # uint8 (N, H, W, 3), the persons in the garments
    areas: np.ndarray  # bool (N, H, W), the garments in `truths`
    labels: np.ndarray  # int64 (N,), of PATTERNS

    def __len__(self) -> int:
        return len(self.persons)

    @property
    def inside(self) -> torch.Tensor:
        """Where the model repaints, bool (N, 1, H, W)."""
        return torch.from_numpy(self.masks >= 128)[:, None]

    @property
    def masked(self) -> np.ndarray:
        """The persons with their masks, uint8 (N, H, W, 3)."""
        return to_uint8(masked_person(to_tensor(self.persons), self.masks))


def draw_trials(seeds: Iterable[int], swapped: bool) -> Trials:
    """Persons in their own garments, or in another one of the same category."""
    rows = [_trial(seed, swapped) for seed in seeds]
    return Trials(*(np.stack(column) for column in zip(*rows, strict=True)))


def _trial(seed: int, swapped: bool) -> tuple[np.ndarray, ...]:
    scene = scene_of(seed)
    figure = draw(scene)
    wanted = replace(scene, garment=_other(seed).garment) if swapped else scene
    truth = draw(wanted) if swapped else figure
    label = np.int64(PATTERNS.index(wanted.pattern))
    return figure.person, truth.garment, mask_of(figure, scene.category), truth.person, truth.garment_area, label


def _other(seed: int) -> Scene:
    """Another scene whose garment has the same category; seeds less than 1000 apart get different ones."""
    others = (scene_of(seed + 1000 * number) for number in itertools.count(1))
    category = scene_of(seed).category
    return next(other for other in others if other.category == category)


def to_uint8(images: torch.Tensor) -> np.ndarray:
    """(N, 3, H, W) in [-1, 1] to uint8 (N, H, W, 3)."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
