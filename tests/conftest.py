"""Fixtures that more than one test file uses."""

from __future__ import annotations

from pathlib import Path

import pytest

GOLDEN_TRYON = Path(__file__).parent / "golden" / "tryon"


@pytest.fixture(scope="session")
def golden_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An FP32 bundle for 64x128, exported from the golden checkpoints. Not to be written to: copy it."""
    from catvton_ov.export.build import ExportOptions, export_bundle

    options = ExportOptions(
        base=str(GOLDEN_TRYON / "stable-diffusion-inpainting"),
        vae=str(GOLDEN_TRYON / "sd-vae-ft-mse"),
        catvton=str(GOLDEN_TRYON / "CatVTON"),
        checkpoint="mix",
        out=tmp_path_factory.mktemp("export") / "golden",
        precision="fp32",
        sizes=((64, 128),),
        parts=("tryon",),
        report="none",
    )
    return export_bundle(options)
