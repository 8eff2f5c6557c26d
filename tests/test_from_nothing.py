"""The README's way from nothing to a published Space, command by command, against the stand-in on the loopback."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from catvton_ov.bundle import read_manifest
from catvton_ov.sources import bundled_folder
from tests.conftest import GOLDEN_TRYON
from tests.hub_standin import StandIn, client_settings, files_of, serve

ROOT = Path(__file__).parent.parent
DRAWN = bundled_folder() / "examples"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SOURCES = {  # published name -> the golden checkpoints in its layout
    "booksforcharlie/stable-diffusion-inpainting": "stable-diffusion-inpainting",
    "stabilityai/sd-vae-ft-mse": "sd-vae-ft-mse",
    "zhengchong/CatVTON": "CatVTON",
}


def run(hub: StandIn, home: Path, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
    settings = client_settings(hub.url, home) | env
    return subprocess.run(
        [sys.executable, "-m", "catvton_ov", *command],
        capture_output=True,
        encoding="utf-8",
        env=settings,
        cwd=ROOT,
        timeout=300,
    )


def test_from_published_weights_to_a_space_and_a_picture(tmp_path: Path) -> None:
    photos = tmp_path / "my-photos"
    for name in (
        "person/Ada.png",
        "person/Ben.png",
        "mask/Ada-upper.png",
        "mask/Ben-upper.png",
        "garment/upper-dots.png",
    ):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DRAWN / name, photos / name)
    exif = Image.Exif()
    exif[0x010E] = "at home"
    Image.open(DRAWN / "person/Ada.png").save(photos / "person/Ada.png", exif=exif)
    assert b"at home" in (photos / "person/Ada.png").read_bytes()
    bundle = tmp_path / "my-bundle"
    repositories = {name: (COMMIT, files_of(GOLDEN_TRYON / folder)) for name, folder in SOURCES.items()}
    with serve(repositories, tokens={"hf_write": "write"}) as hub:
        base, vae, catvton = SOURCES
        ran = run(
            hub, tmp_path / "maintainer", "export", "--base", base, "--vae", vae, "--catvton", catvton,
            "--checkpoint", "mix", "--calibration", str(photos), "--out", str(bundle),
            # small networks have no parsers and no checker, and need less of everything
            "--parts", "tryon", "--size", "64x128", "--calibration-runs", "1", "--calibration-steps", "2",
            "--examples", str(photos),
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        manifest = read_manifest(bundle)
        assert {(source.repo, source.revision) for source in manifest.sources} == {(name, COMMIT) for name in SOURCES}
        report = json.loads((bundle / "report.json").read_bytes())
        assert [(row["bundle"], row["reference"], row["pairs"]) for row in report["quality"]] == [
            ("fp16", "fp32", 1),
            ("int8", "fp32", 1),
        ]
        assert {(row["bundle"], row["preset"]) for row in report["speed"]} == {
            (kind, preset) for kind in ("fp16", "int8") for preset in ("reference", "balanced", "fast")
        }

        # Measured again, it keeps what can be compared no more.
        ran = run(hub, tmp_path / "maintainer", "report", str(bundle), "--pictures", str(photos))
        assert ran.returncode == 0, ran.stderr
        again = json.loads((bundle / "report.json").read_bytes())
        assert (again["quality"], again["compared"]) == (report["quality"], report["date"])
        assert {row["bundle"] for row in again["speed"]} == {"int8"}
        assert f"Against fp32 (on {report['date']})" in ran.stdout

        repo, space = "name/catvton-openvino-int8", "name/try-on"
        command = ("publish", str(bundle), "--repo", repo, "--space", space)
        ran = run(hub, tmp_path / "maintainer", *command, HF_TOKEN="hf_write")
        assert ran.returncode == 0, ran.stderr
        pinned = ran.stdout.split()[0]
        assert pinned == f"{repo}@{hub.repos[repo].main}"
        model = hub.repos[repo].commits[hub.repos[repo].main]
        assert "Against fp32" in model["README.md"].decode()
        published = model["examples/person/Ada.png"]
        assert b"at home" not in published
        with Image.open(io.BytesIO(published)) as example, Image.open(photos / "person/Ada.png") as photo:
            assert np.array_equal(np.asarray(example), np.asarray(photo.convert("RGB")))
        assert json.loads(model["manifest.json"])["quantization"]["calibration"]["pairs"] == ["upper"]  # no names
        assert hub.repos[f"spaces/{space}"].variables == {"CATVTON_OV_MODEL": pinned}

        out = tmp_path / "result.png"
        ran = run(
            hub, tmp_path / "visitor", "try-on", "--person", str(photos / "person/Ada.png"), "--garment",
            str(photos / "garment/upper-dots.png"), "--mask", str(photos / "mask/Ada-upper.png"), "--preset", "fast",
            "--out", str(out), CATVTON_OV_MODEL=pinned,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    with Image.open(out) as picture, Image.open(photos / "person/Ada.png") as person:
        assert picture.size == person.size


def test_an_example_that_cannot_be_used_is_named_before_anything_is_fetched(tmp_path: Path) -> None:
    for name in ("person/Ada.png", "garment/upper-dots.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True)
        shutil.copyfile(DRAWN / name, tmp_path / "photos" / name)
    with serve({}) as hub:
        export = (
            "export", "--base", "a/b", "--vae", "a/c", "--catvton", "a/d", "--checkpoint", "mix",
            "--out", str(tmp_path / "out"), "--examples", str(tmp_path / "photos"),
        )  # fmt: skip
        for name, said in (("person/Ada.webp", "another example of this name"), ("person/Ben.png", "is not a picture")):
            Image.new("RGB", (40, 40)).save(tmp_path / "photos" / name)
            if name.startswith("person/Ben"):
                (tmp_path / "photos" / name).write_bytes(b"\x89PNG")
            ran = run(hub, tmp_path / "home", *export)
            assert ran.returncode == 1
            assert not hub.served
            assert f"{tmp_path / 'photos' / name}: " in ran.stderr
            assert said in ran.stderr
            (tmp_path / "photos" / name).unlink()


@pytest.mark.parametrize("option", ["--examples", "--calibration"])
@pytest.mark.parametrize("folder", ["none", "empty"])
def test_pictures_that_are_none_are_refused_before_anything_is_fetched(
    option: str, folder: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    with serve({}) as hub:
        ran = run(
            hub, tmp_path / "home", "export", "--base", "a/b", "--vae", "a/c", "--catvton", "a/d",
            "--checkpoint", "mix", "--out", str(tmp_path / "out"), option, str(tmp_path / folder),
        )  # fmt: skip
        assert ran.returncode == 1
        assert "holds person/ and garment/" in ran.stderr
        assert not hub.served
