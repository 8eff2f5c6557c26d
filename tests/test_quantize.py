"""INT8: what each recipe does to the graph and to the numbers, and bundles made with it."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import pytest
from PIL import Image

from catvton_ov.bundle import Bundle, read_manifest
from catvton_ov.errors import ExportError
from catvton_ov.export import extras, int8, vae_int8
from catvton_ov.export.build import export_bundle
from catvton_ov.export.calibration import Pair, Sample, collect, find_pairs, guidance_of, model_pictures, split
from catvton_ov.export.extras import _labels_agree
from catvton_ov.export.int8 import quantize_bundle
from catvton_ov.export.options import CalibrationOptions, ExportOptions, OverflowFix, QuantizationOptions, Recipe
from catvton_ov.export.quantize import quantization_record, quantize_unet
from catvton_ov.export.random_checkpoints import SCALES
from catvton_ov.export.report import make_report
from catvton_ov.export.report_table import render
from catvton_ov.images import to_array, to_picture
from catvton_ov.machine import this_machine
from catvton_ov.masking import CATEGORIES
from catvton_ov.masking.densepose import PARTS as DENSEPOSE
from catvton_ov.masking.parsers import PUBLISHED, PublishedParser, open_parser
from catvton_ov.metrics import ssim
from catvton_ov.options import TryOnOptions
from catvton_ov.page.endpoints import Endpoints
from catvton_ov.page.engine import Engine
from catvton_ov.pictures.reader import OwnProcess
from catvton_ov.pictures.reading import as_rgb, open_picture
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.safety import SafetyChecker, notice_picture, open_checker
from catvton_ov.shortcuts import Shortcuts
from catvton_ov.sources import bundled_folder
from tools.random_checkpoints import write_all

EXAMPLES = bundled_folder() / "examples"
PLAN = CalibrationOptions(folder=EXAMPLES, runs=3, steps=3)


@pytest.fixture(scope="module")
def samples(golden_bundle: Path) -> list[Sample]:
    return list(collect(TryOnPipeline.load(golden_bundle), find_pairs(EXAMPLES, seed=0), PLAN))


@pytest.fixture(scope="module")
def int8_bundle(golden_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("int8") / "golden-int8"
    return quantize_bundle(golden_bundle, out, QuantizationOptions(calibration=PLAN))


def unet(bundle: Path) -> ov.Model:
    return ov.Core().read_model(Bundle.open(bundle).part("unet"))


def quantized(op: ov.Node) -> bool:
    """Whether an operation's first input comes out of a FakeQuantize, changes of layout apart."""
    node = op.input_value(0).get_node()
    while node.get_type_name() in ("Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "FakeQuantize")


def noise(model: ov.Model, samples: list[Sample]) -> np.ndarray:
    """The noise a UNet predicts for samples of one size, (N, C, 2h, w)."""
    compiled = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    largest = max(sample["sample"].size for sample in samples)
    return np.concatenate([compiled(each)[0] for each in samples if each["sample"].size == largest])


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.mean((actual - expected) ** 2) / np.mean(expected**2)))


def test_samples_come_from_every_kind_of_run(samples: list[Sample]) -> None:
    # Two of the three runs are guided, so they give two samples a step.
    assert len(samples) == 2 * 3 + 3 + 2 * 3
    timesteps = {int(sample["timestep"][0]) for sample in samples}
    assert len(timesteps) >= 3
    assert max(timesteps) - min(timesteps) > 500
    assert {sample["sample"].shape for sample in samples} == {(1, 9, 32, 8), (1, 9, 16, 8)}
    garments = [np.abs(sample["sample"][0, 5:, sample["sample"].shape[2] // 2 :]).max() for sample in samples]
    assert sum(value == 0 for value in garments) == 2 * 3  # the passes without the garment
    assert [pair.category for pair in find_pairs(EXAMPLES, seed=0)][:3] == ["upper", "lower", "overall"]


def test_every_category_is_seen_with_guidance_and_without() -> None:
    for categories in (["upper"], ["lower", "overall"], ["upper", "lower", "overall"], list(CATEGORIES)):
        runs = 2 * categories
        assert len(set(zip(runs, guidance_of(runs), strict=True))) == len(runs)
    assert guidance_of(["upper", "lower", "overall"]) == [True, False, True]


def test_agreement_about_nobody_is_no_evidence() -> None:
    nobody, somebody = np.zeros((1000, 10), np.uint8), np.ones((1000, 10), np.uint8)
    assert _labels_agree([nobody, nobody], [nobody, nobody]) == {"compressed": False, "label_agreement": None}
    assert _labels_agree([nobody, somebody], [nobody, somebody]) == {"compressed": True, "label_agreement": 1.0}
    other = somebody.copy()
    other[:30] = 2
    assert _labels_agree([nobody, somebody], [nobody, other]) == {"compressed": False, "label_agreement": 0.985}


def test_hybrid_quantizes_convolutions_and_leaves_attention_alone(golden_bundle: Path, samples: list[Sample]) -> None:
    expected = noise(unet(golden_bundle), samples)
    hybrid = quantize_unet(unet(golden_bundle), "hybrid", samples, overflow_fix=True)
    ptq = quantize_unet(unet(golden_bundle), "ptq", samples, overflow_fix=True)
    weights = quantize_unet(unet(golden_bundle), "weights", samples, overflow_fix=True)

    found = quantization_record(hybrid)
    assert (found["attentions"], found["attentions_quantized"]) == (10, 0)
    convolutions = [op for op in hybrid.get_ops() if op.get_type_name() == "Convolution"]
    assert len(convolutions) > 20
    assert all(quantized(op) for op in convolutions)
    assert not any(quantized(op) for op in hybrid.get_ops() if op.get_type_name() == "MatMul")

    # The recipe it is compared with takes every attention apart; the record can tell.
    assert quantization_record(ptq)["attentions_quantized"] == 10
    assert quantization_record(weights)["fake_quantize"] == 0

    errors = {name: relative(noise(model, samples), expected) for name, model in
              (("hybrid", hybrid), ("ptq", ptq), ("weights", weights))}  # fmt: skip
    # Random weights make much of rounding: trained ones lose far less (see docs/how-it-works.md). By the processor:
    # hybrid had less than 0.6 of ptq's error with AVX2 alone, and as much (0.35) with AVX-512 and VNNI.
    assert errors["weights"] < 0.15
    assert errors["hybrid"] < min(0.5, 1.1 * errors["ptq"])


def test_a_quantized_bundle_says_how_and_tries_on(golden_bundle: Path, int8_bundle: Path) -> None:
    before, bundle = Bundle.open(golden_bundle), Bundle.open(int8_bundle)
    manifest = bundle.manifest
    assert (before.manifest.precision, manifest.precision) == ("fp32", "int8")
    assert (manifest.sizes, manifest.sources) == (before.manifest.sizes, before.manifest.sources)
    assert (int8_bundle / "unet/openvino_model.bin").stat().st_size < 0.35 * before.manifest.files[
        "unet/openvino_model.bin"
    ].bytes
    record = json.loads((int8_bundle / "manifest.json").read_bytes())["quantization"]
    assert (record["recipe"], record["overflow_fix"]) == ("hybrid", True)
    assert record["unet"]["attentions_quantized"] == 0
    assert record["calibration"]["samples"] == 15
    assert record["calibration"]["sizes"] == [[64, 128], [64, 64]]
    assert len(record["calibration"]["pairs"]) == 3
    assert str(Path.home()) not in json.dumps(record)
    assert json.loads((int8_bundle / "openvino_config.json").read_bytes())["dtype"] == "int8"
    for name in manifest.files:
        bundle.verify(name)

    person, garment, mask = (Image.open(EXAMPLES / name) for name in
                             ("person/Ada.png", "garment/upper-dots.png", "mask/Ada-upper.png"))  # fmt: skip
    pictures = [
        np.asarray(TryOnPipeline.load(path)(person, garment, mask, TryOnOptions(steps=3, seed=1)).picture, np.float64)
        for path in (golden_bundle, int8_bundle)
    ]
    assert 0 < np.abs(pictures[0] - pictures[1]).mean() < 20  # random weights make much of small differences


@pytest.mark.parametrize(
    ("prices", "form"),
    [
        ({"int8": 100.0, "weights": 100.0}, "int8"),
        pytest.param({"int8": -100.0, "weights": 100.0}, "weights", marks=pytest.mark.slow),
        ({"int8": -100.0, "weights": -100.0}, "float"),
    ],
)
def test_each_half_of_the_vae_takes_the_quickest_form_that_is_not_too_dear(
    golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prices: dict[str, float], form: str
) -> None:
    monkeypatch.setattr(vae_int8, "PRICES", prices)  # as if it cost nothing, or a lot
    folder = shutil.copytree(golden_bundle, tmp_path / "out")
    bundle = Bundle.open(golden_bundle)
    pair = find_pairs(EXAMPLES, seed=0)[0]
    pictures = [to_array(as_rgb(open_picture(path, "picture"), "picture")) for path in (pair.person, pair.garment)]
    record = vae_int8.quantize_vae(
        bundle, Runtime(RuntimeOptions()), pictures, folder, ("int8", "weights"), overflow_fix=True
    )
    for part in ("vae_encoder", "vae_decoder"):
        assert record[part]["form"] == form
        types = [op.get_type_name() for op in ov.Core().read_model(folder / part / "openvino_model.xml").get_ops()]
        assert ("FakeQuantize" in types) == (form == "int8")
        stored, before = ((place / part / "openvino_model.bin").read_bytes() for place in (folder, golden_bundle))
        assert (stored == before) == (form == "float")


@pytest.mark.parametrize(
    ("recipe", "fix", "vnni", "recorded"),
    [
        ("none", "on", False, None),
        ("ptq", "on", False, None),
        ("hybrid", "auto", True, False),
        ("hybrid", "off", False, False),
    ],
)
def test_every_recipe_makes_a_bundle_and_records_the_overflow_fix_it_has(
    golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    recipe: Recipe, fix: OverflowFix, vnni: bool, recorded: bool | None,
) -> None:  # fmt: skip
    sets = ("avx2", "avx512_vnni") if vnni else ("avx2",)
    monkeypatch.setattr(int8, "this_machine", lambda: dataclasses.replace(this_machine(), instruction_sets=sets))
    plan = dataclasses.replace(PLAN, runs=1, steps=1)
    made = quantize_bundle(golden_bundle, tmp_path / "out", QuantizationOptions(recipe, fix, plan))
    record = json.loads((made / "manifest.json").read_bytes())["quantization"]
    assert (record["recipe"], record["overflow_fix"]) == (recipe, recorded)
    assert (record["unet"]["fake_quantize"] > 0) == (recipe != "none")
    assert record["vae"]["psnr"] == pytest.approx(record["vae"]["psnr_float"], abs=1)


def test_a_vae_that_nncf_cannot_quantize_keeps_its_float_weights(
    golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr(nncf, "quantize", fail)
    monkeypatch.setattr(nncf, "compress_weights", fail)
    folder = shutil.copytree(golden_bundle, tmp_path / "out")
    pictures = [to_array(Image.open(EXAMPLES / "person/Ada.png").convert("RGB"))]
    bundle, runtime = Bundle.open(golden_bundle), Runtime(RuntimeOptions())
    record = vae_int8.quantize_vae(bundle, runtime, pictures, folder, ("int8", "weights"), overflow_fix=True)
    assert record["vae_decoder"]["form"] == "float"
    assert "no kernel" in record["vae_decoder"]["failed_int8"]
    assert record["psnr"] == record["psnr_float"]
    with pytest.raises(ExportError, match=r"could not quantize a network .*no kernel"):
        quantize_unet(unet(golden_bundle), "weights", [], overflow_fix=True)


def test_what_cannot_be_quantized_is_refused_and_leaves_nothing(
    golden_bundle: Path, int8_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ExportError, match="INT8 bundle already"):
        quantize_bundle(int8_bundle, out, QuantizationOptions(calibration=PLAN))
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ExportError, match=r"mask/NAME-CATEGORY\.png"):
        quantize_bundle(golden_bundle, out, QuantizationOptions(calibration=dataclasses.replace(PLAN, folder=empty)))
    photos = tmp_path / "photos"
    shutil.copytree(EXAMPLES, photos)
    for path in (photos / "garment").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(ExportError, match=r"upper-.*png"):
        quantize_bundle(golden_bundle, out, QuantizationOptions(calibration=dataclasses.replace(PLAN, folder=photos)))
    out.mkdir()
    with pytest.raises(ExportError, match="exists already"):
        quantize_bundle(golden_bundle, out, QuantizationOptions(calibration=PLAN))
    assert sorted(os.listdir(tmp_path)) == ["empty", "out", "photos"]
    for wrong in ({"recipe": "int4"}, {"overflow_fix": "maybe"}):
        with pytest.raises(ExportError, match="expected"):
            QuantizationOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="at least 1"):
        CalibrationOptions(steps=0)


def test_held_back_pairs_are_not_calibrated_on() -> None:
    pairs = find_pairs(EXAMPLES, seed=PLAN.seed)
    used, kept = split(EXAMPLES, PLAN)
    assert (used, kept) == (pairs[: PLAN.runs], pairs[PLAN.runs :][: PLAN.held_back])
    assert len(kept) == PLAN.held_back

    def masks(pairs: list[Pair]) -> set[Path]:
        return {pair.mask for pair in pairs}

    assert not masks(used) & masks(kept)
    # Where the folder holds too few for every run, fewer are calibrated on, rather than those of the report.
    used, kept = split(EXAMPLES, dataclasses.replace(PLAN, runs=len(pairs)))
    assert (used, kept) == (pairs[: -PLAN.held_back], pairs[-PLAN.held_back :])


def sources(folder: Path) -> dict[str, Any]:
    """What `write_all` has written, for an export."""
    folders = {"base": "stable-diffusion-inpainting", "vae": "sd-vae-ft-mse", "catvton": "CatVTON"}
    return {role: str(folder / name) for role, name in folders.items()} | {"checkpoint": "vitonhd"}


@pytest.fixture(scope="module")
def guarded_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """INT8, with a safety checker, of random weights in the published layouts."""
    folder = tmp_path_factory.mktemp("random")
    write_all(folder, SCALES["tiny"], parsers=False)
    options = ExportOptions(
        **sources(folder),
        out=folder / "guarded",
        sizes=((64, 64),),
        parts=("tryon", "safety"),
        report="none",
        quantization=QuantizationOptions(calibration=dataclasses.replace(PLAN, runs=1, steps=1)),
    )
    return export_bundle(options)


def test_a_bundle_brings_its_safety_checker_and_the_page_obeys_it(guarded_bundle: Path) -> None:
    bundle = Bundle.open(guarded_bundle)
    assert set(bundle.manifest.parts) == {"unet", "vae_encoder", "vae_decoder", "safety_checker"}
    found = json.loads((guarded_bundle / "manifest.json").read_bytes())["quantization"]["extras"]["safety_checker"]
    assert found["largest_score_change"] < 0.02
    checker = open_checker(bundle, Runtime(RuntimeOptions()))
    assert checker is not None

    photo = Image.open(EXAMPLES / "person/Ada.png").convert("RGB")
    engine = Engine([str(guarded_bundle)])
    engine.pipeline(str(guarded_bundle), "CPU")
    mask = open_picture(EXAMPLES / "mask/Ada-upper.png").convert("L")
    seen = engine.screened(photo, mask)
    # Random concepts flag by chance; what counts is that the page shows what the checker says.
    flagged = checker.flagged(photo) or checker.flagged(photo.crop(mask.getbbox()))
    expected = notice_picture(photo.size) if flagged else photo
    assert np.array_equal(np.asarray(seen), np.asarray(expected))
    unguarded = Engine([str(guarded_bundle)], safety=False)
    unguarded.pipeline(str(guarded_bundle), "CPU")
    assert unguarded.screened(photo, mask) is photo


@pytest.mark.slow
def test_an_export_brings_the_parsers_and_keeps_float_weights_where_labels_would_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At full size, which is the only one that the parsers' layouts have; weights are random."""
    write_all(tmp_path, SCALES["tiny"], parsers=True)
    options = ExportOptions(
        **sources(tmp_path),
        out=tmp_path / "parsing",
        precision="fp16",
        sizes=((64, 64),),
        parts=("tryon", "parsers"),
        report="none",
    )
    float_bundle = export_bundle(options)
    assert set(Bundle.open(float_bundle).manifest.parts) == {"unet", "vae_encoder", "vae_decoder", *PUBLISHED}
    photo = Image.open(EXAMPLES / "person/Ada.png").convert("RGB")
    labels = {}
    for frugal in (True, False):
        parser = open_parser(Bundle.open(float_bundle), Runtime(RuntimeOptions()), frugal=frugal)
        assert isinstance(parser, PublishedParser)
        labels[frugal] = parser(photo)
        assert (parser.lip.network._request is None) == frugal
        serving = Engine([str(float_bundle)], keep_parsers=not frugal).parser(str(float_bundle), "CPU")
        assert isinstance(serving, PublishedParser)
        assert serving.frugal == frugal
    for name in ("densepose", "lip", "atr"):
        assert np.array_equal(getattr(labels[True], name), getattr(labels[False], name))
        assert getattr(labels[True], name).shape == photo.size[::-1]

    plan = QuantizationOptions("weights", calibration=dataclasses.replace(PLAN, runs=1, steps=1))
    for number, (agreement, compressed) in enumerate(((0.0, True), (1.1, False))):
        monkeypatch.setattr(extras, "AGREEMENT", agreement)
        made = quantize_bundle(float_bundle, tmp_path / f"int8-{number}", plan)
        record = read_manifest(made).quantization["extras"]  # type: ignore[index]
        for part in PUBLISHED:
            assert record[part]["compressed"] == compressed
            assert 0 <= record[part]["label_agreement"] <= 1
            sizes = [(place / part / "openvino_model.bin").stat().st_size for place in (float_bundle, made)]
            assert (sizes[1] < 0.6 * sizes[0]) == compressed


@pytest.mark.slow
def test_a_full_report_prices_the_presets_and_tells_what_8_bit_weights_changed(guarded_bundle: Path) -> None:
    (pair,) = pairs = find_pairs(EXAMPLES, seed=0)[:1]
    content = make_report({"guarded": guarded_bundle}, None, pairs, "full", [(8, 8)])  # no size to time at

    pipeline = TryOnPipeline.load(guarded_bundle)
    person, garment, mask = model_pictures(pipeline, pair, (64, 64))

    def made(steps: int, **choice: Any) -> np.ndarray:
        """What a preset is said to do, written out."""
        rng = np.random.default_rng(0)
        made = pipeline.generate(
            person, garment, mask, steps=steps, guidance_scale=2.5, eta=1.0,
            noise=lambda shape: rng.standard_normal(shape, dtype=np.float32), **choice,
        )  # fmt: skip
        return np.asarray(to_picture(made), np.float64)

    reference = made(50, sampler="ddim")
    fast = made(8, sampler="dpmpp_2m", spacing="trailing", shortcuts=Shortcuts(cache_every=3, guided=(0.125, 0.75)))
    inside = np.asarray(mask) >= 128
    assert 0 < inside.mean() < 1
    assert [row["preset"] for row in content["presets"]] == ["balanced", "fast"]
    row = content["presets"][1]
    assert (row["bundle"], row["pairs"]) == ("guarded", 1)
    for name, error in (("psnr", fast - reference), ("psnr_masked", (fast - reference)[inside])):
        assert row[name] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)))
    assert row["ssim"] == pytest.approx(ssim(fast, reference))

    found = read_manifest(guarded_bundle).quantization["extras"]["safety_checker"]  # type: ignore[index]
    vae = read_manifest(guarded_bundle).quantization["vae"]  # type: ignore[index]
    assert content["extras"] == {"guarded": {"vae": vae, "safety_checker": found}}
    table = render(content)
    assert f"| guarded | fast | {row['psnr']:.1f} | {row['psnr_masked']:.1f} | {row['ssim']:.4f} |" in table
    assert f"scores change by {found['largest_score_change']:.4f} at most" in table
    judged = {"compressed": False, "label_agreement": 0.87456}  # the parsers' networks exist in full size only
    table = render({**content, "extras": {"guarded": dict.fromkeys(("schp_lip", *DENSEPOSE), judged)}})
    for name in ("schp_lip", "densepose"):
        assert table.count(f"| guarded | {name} | no | 87.46 % of labels agree |") == 1


@pytest.mark.parametrize("flagged", [True, False])
def test_a_flagged_result_is_never_shown(
    guarded_bundle: Path, flagged: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The scores are random here, so their sign is set; everything else is the endpoint's own way."""
    monkeypatch.setattr(
        SafetyChecker, "scores", lambda self, picture: np.full((1, 20), 0.1 if flagged else -0.1, np.float32)
    )
    mask = Image.new("L", (96, 96))
    mask.paste(255, (20, 20, 70, 70))
    for name, picture in {"person": Image.new("RGB", (96, 96), "gray"), "mask": mask}.items():
        picture.save(tmp_path / f"{name}.png")
    person, painted = (str(tmp_path / f"{name}.png") for name in ("person", "mask"))
    endpoints = Endpoints(Engine([str(guarded_bundle)]), OwnProcess())
    picture, _, _ = endpoints.try_on_files(person, person, painted, steps=1, seed=0)
    assert np.array_equal(np.asarray(picture), np.asarray(notice_picture((96, 96)))) is flagged
