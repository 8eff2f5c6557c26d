"""Data sets in the published layouts: what is there is read, and what is odd is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from catvton_ov.batch.datasets import read_dataset
from catvton_ov.batch.pairs import Defaults, Refused, Row
from catvton_ov.cli import main
from catvton_ov.errors import BatchError
from catvton_ov.options import MaskAdjustment
from catvton_ov.sources import bundled_folder

EXAMPLES = bundled_folder() / "examples"
CHANGED = MaskAdjustment(grow=2)
DEFAULTS = Defaults(given={"steps": 1, "seed": 3, "guidance_scale": 1, "repaint": False}, adjustment=CHANGED)


def touch(folder: Path, *names: str) -> None:
    """Files that only have to be there."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


@pytest.fixture
def vitonhd(tmp_path: Path) -> Path:
    test = tmp_path / "test"
    touch(test / "image", "00006_00.jpg", "00008_00.JPG", "00013_00.jpg", "00017_00.jpg", "notes.txt")
    touch(test / "cloth", "00006_00.jpg", "00008_00.jpg", "00013_00.jpg", "00034_00.jpg", "00034_00.png")
    touch(test / "agnostic-mask", "00006_00_mask.png", "00008_00_MASK.png", "00017_00_mask.png")
    (tmp_path / "test_pairs_unpaired.txt").write_text(
        "00006_00.jpg 00008_00.jpg\n"
        "00008_00.jpg 00006_00.jpg\r\n"
        "\n"
        "00013_00.jpg 00008_00.jpg\n"
        "00017_00.jpg 00034_00.webp\n"
        "00099_00.jpg 00006_00.jpg\n"
        "one two three.jpg\n"
        "00006_00.jpg\n"
    )
    return tmp_path


def test_vitonhd_and_what_is_wrong_with_it(vitonhd: Path) -> None:
    test = vitonhd / "test"
    first, second, *refused = read_dataset("vitonhd", vitonhd, "unpaired", DEFAULTS)
    assert first == Row(
        "test_pairs_unpaired.txt, line 1", "00006_00", test / "image/00006_00.jpg", test / "cloth/00008_00.jpg",
        test / "agnostic-mask/00006_00_mask.png", "upper", DEFAULTS.options(), CHANGED,
    )  # fmt: skip
    assert isinstance(second, Row)
    assert (second.person.name, second.mask) == ("00008_00.JPG", test / "agnostic-mask/00008_00_MASK.png")
    assert refused == [
        Refused("test_pairs_unpaired.txt, line 4", f"there is no picture 00013_00_mask.png in {test}/agnostic-mask."),
        Refused("test_pairs_unpaired.txt, line 5", f"there are several pictures 00034_00.webp in {test}/cloth."),
        Refused("test_pairs_unpaired.txt, line 6", f"there is no picture 00099_00.jpg in {test}/image."),
        Refused(
            "test_pairs_unpaired.txt, line 7",
            "expected the names of a person and a garment, got 'one two three.jpg'.",
        ),
        Refused("test_pairs_unpaired.txt, line 8", "expected the names of a person and a garment, got '00006_00.jpg'."),
    ]


def test_vitonhd_paired_is_everyones_own_garment(vitonhd: Path) -> None:
    rows = [row for row in read_dataset("vitonhd", vitonhd, "paired", DEFAULTS) if isinstance(row, Row)]
    assert [(row.person.stem, row.garment.name) for row in rows] == [
        ("00006_00", "00006_00.jpg"),
        ("00008_00", "00008_00.jpg"),
    ]


def test_dresscode_has_a_folder_for_each_category_and_may_have_no_masks(tmp_path: Path) -> None:
    touch(tmp_path / "upper_body/images", "013563_0.jpg", "013563_1.jpg", "013564_1.jpg")
    touch(tmp_path / "upper_body/agnostic_masks", "013563_0.png")
    (tmp_path / "upper_body/test_pairs_unpaired.txt").write_text("013563_0.jpg\t013564_1.jpg\n")
    (tmp_path / "upper_body/test_pairs_paired.txt").write_text("013563_0.jpg 013563_1.jpg\n")
    touch(tmp_path / "Dresses/Images", "020714_0.jpg", "020715_1.jpg")
    (tmp_path / "Dresses/test_pairs_unpaired.txt").write_text("020714_0.jpg 020715_1.jpg 2\n")
    upper, dress = read_dataset("dresscode", tmp_path, "unpaired", DEFAULTS)
    assert isinstance(upper, Row)
    assert isinstance(dress, Row)
    assert (upper.name, upper.category, upper.garment.name) == ("upper_body/013563_0", "upper", "013564_1.jpg")
    assert upper.mask == tmp_path / "upper_body/agnostic_masks/013563_0.png"
    assert (dress.name, dress.category, dress.mask) == ("dresses/020714_0", "overall", None)
    with pytest.raises(BatchError, match=r"Dresses is not in the layout of the data set: it has no test_pairs_paired"):
        read_dataset("dresscode", tmp_path, "paired", DEFAULTS)


def test_other_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BatchError, match="is not DressCode: it has none of the folders upper_body,"):
        read_dataset("dresscode", tmp_path, "unpaired", DEFAULTS)
    assert main(["batch", "--dataset", "vitonhd", str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 1
    assert "is not in the layout of the data set: it has no test." in capsys.readouterr().err
    assert main(["batch", "--dataset", "deepfashion", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "Unknown data set 'deepfashion'; known are vitonhd, dresscode." in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_data_set_is_tried_on_and_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With and without repainting; the reference's names; SSIM of what was kept is that of equal pixels."""
    root = tmp_path / "VITON-HD"
    for folder, kind, name, file in (
        ("image", "person", "Ada", "00001_00.jpg"), ("image", "person", "Ben", "00002_00.jpg"),
        ("cloth", "garment", "upper-dots", "00001_00.jpg"), ("cloth", "garment", "upper-plain", "00002_00.jpg"),
        ("agnostic-mask", "mask", "Ada-upper", "00001_00_mask.png"),
        ("agnostic-mask", "mask", "Ben-upper", "00002_00_mask.png"),
    ):  # fmt: skip
        (root / "test" / folder).mkdir(parents=True, exist_ok=True)
        Image.open(EXAMPLES / kind / f"{name}.png").convert("RGB").save(root / "test" / folder / file, quality=95)
    (root / "test_pairs_unpaired.txt").write_text("00001_00.jpg 00002_00.jpg\n00002_00.jpg 00001_00.jpg\n")
    words = ["batch", "--dataset", "vitonhd", str(root), "--pairing", "paired", "--steps", "1", "--threads", "1"]
    scores = {}
    for repaint in ("--repaint", "--no-repaint"):
        out = tmp_path / repaint
        assert main([*words, repaint, "--out", str(out)]) == 0
        assert sorted(path.name for path in out.glob("*.png")) == ["00001_00.png", "00002_00.png"]
        capsys.readouterr()
        assert main(["evaluate", "--pred", str(out), "--truth", str(root / "test/image"), "--paired"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "2 results, 2 true pictures, 2 pairs compared"
        scores[repaint] = float(lines[1].removeprefix("SSIM"))
    assert scores["--repaint"] > scores["--no-repaint"]
