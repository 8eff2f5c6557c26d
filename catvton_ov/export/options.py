"""What may be asked of an export, and what follows from the choice of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catvton_ov.errors import ExportError

CheckpointName = Literal["mix", "vitonhd", "dresscode"]
Precision = Literal["fp32", "fp16"]
Sizes = tuple[tuple[int, int], ...]
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class Checkpoint:
    """One of CatVTON's published sets of attention weights."""

    folder: str  # within zhengchong/CatVTON; the attention is in <folder>/attention/model.safetensors
    sizes: Sizes  # (width, height) it was trained for, or is of the same shape; the first is the default


CHECKPOINTS: Mapping[CheckpointName, Checkpoint] = {
    "mix": Checkpoint("mix-48k-1024", ((768, 1024), (576, 768), (384, 512))),
    "vitonhd": Checkpoint("vitonhd-16k-512", ((384, 512),)),
    "dresscode": Checkpoint("dresscode-16k-512", ((384, 512),)),
}


@dataclass(frozen=True)
class ExportOptions:
    base: str  # SD1.5-inpainting (unet/, scheduler/): a folder, or a Hub id owner/name[@revision]
    vae: str  # the VAE (files at the root): a folder or a Hub id
    catvton: str  # CatVTON's attention weights: a folder or a Hub id
    checkpoint: CheckpointName  # which of CatVTON's checkpoints
    out: Path  # the bundle to make; must not exist yet
    precision: Precision = "fp16"  # of the stored weights
    sizes: Sizes | None = None  # (width, height), the first is the bundle's default; None: the checkpoint's own

    def __post_init__(self) -> None:
        """Raises ExportError for an unknown checkpoint or precision, or an empty list of sizes."""
        if self.checkpoint not in CHECKPOINTS:
            raise ExportError(f"Unknown checkpoint {self.checkpoint!r}; expected one of {', '.join(CHECKPOINTS)}.")
        if self.precision not in PRECISIONS:
            raise ExportError(f"Unknown precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}.")
        if self.sizes is not None and not self.sizes:
            raise ExportError("At least one size is needed; got an empty list.")
