"""Fixtures that more than one test file uses."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Bundles, caches and pages of tests lie neither in /tmp nor in the working directory, where Gradio shows any file: a
# page that was blank everywhere else passed all tests there.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")

CHROMIUM = shutil.which("chromium")
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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; who asks for it is not run where there is none."""
    if CHROMIUM is None:
        pytest.skip("NOT RUN: no chromium here (apt-get install chromium)")
    from playwright.sync_api import sync_playwright

    quiet = ["--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-sync", *quiet])
        yield instance
        instance.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 20 MB."""
    (tmp_path / "disk").mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(tmp_path / "disk")], check=False)
    if mount.returncode:
        pytest.skip("a file system can be mounted by root only")
    yield tmp_path / "disk"
    subprocess.run(["umount", str(tmp_path / "disk")], check=True)
