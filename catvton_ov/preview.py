"""Rough previews for next to nothing: a linear map from latents to colours.

A VAE's latent is close to linear in the mean colour of the pixels below each of its cells. The map is fitted anew
for every try-on, to the pictures that were encoded for it, so no bundle has to bring one.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

RIDGE = 1e-3  # of the mean square of a channel: keeps the map tame where a channel hardly varies


class RoughDecoder:
    """Latents (1, C, h, w) to small pictures (1, 3, h, w) in [-1, 1], least squares over the cells it was fitted to."""

    def __init__(self, pictures: Array, latents: Array) -> None:
        """Fit the map.

        Args:
            pictures: (1, 3, H, W), RGB in [-1, 1].
            latents: (1, C, h, w), what they were encoded to; H and W are multiples of h and w.
        """
        height, width = latents.shape[2:]
        rows, columns = pictures.shape[2] // height, pictures.shape[3] // width
        means = pictures.reshape(3, height, rows, width, columns).mean(axis=(2, 4)).reshape(3, -1)
        cells = _with_constant(latents)
        products = cells @ cells.T
        products += RIDGE * np.trace(products) / len(products) * np.eye(len(products), dtype=np.float32)
        self._map = np.linalg.solve(products, cells @ means.T).T.astype(np.float32)  # (3, C + 1)

    def __call__(self, latents: Array) -> Array:
        height, width = latents.shape[2:]
        colours: Array = np.clip(self._map @ _with_constant(latents), -1, 1)
        return colours.reshape(1, 3, height, width)


def _with_constant(latents: Array) -> Array:
    """(C + 1, cells): the last row is 1, for the map's offset."""
    cells = latents.reshape(latents.shape[1], -1)
    return np.concatenate([cells, np.ones_like(cells[:1])])
