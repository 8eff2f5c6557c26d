"""Pillow 13 instead of what Gradio asks for: the override that SECURITY.md documents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT, served_page
from tests.test_reader import rows_of_the_visitor_before
from tests.visitor import Visitor

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
OVERRIDE = "pillow>=13,<14"


@pytest.mark.slow
def test_the_page_works_with_the_pillow_that_gradio_does_not_ask_for_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OVERRIDE in (ROOT / "SECURITY.md").read_text()
    newer = tmp_path / "newer"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(newer), OVERRIDE]
    subprocess.run(pip, check=True)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(newer), str(ROOT))))
    version = [sys.executable, "-c", "import PIL; print(PIL.__version__)"]
    assert subprocess.run(version, capture_output=True, encoding="utf-8", check=True).stdout.startswith("13.")
    with served_page(tmp_path) as url:
        visitor = Visitor(url)
        names = ("person/Ada.png", "garment/upper-plain.png", "mask/Ada-upper.png")
        person, garment, mask = (visitor.upload((EXAMPLES / name).read_bytes(), name) for name in names)
        answer = visitor.call("try_on", person, garment, mask, "upper", 1, 2.5, "ddim", 1, "fast", None, 1, False)
        assert answer.worked, answer.message
        answer = visitor.press("try-on", person={"background": person, "layers": []}, garment=garment)
        assert answer.worked, answer.message
    assert "Traceback" not in (tmp_path / "page.log").read_text()
    faulty = tmp_path / "faulty"
    faulty.mkdir()
    assert rows_of_the_visitor_before("own", faulty, newer) == 0  # the fault is gone from the decoder itself
