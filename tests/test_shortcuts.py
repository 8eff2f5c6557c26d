"""Shortcuts through the UNet: the edited graphs give what they should, and the pipeline runs what was planned."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image

from catvton_ov.errors import BundleDamagedError, OptionsError
from catvton_ov.export.configs import read_unet_config
from catvton_ov.export.unet import NoisePredictor, load_unet, self_attentions
from catvton_ov.graph import give_deep, start_from_deep, thin_keys
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, default_preset, default_size, preset
from catvton_ov.shortcuts import Keys, Pass, Shortcuts, plan_passes
from catvton_ov.sources import bundled_folder

GOLDEN = Path(__file__).parent / "golden" / "tryon"
ROWS, COLUMNS = 32, 8  # the UNet's input at 64x128: both halves


def edited(xml: Path, edit: Any, rows: int = ROWS, columns: int = COLUMNS) -> Any:
    core = ov.Core()
    model = core.read_model(xml)
    channels = model.input("sample").get_partial_shape()[1].get_length()
    model.reshape({"sample": [1, channels, rows, columns], "timestep": [1]})
    edit(model)
    return core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def sample(channels: int, rows: int = ROWS, columns: int = COLUMNS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"sample": rng.standard_normal((1, channels, rows, columns), "f4"), "timestep": np.array([501])}


@pytest.mark.parametrize("keys", ["all", "thinned"])
@pytest.mark.parametrize("source", ["golden", "paper_doll"])
def test_a_shallow_pass_from_its_own_deep_feature_is_the_full_pass(
    golden_bundle: Path, source: str, keys: Keys
) -> None:
    golden = source == "golden"
    xml = (golden_bundle if golden else bundled_folder()) / "unet" / "openvino_model.xml"
    given = sample(9 if golden else 33)

    def full(model: ov.Model) -> None:
        thin_keys(model, keys)
        give_deep(model)

    def shallow(model: ov.Model) -> None:
        thin_keys(model, keys)
        start_from_deep(model)

    plain = edited(xml, lambda model: thin_keys(model, keys))(given)[0]
    first = edited(xml, full)(given)
    second = edited(xml, shallow)({**given, "deep": first["deep"]})
    scale = np.abs(plain).max()
    assert np.abs(first["noise_pred"] - plain).max() <= 1e-5 * scale
    assert np.abs(second["noise_pred"] - plain).max() <= 1e-5 * scale


def test_a_shallow_graph_is_small_and_as_quantized_as_the_full_one() -> None:
    xml = bundled_folder() / "unet" / "openvino_model.xml"
    counts = []
    for edit in (give_deep, start_from_deep):
        model = ov.Core().read_model(xml)
        edit(model)
        types = [op.get_type_name() for op in model.get_ordered_ops()]
        counts.append((types.count("Convolution"), types.count("FakeQuantize"), types.count("MatMul")))
    full, shallow = counts
    assert all(0 < few < many / 2 for few, many in zip(shallow, full, strict=True))


class Thinned:
    """Attention over chosen keys and values, in torch."""

    def __init__(self, kept: torch.Tensor) -> None:
        self.kept = kept

    def __call__(self, attn: Any, hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        seen = hidden_states[:, self.kept]
        heads = [
            states.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for states in (attn.to_q(hidden_states), attn.to_k(seen), attn.to_v(seen))
        ]
        mixed = torch.nn.functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        return attn.to_out[0](mixed)


@pytest.mark.parametrize("keys", ["person-thinned", "thinned"])
def test_thinned_keys_are_those_of_every_second_row_and_column(golden_bundle: Path, keys: Keys) -> None:
    base, attention = GOLDEN / "stable-diffusion-inpainting/unet", GOLDEN / "CatVTON/mix-48k-1024/attention"
    config = read_unet_config(base / "config.json")
    weights = next(path for path in base.iterdir() if path.suffix in (".bin", ".safetensors"))
    reference: NoisePredictor = load_unet(config, weights, attention / "model.safetensors")

    grid = torch.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    person, garment = grid[: ROWS // 2], grid[ROWS // 2 :]
    garment = garment[::2, ::2] if keys == "thinned" else garment
    kept = torch.cat([person[::2, ::2].flatten(), garment.flatten()])
    width = config["block_out_channels"][0]
    for module in self_attentions(reference.unet).values():
        if module.to_q.in_features == width and _at_first_level(reference, module):
            module.set_processor(Thinned(kept))
    given = sample(9)
    with torch.inference_mode():
        expected = reference(torch.from_numpy(given["sample"]), torch.from_numpy(given["timestep"])).numpy()
    xml = golden_bundle / "unet" / "openvino_model.xml"
    ours = edited(xml, lambda model: thin_keys(model, keys))(given)[0]
    plain = edited(xml, lambda model: None)(given)[0]
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()
    assert np.abs(plain - expected).max() > 1e-3 * np.abs(expected).max()  # it does make a difference


def _at_first_level(reference: NoisePredictor, module: torch.nn.Module) -> bool:
    last = len(reference.unet.up_blocks) - 1
    places = ("down_blocks.0.", f"up_blocks.{last}.")
    return any(found is module and name.startswith(places) for name, found in reference.unet.named_modules())


def test_a_graph_of_another_kind_is_refused(golden_bundle: Path) -> None:
    model = ov.Core().read_model(golden_bundle / "vae_decoder" / "openvino_model.xml")
    with pytest.raises(BundleDamagedError, match=r"allows no shortcut: .* preset reference"):
        start_from_deep(model)


def test_the_plan_of_passes() -> None:
    full, shallow = (lambda branch: Pass(branch, True)), (lambda branch: Pass(branch, False))
    plan = plan_passes(6, 2.5, Shortcuts(cache_every=3, full_steps=(5,), guided=(0.2, 0.7)))
    both = ("unconditional", "conditional")
    assert plan == [
        (full("conditional"),),
        (full("unconditional"), shallow("conditional")),  # this branch has left nothing yet
        tuple(shallow(branch) for branch in both),
        tuple(full(branch) for branch in both),
        (shallow("conditional"),),
        (full("conditional"),),
    ]
    assert plan_passes(2, 1.0, Shortcuts()) == [(full("conditional"),)] * 2
    assert plan_passes(2, 1.1, Shortcuts()) == [tuple(full(branch) for branch in both)] * 2


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"cache_every": 0}, "cache_every must be a whole number from 1; got 0"),
        ({"cache_every": 1.5}, "got 1.5"),
        ({"keys": "few"}, "Unknown keys 'few'; expected one of all, person-thinned, thinned"),
        ({"guided": (0.5, 0.4)}, "guided must be two shares"),
        ({"guided": (0, float("nan"))}, "guided must be two shares"),
        ({"guided": (1,)}, "guided must be two shares"),
        ({"guided": None}, "guided must be two shares"),
        ({"full_steps": (-1,)}, "full_steps must be whole numbers"),
        ({"full_steps": 3}, "full_steps must be whole numbers"),
    ],
)
def test_shortcuts_are_checked(fields: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionsError, match=fault):
        Shortcuts(**fields)


@pytest.mark.parametrize(
    "fields", [{"size": "384x512"}, {"size": (384,)}, {"size": (384.0, 512)}, {"shortcuts": None}, {"blur": "soft"}]
)
def test_options_of_another_type_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(OptionsError, match=next(iter(fields))):
        TryOnOptions(**fields)


@pytest.fixture(scope="module")
def pipeline(golden_bundle: Path) -> TryOnPipeline:
    return TryOnPipeline.load(golden_bundle, precision="f32")


def try_on(pipeline: TryOnPipeline, options: TryOnOptions) -> np.ndarray:
    pictures = (Image.open(GOLDEN / f"{name}.png") for name in ("person", "garment", "mask"))
    return np.asarray(pipeline(*pictures, options).picture, int)


def test_the_pipeline_takes_the_shortcuts_and_finds_back(pipeline: TryOnPipeline) -> None:
    exact = TryOnOptions(steps=4, seed=1)
    expected = try_on(pipeline, exact)
    nothing_left_out = Shortcuts(cache_every=2, full_steps=(1, 3))
    assert np.abs(try_on(pipeline, dataclasses.replace(exact, shortcuts=nothing_left_out)) - expected).max() <= 1
    pictures = [
        try_on(pipeline, dataclasses.replace(exact, shortcuts=shortcuts))
        for shortcuts in (Shortcuts(cache_every=2), Shortcuts(keys="thinned"), Shortcuts(guided=(0, 0.5)))
    ]
    assert all((picture != expected).any() for picture in pictures)
    again = dataclasses.replace(exact, shortcuts=Shortcuts(cache_every=2))
    assert (try_on(pipeline, again) == pictures[0]).all()  # nothing is left over from the last picture
    assert (try_on(pipeline, exact) == expected).all()


def test_presets() -> None:
    assert PRESETS["reference"] == TryOnOptions(steps=50, sampler="ddim", eta=1.0, shortcuts=Shortcuts())
    changed = preset("fast", steps=7, seed=None, guidance_scale=3.0)
    assert (changed.steps, changed.guidance_scale) == (7, 3.0)
    assert changed.shortcuts == PRESETS["fast"].shortcuts
    with pytest.raises(OptionsError, match="Unknown preset 'quick'; expected one of reference, balanced, fast"):
        preset("quick")
    assert default_preset("GPU") == "balanced"
    assert default_preset("CPU") in ("fast", "balanced")


def test_few_cores_are_given_the_smallest_of_a_models_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = ((768, 1024), (576, 768), (384, 512))
    for cores, expected in ((2, (384, 512)), (16, (768, 1024))):
        monkeypatch.setattr("catvton_ov.presets.cores", lambda cores=cores: cores)
        assert default_size(sizes, "CPU") == expected
        assert default_size(sizes, "GPU") == (768, 1024)
