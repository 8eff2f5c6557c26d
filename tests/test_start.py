"""How soon the page answers. Slow: it needs a machine that does nothing else."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.serving import served_page


@pytest.mark.slow
def test_the_page_answers_within_two_seconds_of_its_imports(tmp_path: Path) -> None:
    imports, starts = [], []
    for turn in range(3):
        since = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import gradio, openvino"], check=True)
        imports.append(time.perf_counter() - since)
        folder = tmp_path / str(turn)
        folder.mkdir()
        since = time.perf_counter()
        with served_page(folder):
            starts.append(time.perf_counter() - since)
    assert min(starts) - min(imports) <= 2, (starts, imports)
