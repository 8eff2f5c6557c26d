"""The authors' example pictures for calibration: the real client and parser, against the stand-in on the loopback.

What is served lies where the authors' app expects it; that the Hub has it there could not be checked.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catvton_ov.bundle import MANIFEST, Bundle, record_files
from catvton_ov.errors import ExportError
from catvton_ov.export.authors_pictures import GARMENTS, LARGEST, PERSONS, choose, with_pictures
from catvton_ov.export.calibration import find_pairs
from catvton_ov.export.options import CalibrationOptions
from catvton_ov.sources import bundled_folder
from tests.conftest import GOLDEN_TRYON
from tests.hub_standin import StandIn, client_settings, serve

ROOT = Path(__file__).parent.parent
DRAWN = bundled_folder() / "examples"
AT = "resource/demo/example"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def run(hub: StandIn, home: Path, *command: str) -> subprocess.CompletedProcess[str]:
    env = client_settings(hub.url, home) | {"OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], capture_output=True, encoding="utf-8", env=env, cwd=ROOT)


def drawn(name: str) -> bytes:
    return (DRAWN / name).read_bytes()


def png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def bundle(golden_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden bundle with the parser of drawn figures."""
    folder = tmp_path_factory.mktemp("parsing") / "golden"
    shutil.copytree(golden_bundle, folder)
    shutil.copytree(bundled_folder() / "parser", folder / "parser")
    manifest = Bundle.open(golden_bundle).manifest
    parts = {**manifest.parts, "parser": "parser/openvino_model.xml"}
    manifest = dataclasses.replace(manifest, parts=parts, files=record_files(folder))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    return folder


QUANTIZE = """
import json, sys
from pathlib import Path
from catvton_ov.export.authors_pictures import with_pictures
from catvton_ov.export.int8 import quantize_bundle
from catvton_ov.export.options import CalibrationOptions, QuantizationOptions
bundle, work = map(Path, sys.argv[1:3])
lines, answers = [], []
for number, source in enumerate(sys.argv[3:]):
    plan = with_pictures(CalibrationOptions(runs=3, steps=1), source, bundle, work / str(number), lines.append)
    answers.append([plan.origin, str(plan.folder), [line for line in lines if line.startswith("Warning")]])
    lines.clear()
    if number == 0:
        quantize_bundle(bundle, work / "int8", QuantizationOptions(recipe="weights", calibration=plan))
(work / "answers.json").write_text(json.dumps(answers))
"""


@pytest.mark.slow
def test_the_authors_pictures_are_calibrated_on_with_masks_of_our_own(bundle: Path, tmp_path: Path) -> None:
    blank = png(Image.new("RGB", (192, 256), "white"))
    pictures = {
        "person/women/Ada.png": drawn("person/Ada.png"),
        "person/women/Mia.jpg": drawn("person/Mia.png"),  # of another kind than its name says
        "person/men/Ben.png": drawn("person/Ben.png"),
        "person/men/nobody.png": blank,
        "person/men/damaged.png": drawn("person/Leo.png")[:500],
        "person/men/large.png": b"0" * (LARGEST + 1),
        "condition/upper/1-dots.png": drawn("garment/upper-dots.png"),
        "condition/upper/damaged.png": b"no picture",
        "condition/overall/stripes.png": drawn("garment/overall-stripes.png"),
        "condition/person/Sam.png": drawn("person/Sam.png"),
    }
    space = {f"{AT}/{name}": data for name, data in pictures.items()} | {"app.py": b"print()"}
    nobody = {f"{AT}/person/blank.png": blank, f"{AT}/condition/upper/a.png": pictures["condition/upper/1-dots.png"]}
    spaces = {"spaces/some/CatVTON": (COMMIT, space), "spaces/some/nobody": (COMMIT, nobody)}
    with serve(spaces | {"spaces/some/empty": (COMMIT, {"app.py": b"print()"})}) as hub:
        sources = ["some/CatVTON@v1", "some/nobody", "some/empty", "some/missing", str(tmp_path)]
        ran = run(hub, tmp_path / "hf", "-c", QUANTIZE, str(bundle), str(tmp_path), *sources)
        assert ran.returncode == 0, ran.stderr
    found, *rest = json.loads((tmp_path / "answers.json").read_bytes())
    origin = f"spaces/some/CatVTON@{COMMIT}"
    assert found == [origin, str(tmp_path / "0"), []]
    fetched = {name.removeprefix(f"{AT}/") for name in hub.served} - {"person/blank.png", "condition/upper/a.png"}
    assert fetched == set(pictures) - {"person/men/large.png", "condition/person/Sam.png"}

    assert sorted(os.listdir(tmp_path / "0/garment")) == ["overall-stripes.png", "upper-1-dots.png"]
    assert sorted(os.listdir(tmp_path / "0/person")) == ["men_Ben.png", "women_Ada.png", "women_Mia.jpg"]
    pairs = find_pairs(tmp_path / "0", seed=0)
    assert [pair.category for pair in pairs] == ["upper", "overall"] * 3
    for name in ("Ada", "Ben", "Mia"):
        (mask_file,) = (tmp_path / "0/mask").glob(f"*_{name}-upper.png")
        ours, truth = (np.asarray(Image.open(file)) >= 128 for file in (mask_file, DRAWN / f"mask/{name}-upper.png"))
        assert (ours & truth).sum() > 0.5 * (ours | truth).sum()

    record = json.loads((tmp_path / "int8" / MANIFEST).read_bytes())["quantization"]["calibration"]
    assert record["origin"] == origin
    assert record["pairs"] == [pair.category for pair in pairs[:3]]

    # Where they cannot be had, one line says why, and the drawn figures take their place.
    reasons = ("nobody on 1 picture", f"has no pictures of persons and garments in {AT}", "no Hub repository", "")
    for (origin, folder, warnings), reason in zip(rest, reasons, strict=True):
        assert (origin, folder) == ("the drawn figures of CatVTON OpenVINO", str(DRAWN))
        (warning,) = warnings
        assert "drawn figures" in warning
        assert reason in warning
    assert rest[-1][2][0].endswith("(--calibration)")  # a folder asks nobody


@pytest.mark.slow
def test_an_export_without_parsers_says_so_and_asks_for_no_space(tmp_path: Path) -> None:
    attention = "mix-48k-1024/attention/model.safetensors"
    model = {attention: (GOLDEN_TRYON / "CatVTON" / attention).read_bytes()}
    with serve({"some/CatVTON": (COMMIT, model), "spaces/some/CatVTON": (COMMIT, {"app.py": b"print()"})}) as hub:
        ran = run(
            hub, tmp_path / "hf", "-m", "catvton_ov", "export",
            "--base", str(GOLDEN_TRYON / "stable-diffusion-inpainting"), "--vae", str(GOLDEN_TRYON / "sd-vae-ft-mse"),
            "--catvton", "some/CatVTON", "--checkpoint", "mix", "--size", "64x128", "--parts", "tryon",
            "--recipe", "weights", "--report", "none", "--out", str(tmp_path / "out"),
        )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (warning,) = [line for line in ran.stderr.splitlines() if "Warning" in line]
    assert warning.endswith("need masks, and so the parsers among the --parts.")
    assert not [request for request in hub.requests if "spaces" in request]
    assert sorted(os.listdir(tmp_path)) == ["hf", "out"]


def test_no_more_than_a_few_pictures_are_chosen_from_all_folders() -> None:
    listed = {f"{AT}/person/{folder}/{number}.jpg": 1000 for folder in ("men", "women") for number in range(50)}
    chosen = choose(listed, "person", PERSONS)
    assert len(chosen) == PERSONS
    assert sum(name.startswith("men_") for name in chosen) == PERSONS / 2
    assert choose(listed, "condition/upper", GARMENTS) == {}


def test_a_folder_without_masks_gets_those_of_the_bundles_parser(golden_bundle: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    for name in ("person/Ada.png", "person/Ben.png", "garment/upper-dots.png", "garment/lower-checks.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DRAWN / name, photos / name)
    plan = CalibrationOptions(folder=photos)
    masked = with_pictures(plan, str(tmp_path), bundled_folder(), tmp_path / "masked", lambda line: None)
    assert (masked.folder, masked.origin) == (
        tmp_path / "masked",
        "a folder that was named, masked by the bundle's parser",
    )
    assert [pair.category for pair in find_pairs(tmp_path / "masked", seed=0)] == ["upper", "lower"] * 2
    ours, truth = (np.asarray(Image.open(file)) >= 128 for file in
                   (tmp_path / "masked/mask/Ada-upper.png", DRAWN / "mask/Ada-upper.png"))  # fmt: skip
    assert (ours & truth).sum() > 0.5 * (ours | truth).sum()
    assert not (photos / "mask").exists()

    with pytest.raises(ExportError, match="add masks, or have the parsers among the --parts"):
        with_pictures(plan, str(tmp_path), golden_bundle, tmp_path / "other", lambda line: None)
