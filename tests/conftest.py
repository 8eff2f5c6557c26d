"""Fixtures that more than one test file uses."""

from __future__ import annotations

from collections.abc import Iterator
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


@pytest.fixture(autouse=True, scope="session")
def nothing_remembered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a test run learns of this machine stays with the test run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("facts")))
        yield
