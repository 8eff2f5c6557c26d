"""Drawn scenes as arrays, by seed: a seed names a scene, so every data set can be drawn again."""

from dataclasses import dataclass
from multiprocessing import get_context

import cv2
import numpy as np
import torch

from catvton_ov.masking import cloth_agnostic_mask
from tools.paper_doll.figures import Figure, draw
from tools.paper_doll.scene import Scene, sample_scene

UNSEEN = 10_000_000  # seeds from here on are never trained on


@dataclass(frozen=True)
class Pair:
    """One training example at pixel size."""

    scene: Scene
    figure: Figure
    mask: np.ndarray  # uint8 (H, W), 0 or 255


def scene_of(seed: int) -> Scene:
    return sample_scene(np.random.default_rng(seed))


def mask_of(figure: Figure, category: str) -> np.ndarray:
    """The authors' mask, uint8 (H, W), 0 or 255."""
    return cloth_agnostic_mask(figure.densepose, figure.lip, figure.atr, category)


def pair_of(seed: int, jitter: bool = False) -> Pair:
    """The example a seed names. With `jitter`, half of the masks grow by 1 to 6 pixels, as a mask
    painted by hand might."""
    scene = scene_of(seed)
    figure = draw(scene)
    mask = mask_of(figure, scene.category)
    grow = int(np.random.default_rng((seed, 1)).integers(-6, 7)) if jitter else 0
    if grow > 0:
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * grow + 1, 2 * grow + 1))
        mask = cv2.dilate(mask, kernel)
    return Pair(scene, figure, mask)


def _arrays(seed: int) -> tuple[np.ndarray, ...]:
    pair = pair_of(seed, jitter=seed < UNSEEN)
    return pair.figure.person, pair.figure.garment, pair.mask, pair.figure.garment_area


def _one_thread() -> None:
    cv2.setNumThreads(1)


def draw_many(seeds: range, processes: int = 2) -> tuple[np.ndarray, ...]:
    """Persons and garments uint8 (N, H, W, 3), masks uint8 and garment areas bool (N, H, W)."""
    with get_context("spawn").Pool(processes, _one_thread) as pool:
        return tuple(np.stack(part) for part in zip(*pool.imap(_arrays, seeds, chunksize=16), strict=True))


def to_tensor(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, H, W, 3) to float32 (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def masked_person(persons: torch.Tensor, masks: np.ndarray) -> torch.Tensor:
    """`persons * (mask < 0.5)`: grey under the mask. persons (N, 3, H, W), masks uint8 (N, H, W)."""
    return persons * torch.from_numpy(masks < 128)[:, None]


def latent_mask(masks: np.ndarray) -> torch.Tensor:
    """Masks uint8 (N, H, W) at latent size, nearest: float32 (N, 1, H/16, W/16) of 0 and 1."""
    return torch.from_numpy(masks[:, None, ::16, ::16] >= 128).float()
