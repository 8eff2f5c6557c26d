"""What may be asked of an export, and what follows from the choice of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from catvton_ov.errors import ExportError

CheckpointName = Literal["mix", "vitonhd", "dresscode"]
Precision = Literal["fp32", "fp16", "int8"]
PartGroup = Literal["tryon", "safety", "parsers"]
StoredFloat = Literal["fp32", "fp16"]
Recipe = Literal["hybrid", "ptq", "weights", "none"]
ReportKind = Literal["quick", "full", "none"]
OverflowFix = Literal["auto", "on", "off"]
Sizes = tuple[tuple[int, int], ...]
PART_GROUPS: tuple[PartGroup, ...] = ("tryon", "safety", "parsers")
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
REPORTS: tuple[ReportKind, ...] = ("quick", "full", "none")
RECIPES: tuple[Recipe, ...] = ("hybrid", "ptq", "weights", "none")
OVERFLOW_FIXES: tuple[OverflowFix, ...] = ("auto", "on", "off")


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
class CalibrationOptions:
    """Which denoising runs of the unquantized model the quantizer learns ranges from."""

    folder: Path | None = None  # pictures, laid out as a bundle's examples/; None: see calibration_pictures
    origin: str | None = None  # of the pictures in the folder, for the record
    runs: int = 6  # each of another pair, category and noise
    steps: int = 8  # of each run
    held_back: int = 2  # pairs kept for the report
    guidance_scale: float = 2.5  # of every second run of a category; the others run without guidance
    seed: int = 0
    sizes: Sizes = ()  # (width, height), used in turn; empty: the bundle's smallest, and about 3/4 of it

    def __post_init__(self) -> None:
        """Raises ExportError for numbers below 1."""
        for name in ("runs", "steps", "held_back"):
            if getattr(self, name) < 1:
                raise ExportError(f"Calibration needs {name} of at least 1; got {getattr(self, name)}.")


@dataclass(frozen=True)
class QuantizationOptions:
    recipe: Recipe = "hybrid"  # see quantize.quantize_unet
    overflow_fix: OverflowFix = "on"  # "auto": only where this machine's CPU needs it
    calibration: CalibrationOptions = CalibrationOptions()

    def __post_init__(self) -> None:
        """Raises ExportError for a recipe or a fix it does not know."""
        if self.recipe not in RECIPES:
            raise ExportError(f"Unknown recipe {self.recipe!r}; expected one of {', '.join(RECIPES)}.")
        if self.overflow_fix not in OVERFLOW_FIXES:
            raise ExportError(f"Unknown overflow fix {self.overflow_fix!r}; expected {', '.join(OVERFLOW_FIXES)}.")


@dataclass(frozen=True)
class ExportOptions:
    base: str  # SD1.5-inpainting (unet/, scheduler/): a folder, or a Hub id owner/name[@revision]
    vae: str  # the VAE (files at the root): a folder or a Hub id
    catvton: str  # CatVTON's attention weights: a folder or a Hub id
    checkpoint: CheckpointName  # which of CatVTON's checkpoints
    out: Path  # the bundle to make; must not exist yet
    precision: Precision = "int8"  # of the stored weights
    sizes: Sizes | None = None  # (width, height), the first is the bundle's default; None: the checkpoint's own
    parts: tuple[PartGroup, ...] = PART_GROUPS  # the try-on itself, the safety checker, the parsers of the auto-mask
    examples: Path | None = None  # person/, garment/ and mask/: pictures for the page, published with the bundle
    report: ReportKind = "quick"  # what is measured at the end; see report.make_report
    quantization: QuantizationOptions = QuantizationOptions()  # how, when the precision is int8

    def __post_init__(self) -> None:
        """Raises ExportError for an unknown checkpoint or precision, or an empty list of sizes."""
        if self.checkpoint not in CHECKPOINTS:
            raise ExportError(f"Unknown checkpoint {self.checkpoint!r}; expected one of {', '.join(CHECKPOINTS)}.")
        if self.precision not in PRECISIONS:
            raise ExportError(f"Unknown precision {self.precision!r}; expected one of {', '.join(PRECISIONS)}.")
        if "tryon" not in self.parts or not set(self.parts) <= set(PART_GROUPS):
            raise ExportError(f"parts must be of {', '.join(PART_GROUPS)}, tryon among them; got {self.parts}.")
        if self.report not in REPORTS:
            raise ExportError(f"Unknown report {self.report!r}; expected one of {', '.join(REPORTS)}.")
        for what, folder in (
            ("Examples", self.examples),
            ("Calibration's pictures", self.quantization.calibration.folder),
        ):
            if folder is not None and not all((folder / kind).is_dir() for kind in ("person", "garment")):
                raise ExportError(
                    f"{what} are a folder that holds person/ and garment/, and mask/ if there are masks; "
                    f"{folder} does not."
                )
        if self.sizes is not None and not self.sizes:
            raise ExportError("At least one size is needed; got an empty list.")
