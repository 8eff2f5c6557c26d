"""The command line: the pipeline's picture in a file, or one line that says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from catvton_ov.cli import main
from catvton_ov.marking import MARK
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import default_preset, preset
from catvton_ov.shortcuts import Shortcuts

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "tryon"
HEAVY = ("torch", "diffusers", "transformers", "nncf", "torchmetrics", "ray")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An empty folder for the result."""
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


def try_on(bundle: Path | str, out: Path, *more: str, **files: Path | str) -> int:
    """Run the command with the golden pictures and two steps; what is given last wins."""
    pictures = {name: GOLDEN / f"{name}.png" for name in ("person", "garment", "mask")}
    arguments = ["try-on", "--model", str(bundle), "--out", str(out), "--steps", "2"]
    for name, file in {**pictures, **files}.items():
        arguments += [f"--{name}", str(file)]
    return main([*arguments, *more])


def expected(bundle: Path, options: TryOnOptions) -> Image.Image:
    pictures = [Image.open(GOLDEN / f"{name}.png") for name in ("person", "garment", "mask")]
    return TryOnPipeline.load(bundle)(*pictures, options).picture


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ("--seed 7", preset(default_preset("CPU"), steps=2, seed=7)),
        ("--preset reference --seed 3", preset("reference", steps=2, seed=3)),
        (
            "--seed 0 --steps 3 --sampler dpmpp_2m --spacing trailing --guidance-scale 1 --size 80x160 "
            "--framing center --threads 2 --device AUTO",
            preset(
                default_preset("AUTO"), steps=3, seed=0, sampler="dpmpp_2m", spacing="trailing", guidance_scale=1,
                size=(80, 160), framing="center",
            ),
        ),
        (
            "--preset balanced --seed 4 --steps 6 --cache-every 3 --guided 0.2 0.7 --keys thinned",
            preset(
                "balanced", steps=6, seed=4,
                shortcuts=Shortcuts(cache_every=3, guided=(0.2, 0.7), keys="thinned"),
            ),
        ),
        ("--preset reference --seed 5 --eta 0", preset("reference", steps=2, seed=5, eta=0.0)),
    ],
)  # fmt: skip
def test_the_file_is_the_pipelines_picture_and_nothing_else(
    golden_bundle: Path, room: Path, capsys: pytest.CaptureFixture[str], arguments: str, options: TryOnOptions
) -> None:
    out = room / "result.png"
    assert try_on(golden_bundle, out, *arguments.split()) == 0
    with Image.open(out) as picture:
        picture.load()
        assert (picture.format, picture.mode) == ("PNG", "RGB")
        assert {**picture.info, "xmp": b""} == {**MARK, "xmp": b""}
        assert picture.tobytes() == expected(golden_bundle, options).tobytes()
    assert list(room.iterdir()) == [out]
    said = capsys.readouterr()
    assert said.out.startswith(f"{out}  seed {options.seed}  seconds: prepare ")
    assert said.out.count("\n") == 1
    assert "do not dress people in pictures without their consent" in said.err  # the bundle's notice
    assert f"{options.steps}/{options.steps}" in said.err  # the progress bar's end


def test_a_drawn_seed_is_printed_and_gives_the_picture_again(
    golden_bundle: Path, room: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert try_on(golden_bundle, room / "first.png") == 0
    match = re.search(r"seed (\d+)", capsys.readouterr().out)
    assert match
    (room / "again.png").write_text("replaced when the picture is whole")
    assert try_on(golden_bundle, room / "again.png", "--seed", match[1]) == 0
    assert (room / "first.png").read_bytes() == (room / "again.png").read_bytes()


def spoiled_bundle(golden_bundle: Path, room: Path) -> Path:
    bundle = shutil.copytree(golden_bundle, room.parent / "spoiled")
    weights = bytearray((bundle / "unet/openvino_model.bin").read_bytes())
    weights[-1] ^= 1
    (bundle / "unet/openvino_model.bin").write_bytes(weights)
    return bundle


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("--person {room}/../nowhere.png", "There is no file for the photo of the person at"),
        ("--garment {here}/test_cli.py", "The photo of the garment is not a picture"),
        ("--mask {golden}/mask_cropped.png", "The mask has 64x128 pixels, the photo of the person 84x159"),
        ("--person {room}/../large.png", "The photo of the person has 12000x9000 pixels; at most 64 megapixels"),
        ("--person {room}/../cut.png", "The photo of the person is damaged, cut off"),
        ("--mask {room}/../empty.png", "The mask is empty: paint over the clothes that should change."),
        ("--steps 0", "steps must be a whole number from 1 to 998; got 0."),
        ("--guidance-scale nan", "guidance_scale must be a number from 0 to 20; got nan."),
        ("--eta 3", "eta must lie between 0 and 1; got 3.0."),
        ("--seed -1", "seed must be a whole number from 0 to 4294967295; got -1."),
        ("--size 60x128", "must be multiples of 8 up to 2048 pixels; got 60x128."),
        ("--threads 0", "threads must be at least 1; got 0."),
        ("--device NPU9", "There is no device 'NPU9' here; available: CPU"),
        ("--model /nowhere", "There is no model at '/nowhere': expected an existing folder, 'paper_doll'"),
        ("--model {golden}", "is not a model bundle: it has no manifest.json."),
        ("--model {room}/../spoiled", "unet/openvino_model.bin does not have the checksum of its manifest."),
        ("--out {room}/result.jpg", "--out must end in .png, got 'result.jpg'."),
        ("--out {room}/nowhere/result.png", "The folder of --out does not exist:"),
        ("--out {room}/../folder.png", "folder.png: it is a folder."),
        ("--out /proc/result.png", "--out cannot be written, /proc/result.png: "),
        ("--out {room}/" + 300 * "x" + ".png", "File name too long"),
        ("--person-number 2", "with --mask there is nothing to find"),
    ],
)
def test_what_goes_wrong_is_one_line_and_leaves_no_file(
    golden_bundle: Path, room: Path, capsys: pytest.CaptureFixture[str], arguments: str, fault: str
) -> None:
    if "spoiled" in arguments:
        spoiled_bundle(golden_bundle, room)
    if "large" in arguments:
        Image.new("1", (12000, 9000)).save(room.parent / "large.png")
    (room.parent / "cut.png").write_bytes((GOLDEN / "person.png").read_bytes()[:2000])
    Image.new("L", Image.open(GOLDEN / "person.png").size).save(room.parent / "empty.png")
    (room.parent / "folder.png").mkdir()

    words = [word.format(room=room, golden=GOLDEN, here=Path(__file__).parent) for word in arguments.split()]
    assert try_on(golden_bundle, room / "result.png", *words) == 1
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.splitlines() if line.strip()]
    assert lines[-1].startswith("error: ")
    assert fault in lines[-1]
    # Before it at most the model's notice and a bar that did not move: no traceback, no warning.
    assert all(line.startswith(("catvton-mix-48k-1024: ", "Trying on:")) for line in lines[:-1]), lines
    assert list(room.iterdir()) == []


def test_an_earlier_result_survives_a_run_that_fails(golden_bundle: Path, room: Path) -> None:
    out = room / "result.png"
    out.write_bytes(b"earlier")
    assert try_on(golden_bundle, out, "--steps", "0") == 1
    assert out.read_bytes() == b"earlier"


def test_a_long_name_is_written_and_labels_do_not_take_the_masks_place(room: Path) -> None:
    photo = str(ROOT / "assets/paper_doll/examples/person/Ada.png")
    out = room / f"{'x' * 240}.png"
    mask = ["mask", "--model", "paper_doll", "--person", photo, "--out", str(out)]
    assert main([*mask, "--labels", str(out)]) == 1
    assert not list(room.iterdir())
    assert main(mask) == 0
    assert list(room.iterdir()) == [out]


def test_a_reader_that_has_enough_is_no_fault(room: Path) -> None:
    examples = ROOT / "assets/paper_doll/examples/person"
    for end, said in (("| true", ""), ("> /dev/full", "error: No space left on device.")):
        command = f"{sys.executable} -m catvton_ov evaluate --json --paired --pred {examples} --truth {examples} {end}"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", cwd=ROOT)
        assert [line for line in ran.stderr.splitlines() if "Comparing" not in line and "left out" not in line] == (
            [said] if said else []
        )


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ([], "COMMAND"),
        (["try-on", "--person", "p.png"], "--garment"),
        (["try-on", "--size", "384"], "such as 384x512; got '384'"),
        (["try-on", "--sampler", "euler"], "invalid choice: 'euler'"),
    ],
)
def test_wrong_words_are_explained(capsys: pytest.CaptureFixture[str], arguments: list[str], fault: str) -> None:
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert fault in capsys.readouterr().err


def modules_after(code: str) -> set[str]:
    """The top-level modules a fresh interpreter holds after running `code`."""
    code += "\nimport json, sys; print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    env = {"PYTHONPATH": str(ROOT), "PATH": "", "HOME": "/nonexistent"}
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, env=env, cwd=ROOT
    )
    return set(json.loads(run.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["try-on", "--help"],
        ["batch", "--help"],
        ["export", "--help"],
        ["publish", "--help"],
        ["report", "--help"],
    ],
)
def test_help_is_quick(command: list[str]) -> None:
    code = f"from catvton_ov.cli import main\ntry: main({command})\nexcept SystemExit as exit: assert not exit.code"
    loaded = modules_after(code)
    assert "catvton_ov" in loaded
    assert not loaded & {*HEAVY, "openvino", "cv2", "gradio"}


@pytest.mark.parametrize(
    "modules",
    [
        "catvton_ov.pipeline, catvton_ov.cli, catvton_ov.masking.parsers, catvton_ov.safety, "
        "catvton_ov.batch.worker, catvton_ov.batch.on_ray, catvton_ov.evaluate.scores",
        "app",
    ],
    ids=["package", "app"],
)
def test_serving_imports_neither_torch_nor_what_needs_it(modules: str) -> None:
    loaded = modules_after(f"import {modules}")
    assert {"catvton_ov", "numpy"} <= loaded
    assert not loaded & set(HEAVY)
