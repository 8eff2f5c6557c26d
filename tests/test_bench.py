"""The benchmark: the yardstick is what it says, and the command's rows are what was measured."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest

from catvton_ov import cli
from catvton_ov.bench.bench import BenchOptions, Row, render, work_of
from catvton_ov.bench.notebook import NOTEBOOK, NotebookSubject
from catvton_ov.bundle import Bundle
from catvton_ov.errors import OptionsError
from catvton_ov.export.quantize import quantization_record
from catvton_ov.export.yardstick import float_again, notebook_bundle, random_bundles
from catvton_ov.measure import _sample_of, plan_of
from catvton_ov.presets import PRESETS
from catvton_ov.sources import bundled_folder

SIZE = (64, 128)


@pytest.fixture(scope="module")
def work(golden_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the golden bundle's yardstick is kept, under the name the command gives it."""
    folder = tmp_path_factory.mktemp("bench")
    bundle = Bundle.open(golden_bundle)
    name = bundle.manifest.files[bundle.manifest.parts["unet"]].sha256[:16]
    notebook_bundle(bundle, folder / name / "notebook", lambda line: None)
    return folder


def test_the_yardstick_is_the_notebooks_recipe(work: Path) -> None:
    (folder,) = work.glob("*/notebook")
    model = ov.Core().read_model(Bundle.open(folder).part("unet"))
    record = quantization_record(model)
    assert record["attentions"] == record["attentions_quantized"] > 0  # FakeQuantize on what goes into attention
    matmuls = [op for op in model.get_ops() if op.get_type_name() == "MatMul"]
    assert sum(any(_quantized(op, port) for port in (0, 1)) for op in matmuls) > len(matmuls) / 2
    assert (NOTEBOOK.steps, NOTEBOOK.sampler, NOTEBOOK.eta, NOTEBOOK.guidance_scale) == (50, "ddim", 1.0, 2.5)

    subject = NotebookSubject(work_of("notebook", str(folder), SIZE, BenchOptions(passes=1)))
    assert len(subject.plan()) == 50  # one pass a step
    assert subject._sample.shape == (2, 9, 32, 8)  # and both branches of guidance in it
    subject.prepare()
    compiled = subject._parts["unet"]
    assert [dimension.is_dynamic for dimension in compiled.input("sample").get_partial_shape()] == [True, False] + [
        True
    ] * 2
    subject.run(subject.plan()[0])
    assert np.isfinite(subject._requests["unet"].get_output_tensor(0).data).all()


def _quantized(op: ov.Node, port: int) -> bool:
    node = op.input_value(port).get_node()
    while node.get_type_name() in ("Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "FakeQuantize")


def test_int8_comes_out_of_a_graph_and_the_noise_stays_about_the_same() -> None:
    xml = bundled_folder() / "unet" / "openvino_model.xml"
    core = ov.Core()
    given = {"sample": np.random.default_rng(0).standard_normal((1, 33, 32, 12), "f4"), "timestep": np.array([501])}
    quantized = core.compile_model(core.read_model(xml), "CPU")(given)[0]
    model = float_again(core.read_model(xml))
    assert not any(op.get_type_name() == "FakeQuantize" for op in model.get_ops())
    assert not any(op.output(0).get_element_type() in (ov.Type.i8, ov.Type.u8) for op in model.get_ordered_ops())
    error = core.compile_model(model, "CPU")(given)[0] - quantized
    assert np.sqrt(np.mean(error**2) / np.mean(quantized**2)) < 0.15


def test_bench_prints_what_it_measured(golden_bundle: Path, work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--model", str(golden_bundle), "--size", "64x128", "--work", str(work), "--rounds", "1"]
    recipes = "notebook,notebook-fp16,fast"
    assert cli.main([*arguments, "--recipes", recipes, "--passes", "3", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    rows = {row["recipe"]: row for row in content["rows"]}
    assert list(rows) == recipes.split(",")
    for row in rows.values():
        assert row["error"] is None
        assert (row["size"], row["estimated"]) == ([64, 128], True)
        assert row["seconds_per_picture"] > row["seconds_per_unet_pass"] > 0
        assert row["peak_rss_bytes"] > 50e6
    assert rows["notebook"]["times_notebook"] == 1
    expected = rows["notebook"]["seconds_per_picture"] / rows["fast"]["seconds_per_picture"]
    assert rows["fast"]["times_notebook"] == pytest.approx(expected)
    assert rows["notebook"]["passes"] == rows["notebook-fp16"]["passes"] == [50, 0]
    assert {row["against"] for row in rows.values()} == {"notebook"}
    assert 0.9 < sum(rows["fast"]["operations"].values()) <= 1.001
    full, shallow = rows["fast"]["passes"]
    assert full + shallow == sum(map(len, _plan("fast")))
    assert 0 < rows["fast"]["seconds_per_shallow_pass"] < rows["fast"]["seconds_per_unet_pass"]


def test_however_few_passes_are_timed_there_is_one_of_each_kind() -> None:
    for count, kinds in ((1, [True, False]), (2, [True, False]), (4, [True, True, False, False])):
        assert [planned.full for planned in _sample_of(plan_of(PRESETS["fast"]), count)] == kinds
        assert [planned.full for planned in _sample_of(plan_of(PRESETS["reference"]), count)] == [True] * count


@pytest.mark.parametrize("wrong", [("--size", "100x100"), ("--size", "0x0"), ("--threads", "0"), ("--rounds", "0")])
def test_what_no_recipe_can_run_with_is_refused(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--recipes", "fast", *wrong]) == 1
    assert capsys.readouterr().err.startswith("error: ")


def test_json_is_all_that_stands_on_the_output_when_the_yardstick_is_made_first(
    golden_bundle: Path, tmp_path: Path
) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "catvton_ov", "bench", "--model", str(golden_bundle), "--size", "64x128", "--json",
         "--recipes", "notebook", "--rounds", "1", "--passes", "1", "--no-operations", "--work", str(tmp_path)],
        capture_output=True, encoding="utf-8", check=True, cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert [row["recipe"] for row in json.loads(ran.stdout)["rows"]] == ["notebook"]
    assert "Quantizing the UNet as the notebook does" in ran.stderr


def _plan(name: str) -> Any:
    from catvton_ov.shortcuts import plan_passes

    options = next(options for known, options in PRESETS.items() if known == name)
    return plan_passes(options.steps, options.guidance_scale, options.shortcuts)


@pytest.mark.slow
def test_torch_runs_where_the_bundle_tells_the_architecture_and_says_why_where_not(
    golden_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["bench", "--model", str(golden_bundle), "--size", "64x128", "--recipes", "torch", "--rounds", "1"]
    assert cli.main([*arguments, "--passes", "1", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert row["error"] is None
    assert row["seconds_per_picture"] > row["seconds_per_unet_pass"] > 0
    assert cli.main(["bench", "--recipes", "torch", "--rounds", "1", "--no-operations"]) == 0
    out = capsys.readouterr().out
    assert "| torch | 192x256 | could not run |" in out
    assert "brings no unet/config.json" in out


def test_bench_is_asked_wrongly(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "--recipes", "fast,furious"]) == 1
    assert "Unknown recipe 'furious'; expected some of torch, notebook" in capsys.readouterr().err
    with pytest.raises(OptionsError, match="rounds must be at least 1"):
        BenchOptions(rounds=0)


def test_bench_without_the_exporters_packages_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    for name in [name for name in sys.modules if name.startswith("catvton_ov.export.")]:
        monkeypatch.delitem(sys.modules, name)
    assert cli.main(["bench"]) == 1
    assert "nncf is missing: pip install -r requirements-export.txt" in capsys.readouterr().err


def test_the_table() -> None:
    row = Row(
        "fast", (384, 512), seconds_per_picture=60.0, seconds_per_picture_range=(58.0, 61.0), seconds_per_unet_pass=8.0,
        seconds_per_unet_pass_range=(7.5, 8.5), seconds_per_shallow_pass=1.0, passes=(6, 6),
        peak_rss_bytes=3_700_000_000, estimated=True, times_notebook=15.5, load=0.5, compile=6, first_pass=9, encode=3,
        decode=4, vae_range=(6, 8), operations={},
    )  # fmt: skip
    lines = list(render([row, dataclasses.replace(row, error="no memory", seconds_per_picture=None)]))
    assert (
        "| fast | 384x512 | ≈ 60 | 58 to 61 | 15.50 | 6 + 6 | 8 (7.5 to 8.5) | 1 | 7 (6 to 8) | 0.5 | 6 | 9 | 3.70 GB |"
        in lines
    )
    assert "fast at 384x512 could not run: no memory" in lines


def test_where_the_notebook_cannot_run_its_float_self_is_the_yardstick(
    golden_bundle: Path, work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(work, tmp_path / "work")
    (folder,) = (tmp_path / "work").glob("*/notebook")
    (folder / "unet" / "openvino_model.bin").unlink()
    arguments = ["bench", "--model", str(golden_bundle), "--size", "64x128", "--work", str(tmp_path / "work")]
    recipes = "notebook,notebook-fp16,fast"
    assert cli.main([*arguments, "--recipes", recipes, "--rounds", "1", "--passes", "1", "--no-operations"]) == 0
    out = capsys.readouterr().out
    assert "| notebook | 64x128 | could not run |" in out
    assert "At 64x128 the notebook's time is that of notebook-fp16." in out
    record = quantization_record(ov.Core().read_model(Bundle.open(folder.parent / "notebook-fp16").part("unet")))
    assert record["attentions_quantized"] == 0


@pytest.mark.slow
def test_random_weights_are_made_once_and_measured(tmp_path: Path) -> None:
    said: list[str] = []
    recipes = ("notebook", "notebook-fp16", "reference", "fast")
    bundles = random_bundles(tmp_path, recipes, said.append, "tiny")
    manifests = {recipe: Bundle.open(folder).manifest for recipe, folder in bundles.items()}
    assert manifests["fast"].quantization is not None
    assert manifests["fast"] == manifests["reference"]
    assert manifests["notebook"].quantization["recipe"] == "ptq"  # type: ignore[index]
    assert manifests["notebook-fp16"].quantization is None
    said.clear()
    assert random_bundles(tmp_path, recipes, said.append, "tiny") == bundles
    assert not said
