"""The pipeline: the reference's numbers at every step, the photo's own pixels around the mask, and clear refusals."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from PIL import Image

from catvton_ov import pipeline as pipeline_module
from catvton_ov import runtime
from catvton_ov.bundle import MANIFEST, Bundle, record_files
from catvton_ov.errors import BundleDamagedError, BundleNotFoundError, InputError, MaskError, OptionsError
from catvton_ov.images import Frame, blur_mask, fit_garment, repaint, to_picture
from catvton_ov.options import FRAMINGS, TryOnOptions, TryOnResult, TryOnStep
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Network, Runtime, RuntimeOptions
from catvton_ov.shortcuts import Shortcuts

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "tryon"
TRACES = ("steps4_cfg2.5_eta0.0", "steps4_cfg2.5_eta1.0", "steps5_cfg1.0_eta1.0", "steps20_cfg3.5_eta1.0")
MODEL = (64, 128)
QUICK = TryOnOptions(steps=2, seed=7)


@pytest.fixture(scope="module")
def pipeline(golden_bundle: Path) -> TryOnPipeline:
    return TryOnPipeline.load(golden_bundle, precision="f32")


class Counted:
    """A network that counts its calls and otherwise is what it is."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.calls = 0

    def __call__(self, **inputs: Any) -> Any:
        self.calls += 1
        return self.network(**inputs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)


@pytest.fixture
def unet(pipeline: TryOnPipeline, monkeypatch: pytest.MonkeyPatch) -> Counted:
    """The pipeline's UNet, counted."""
    counted = Counted(pipeline.unet._full)
    monkeypatch.setattr(pipeline.unet, "_full", counted)
    return counted


def golden(name: str) -> Image.Image:
    return Image.open(GOLDEN / f"{name}.png")


def inputs() -> tuple[Image.Image, Image.Image, Image.Image]:
    return golden("person"), golden("garment"), golden("mask")


def colours(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def box_mask(size: tuple[int, int]) -> Image.Image:
    (w, h), mask = size, Image.new("L", size)
    mask.paste(255, (w * 3 // 8, h * 3 // 8, w * 5 // 8, h * 5 // 8))
    return mask


def same(one: Image.Image, other: Image.Image) -> bool:
    return one.mode == other.mode and one.size == other.size and one.tobytes() == other.tobytes()


def relative(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


def off_by(picture: Image.Image, name: str) -> int:
    return int(np.abs(np.asarray(picture, int) - np.asarray(golden(name), int)).max())


# --- the same as the reference -----------------------------------------------------------------------------------


@pytest.mark.parametrize("trace", TRACES)
def test_generate_follows_the_reference_step_by_step(pipeline: TryOnPipeline, trace: str) -> None:
    """Running free, from the golden noise alone.

    The UNet's outputs of the 20-step trace are held to 5e-3 here and not to 1e-3: its random weights amplify rounding
    300-fold at guidance 3.5. Ours are off by 2.9e-3, the authors' own torch code in float64 by 2.8e-3, and in float32
    with batch 1 instead of 2 by 3.1e-3, while inputs and latents stay within 6.6e-4. What the UNet makes of the
    golden's inputs is checked below, for every trace, to 1e-4.
    """
    vectors = np.load(GOLDEN / f"trace_{trace}.npz")
    steps, cfg, eta = (float(part.lstrip("stepcfga")) for part in trace.split("_"))
    draws = [vectors["initial_noise"], *vectors["variance_noise"]]
    left = iter(draws)

    def noise(shape: tuple[int, ...]) -> np.ndarray:
        drawn = next(left)
        assert shape == drawn.shape
        return drawn

    seen: list[tuple[np.ndarray, ...]] = []
    decoded = pipeline.generate(
        golden("person_cropped"), golden("garment_padded"), golden("mask_blurred"),
        steps=int(steps), guidance_scale=cfg, sampler="ddim", eta=eta, noise=noise,
        on_step=lambda *arrays: seen.append(tuple(array.copy() for array in arrays)),
    )  # fmt: skip

    assert next(left, None) is None  # all the noise was drawn, and no more
    assert len(seen) == steps
    output_tolerance = 5e-3 if trace == "steps20_cfg3.5_eta1.0" else 1e-3
    for index, (unet_input, noise_pred, latents) in enumerate(seen):
        assert relative(unet_input, vectors["unet_input"][index]) <= 1e-3, index
        assert relative(noise_pred, vectors["unet_output"][index]) <= output_tolerance, index
        assert relative(latents, vectors["latents_after_step"][index]) <= 1e-3, index
    assert (decoded.shape, decoded.dtype) == ((1, 3, 128, 64), np.float32)
    picture = to_picture(decoded)
    assert off_by(picture, f"result_{trace}") <= 2
    assert off_by(repaint(picture, golden("person_cropped"), golden("mask_blurred")), f"repainted_{trace}") <= 2


@pytest.mark.parametrize("trace", TRACES)
def test_unet_makes_the_reference_outputs_of_the_reference_inputs(pipeline: TryOnPipeline, trace: str) -> None:
    vectors = np.load(GOLDEN / f"trace_{trace}.npz")
    for t, samples, expected in zip(
        vectors["timesteps"], vectors["unet_input"], vectors["unet_output"], strict=True
    ):  # one pass after the other, as the pipeline runs them
        passes = [pipeline.unet(sample=sample[None], timestep=np.array([t])) for sample in samples]
        assert relative(np.concatenate(passes), expected) <= 1e-4


def test_a_call_is_generate_on_the_framed_pictures_pasted_back(pipeline: TryOnPipeline) -> None:
    person, garment, mask = inputs()
    options = TryOnOptions(steps=3, eta=0.5, seed=11, framing="center")
    frame = Frame.center(person.size, MODEL)
    soft = blur_mask(frame.cut_mask(mask), 9)
    rng = np.random.default_rng(11)
    decoded = pipeline.generate(
        frame.cut(person), fit_garment(garment, MODEL), soft,
        steps=3, guidance_scale=2.5, sampler="ddim", eta=0.5, noise=lambda shape: rng.standard_normal(shape, "f4"),
    )  # fmt: skip
    expected = frame.paste_back(person, to_picture(decoded), soft)
    assert same(pipeline(person, garment, mask, options).picture, expected)


@pytest.mark.parametrize(
    ("sampler", "eta", "guidance", "draws", "passes"),
    [
        ("ddim", 1.0, 2.5, 4, 6),
        ("ddim", 0.2, 1.0, 4, 3),
        ("ddim", 0.0, 0.5, 1, 3),
        ("dpmpp_2m", 1.0, 1.01, 1, 6),
    ],
)
def test_noise_is_drawn_and_the_unet_run_only_as_often_as_needed(
    pipeline: TryOnPipeline, unet: Counted, sampler: str, eta: float, guidance: float, draws: int, passes: int
) -> None:
    rng = np.random.default_rng(0)
    shapes: list[tuple[int, ...]] = []

    def noise(shape: tuple[int, ...]) -> np.ndarray:
        shapes.append(shape)
        return rng.standard_normal(shape, np.float32)

    decoded = pipeline.generate(
        np.asarray(golden("person_cropped")), np.asarray(golden("garment_padded")), np.asarray(golden("mask_blurred")),
        steps=3, guidance_scale=guidance, sampler=sampler, eta=eta, noise=noise,
    )  # fmt: skip
    assert shapes == [(1, 4, 32, 8)] * draws
    assert unet.calls == passes
    assert np.isfinite(decoded).all()


# --- seeds -------------------------------------------------------------------------------------------------------

RUN = """
import sys
from PIL import Image
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
bundle, golden, *seeds = sys.argv[1:]
pictures = [Image.open(f"{golden}/{name}.png") for name in ("person", "garment", "mask")]
pipeline = TryOnPipeline.load(bundle, precision="f32")
for seed in seeds:
    result = pipeline(*pictures, TryOnOptions(steps=2, seed=int(seed)))
    print(result.seed, result.picture.tobytes().hex())
"""


def test_a_seed_gives_the_same_picture_in_another_process_which_writes_nothing(
    pipeline: TryOnPipeline, golden_bundle: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    env = {"HOME": str(home), "TMPDIR": str(home), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "PATH": ""}
    command = [sys.executable, "-c", RUN, str(golden_bundle), str(GOLDEN), "7", "0", "4294967295"]
    before = sorted((path, path.stat().st_mtime_ns) for path in golden_bundle.rglob("*"))
    run = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=env, cwd=home, timeout=300)
    there = dict(line.split() for line in run.stdout.splitlines())
    here = {
        str(seed): pipeline(*inputs(), dataclasses.replace(QUICK, seed=seed)).picture.tobytes().hex()
        for seed in (7, 0, 4294967295)
    }
    assert there == here
    assert len(set(here.values())) == 3
    assert not list(home.rglob("*"))  # no cache unless a folder for it is given
    assert sorted((path, path.stat().st_mtime_ns) for path in golden_bundle.rglob("*")) == before


def test_without_a_seed_one_is_drawn_and_told(pipeline: TryOnPipeline) -> None:
    drawn = [pipeline(*inputs(), dataclasses.replace(QUICK, seed=None)) for _ in range(2)]
    assert drawn[0].seed != drawn[1].seed
    assert not same(drawn[0].picture, drawn[1].picture)
    again = pipeline(*inputs(), dataclasses.replace(QUICK, seed=drawn[0].seed))
    assert same(again.picture, drawn[0].picture)


@pytest.mark.parametrize(
    "change",
    [{"sampler": "dpmpp_2m"}, {"eta": 0.0}, {"guidance_scale": 1.0}, {"spacing": "trailing"}, {"blur": 0},
     {"framing": "center"}, {"steps": 3}, {"size": (80, 160)}],
)  # fmt: skip
def test_every_option_makes_a_difference(pipeline: TryOnPipeline, change: dict[str, Any]) -> None:
    plain = pipeline(*inputs(), QUICK)
    changed = pipeline(*inputs(), dataclasses.replace(QUICK, **change))
    assert changed.picture.size == plain.picture.size
    assert not same(changed.picture, plain.picture)


# --- the photo ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [(84, 159), (201, 63), (31, 240), (333, 444)])
def test_the_result_has_the_photos_size_and_its_pixels_outside_the_mask(
    pipeline: TryOnPipeline, framing: Any, size: tuple[int, int]
) -> None:
    photo, mask = colours(size), box_mask(size)
    options = TryOnOptions(steps=1, seed=1, guidance_scale=1, framing=framing, blur=2)
    result = pipeline(photo, golden("garment"), mask, options).picture
    assert (result.mode, result.size) == ("RGB", size)

    before, after = np.asarray(photo), np.asarray(result)
    seen = Frame.of(framing, mask, MODEL).seen
    inside = np.zeros(before.shape[:2], bool)
    inside[seen[1] : seen[3], seen[0] : seen[2]] = np.asarray(mask.crop(seen)) == 255
    pixel = max((seen[2] - seen[0]) / MODEL[0], (seen[3] - seen[1]) / MODEL[1])  # the model's, in the photo's
    reach = int(np.ceil(9 * pixel))  # of a blur of 2 and of resampling there and back
    rows, columns = inside.any(1).nonzero()[0], inside.any(0).nonzero()[0]
    near = np.zeros_like(inside)
    near[max(rows[0] - reach, 0) : rows[-1] + reach + 1, max(columns[0] - reach, 0) : columns[-1] + reach + 1] = True
    assert not near.all()
    assert np.array_equal(after[~near], before[~near])
    assert (after[inside] != before[inside]).mean() > 0.9


def test_a_photo_taken_sideways_gives_the_picture_of_the_upright_one(pipeline: TryOnPipeline) -> None:
    person, garment, mask = inputs()
    exif = Image.Exif()
    exif[0x0112] = 6
    sideways = []
    for picture in (person, garment, mask):
        stream = io.BytesIO()
        picture.transpose(Image.Transpose.ROTATE_90).save(stream, "PNG", exif=exif)
        sideways.append(Image.open(stream))
    expected = pipeline(person, garment, mask, QUICK).picture
    assert same(pipeline(*sideways, QUICK).picture, expected)
    assert same(pipeline(sideways[0], garment, mask, QUICK).picture, expected)  # a mask painted on the upright photo


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_pictures_of_any_mode_can_be_worn(pipeline: TryOnPipeline, mode: str) -> None:
    person, garment, mask = inputs()
    if mode == "I;16":
        garment = Image.fromarray(np.asarray(garment.convert("L")).astype(np.uint16) * 257)
    else:
        person, garment = person.convert(mode), garment.convert(mode)
    result = pipeline(person, garment, mask.convert("1"), QUICK)
    assert (result.picture.mode, result.picture.size) == ("RGB", person.size)


# --- step by step ------------------------------------------------------------------------------------------------


def test_steps_tells_every_step_and_the_result_last(pipeline: TryOnPipeline) -> None:
    options = dataclasses.replace(QUICK, steps=5)
    plain = list(pipeline.steps(*inputs(), options))
    told = [(item.step, item.total, item.preview) for item in plain if isinstance(item, TryOnStep)]
    assert told == [(number, 5, None) for number in range(1, 6)]
    assert len(plain) == 6
    assert isinstance(plain[-1], TryOnResult)
    assert set(plain[-1].seconds) == {"prepare", "encode", "denoise", "decode", "paste"}
    assert all(seconds >= 0 for seconds in plain[-1].seconds.values())

    *steps, result = pipeline.steps(*inputs(), options, preview_every=2)
    assert isinstance(result, TryOnResult)
    assert same(result.picture, plain[-1].picture)
    previews = {item.step: item.preview for item in steps if isinstance(item, TryOnStep) and item.preview}
    assert list(previews) == [2, 4]
    for preview in previews.values():
        assert preview.size == golden("person").size
        assert not same(preview, result.picture)
        assert np.array_equal(np.asarray(preview)[0], np.asarray(golden("person"))[0])  # pasted back, like the result


def test_closing_stops_the_work_and_the_pipeline_goes_on_serving(pipeline: TryOnPipeline, unet: Counted) -> None:
    expected = pipeline(*inputs(), QUICK).picture
    unet.calls = 0
    running = pipeline.steps(*inputs(), dataclasses.replace(QUICK, steps=50))
    assert unet.calls == 0  # nothing is done before the first item is asked for
    next(running)
    next(running)
    running.close()  # type: ignore[attr-defined]
    assert unet.calls == 4
    with pytest.raises(StopIteration):
        next(running)
    assert same(pipeline(*inputs(), QUICK).picture, expected)


def test_a_part_is_compiled_once_for_each_change_of_size(pipeline: TryOnPipeline) -> None:
    def requests() -> list[Any]:
        return [part._request for part in (pipeline.unet._full, pipeline.vae_encoder, pipeline.vae_decoder)]

    expected = pipeline(*inputs(), QUICK).picture
    first = requests()
    pipeline(*inputs(), dataclasses.replace(QUICK, seed=1, framing="mask", sampler="dpmpp_2m"))
    assert all(now is then for now, then in zip(requests(), first, strict=True))
    pipeline(*inputs(), dataclasses.replace(QUICK, size=(80, 160)))
    assert all(now is not then for now, then in zip(requests(), first, strict=True))
    assert same(pipeline(*inputs(), QUICK).picture, expected)


def test_a_released_part_compiles_again(pipeline: TryOnPipeline) -> None:
    expected = pipeline(*inputs(), QUICK).picture
    for part in (pipeline.unet._full, pipeline.vae_encoder, pipeline.vae_decoder):
        part.release()
    assert same(pipeline(*inputs(), QUICK).picture, expected)


def test_models_of_a_fixed_size_serve_any_size(golden_bundle: Path, pipeline: TryOnPipeline, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "fixed")
    shapes = {"unet": {"sample": [2, 9, 64, 16], "timestep": [1]}, "vae_encoder": {"picture": [1, 3, 64, 64]},
              "vae_decoder": {"latent": [3, 4, 8, 8]}}  # fmt: skip
    for part, shape in shapes.items():
        model = ov.Core().read_model(golden_bundle / part / "openvino_model.xml")
        model.reshape(shape)
        ov.save_model(model, folder / part / "openvino_model.xml", compress_to_fp16=False)
    manifest = dataclasses.replace(Bundle.open(golden_bundle).manifest, files=record_files(folder))
    (folder / MANIFEST).write_bytes(manifest.to_json())
    fixed = TryOnPipeline.load(folder, precision="f32")
    for size in (None, (80, 160)):
        options = dataclasses.replace(QUICK, size=size)
        ours, theirs = (np.asarray(p(*inputs(), options).picture, int) for p in (fixed, pipeline))
        assert np.abs(ours - theirs).max() <= 1


# --- device, threads, precision, cache ---------------------------------------------------------------------------


def test_an_unknown_device_is_told_the_known_ones(golden_bundle: Path) -> None:
    with pytest.raises(OptionsError, match=r"There is no device 'NPU9' here; available: .*CPU.*, AUTO\."):
        TryOnPipeline.load(golden_bundle, "NPU9")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"threads": 0}, "threads must be at least 1; got 0"),
        ({"threads": -2}, "threads must be at least 1; got -2"),
        ({"precision": "int4"}, "precision must be f32, f16 or bf16; got 'int4'"),
    ],
)
def test_runtime_options_are_checked(golden_bundle: Path, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(OptionsError, match=fault):
        RuntimeOptions(**options)
    with pytest.raises(OptionsError, match=fault):
        TryOnPipeline.load(golden_bundle, **options)


def test_auto_and_one_thread_give_nearly_the_same_picture(golden_bundle: Path, pipeline: TryOnPipeline) -> None:
    other = TryOnPipeline.load(golden_bundle, "AUTO", threads=1, precision="f32")
    ours, theirs = (np.asarray(p(*inputs(), QUICK).picture, int) for p in (other, pipeline))
    assert np.abs(ours - theirs).max() <= 2
    compiled = other.unet._full._request.get_compiled_model()
    assert compiled.get_property("EXECUTION_DEVICES") in (["CPU"], "CPU", ["(CPU)"], "(CPU)")


def test_where_pictures_are_large_the_vae_is_let_go_after_its_use(
    golden_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, frugal = TryOnPipeline.load(golden_bundle), TryOnPipeline.load(golden_bundle)
    expected = kept(*inputs(), QUICK).picture
    monkeypatch.setattr(pipeline_module, "LARGE", 1)
    at_first_step = None
    for item in frugal.steps(*inputs(), QUICK):
        at_first_step = at_first_step or (frugal.vae_encoder._request, frugal.vae_decoder._request)
        if isinstance(item, TryOnResult):
            assert np.array_equal(np.asarray(item.picture), np.asarray(expected))
    assert at_first_step == (None, None)
    assert (frugal.vae_encoder._request, frugal.vae_decoder._request) == (None, None)
    assert kept.vae_encoder._request is not None


@pytest.mark.parametrize(("cores", "afterwards"), [(2, True), (8, False)])
def test_on_few_cores_the_unet_is_compiled_after_the_encoding(
    golden_bundle: Path, monkeypatch: pytest.MonkeyPatch, cores: int, afterwards: bool
) -> None:
    monkeypatch.setattr(pipeline_module, "cores", lambda: cores)
    made = TryOnPipeline.load(golden_bundle)
    here, prepare, found = threading.get_ident(), made.unet.prepare, []

    def prepared(sample: tuple[int, ...]) -> None:
        found.append((threading.get_ident() == here, made.vae_encoder._request is not None))
        prepare(sample)

    monkeypatch.setattr(made.unet, "prepare", prepared)
    next(made.steps(*inputs(), dataclasses.replace(QUICK, shortcuts=Shortcuts(cache_every=2))))
    ((in_turn, encoded),) = found
    assert in_turn == afterwards
    assert encoded or not afterwards
    assert made.unet._shallow._request is not None  # shallow passes wait for no compiling


def test_a_containers_quota_is_the_number_of_threads(golden_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, expected in ((None, 1), (2, 2)):  # what is asked for counts more
        monkeypatch.setattr(runtime, "quota_cores", lambda: 1)
        part = TryOnPipeline.load(golden_bundle, threads=given).vae_encoder
        part.prepare(picture=(1, 3, 64, 64))
        assert part._request is not None
        assert part._request.get_compiled_model().get_property("INFERENCE_NUM_THREADS") == expected


def loaded_from_cache(pipeline: TryOnPipeline) -> list[bool]:
    parts = (pipeline.unet._full, pipeline.vae_encoder, pipeline.vae_decoder)
    return [part._request.get_compiled_model().get_property("LOADED_FROM_CACHE") for part in parts]


def garbage(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


def test_a_cache_is_used_and_a_corrupt_one_is_not(golden_bundle: Path, pipeline: TryOnPipeline, tmp_path: Path) -> None:
    expected = pipeline(*inputs(), QUICK).picture
    cache = tmp_path / "cache"

    def run() -> list[bool]:
        cached = TryOnPipeline.load(golden_bundle, precision="f32", cache_dir=cache)
        assert same(cached(*inputs(), QUICK).picture, expected)
        return loaded_from_cache(cached)

    assert run() == [False, False, False]
    files = sorted((path for path in cache.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    weights = (golden_bundle / "unet/openvino_model.bin").stat().st_size
    assert len(files) == 3
    assert sum(path.stat().st_size for path in files) < weights  # it holds no weights of its own
    assert run() == [True, True, True]
    for path, spoil in zip(files, (garbage, lambda content: content[: len(content) // 2], lambda _: b""), strict=True):
        path.write_bytes(spoil(path.read_bytes()))
    assert run() == [False, False, False]
    assert run() == [True, True, True]  # it was written anew


def test_two_bundles_of_one_shape_share_a_cache_without_mixing(golden_bundle: Path, tmp_path: Path) -> None:
    other = shutil.copytree(golden_bundle, tmp_path / "other")
    path = other / "vae_decoder/openvino_model.bin"
    weights = np.fromfile(path, np.uint8)
    weights[4000:6000] = 0
    weights.tofile(path)
    manifest = dataclasses.replace(Bundle.open(golden_bundle).manifest, files=record_files(other))
    (other / MANIFEST).write_bytes(manifest.to_json())

    def decode(folder: Path, **runtime: Any) -> bytes:
        latent = np.random.default_rng(0).standard_normal((1, 4, 16, 8), np.float32)
        return TryOnPipeline.load(folder, **runtime).vae_decoder(latent=latent).tobytes()

    plain = [decode(folder) for folder in (golden_bundle, other)]
    assert plain[0] != plain[1]
    for _ in range(2):
        assert [decode(folder, cache_dir=tmp_path / "cache") for folder in (golden_bundle, other)] == plain


def test_a_cache_folder_that_cannot_be_made_is_done_without(golden_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    pipeline = TryOnPipeline.load(golden_bundle, cache_dir=tmp_path / "file")
    assert pipeline(*inputs(), QUICK).picture.size == golden("person").size
    assert (tmp_path / "file").read_text() == "in the way"


# --- bad input ---------------------------------------------------------------------------------------------------


def cut_off() -> Image.Image:
    stream = io.BytesIO()
    golden("person").save(stream, "PNG")
    return Image.open(io.BytesIO(stream.getvalue()[:2000]))


def replaced(**changes: Callable[[], Image.Image]) -> list[Image.Image]:
    pictures = dict(zip(("person", "garment", "mask"), inputs(), strict=True))
    return list({**pictures, **{name: make() for name, make in changes.items()}}.values())


def bad_inputs() -> Iterator[Any]:
    size = golden("person").size
    pictures = {
        "person 1x1": ({"person": lambda: Image.new("RGB", (1, 1))}, "photo of the person is 1x1 pixels"),
        "person 12000x9000": ({"person": lambda: Image.new("1", (12000, 9000))}, "has 12000x9000 pixels; at most 64"),
        "person cut off": ({"person": cut_off}, "The photo of the person is damaged, cut off"),
        "garment 1x1": ({"garment": lambda: Image.new("RGB", (1, 1))}, "photo of the garment is 1x1 pixels"),
        "garment cut off": ({"garment": cut_off}, "The photo of the garment is damaged, cut off"),
        "mask empty": ({"mask": lambda: Image.new("L", size)}, "The mask is empty"),
        "mask full": ({"mask": lambda: Image.new("L", size, 255)}, "The mask covers the whole photo"),
        "mask of another size": ({"mask": lambda: box_mask((85, 159))}, "The mask has 85x159 pixels, the photo of"),
        "mask cut off": ({"mask": cut_off}, "The mask is damaged, cut off"),
    }
    for name, (changes, fault) in pictures.items():
        yield pytest.param(lambda changes=changes: (replaced(**changes), QUICK), fault, id=name)
    options = {
        "steps 0": ({"steps": 0}, "steps must be a whole number from 1 to 998; got 0"),
        "steps 5000": ({"steps": 5000}, "steps must be a whole number from 1 to 998; got 5000"),
        "eta NaN": ({"eta": float("nan")}, "eta must lie between 0 and 1; got nan"),
        "guidance NaN": ({"guidance_scale": float("nan")}, "guidance_scale must be a number from 0 to 20; got nan"),
        "guidance -1": ({"guidance_scale": -1.0}, "guidance_scale must be a number from 0 to 20; got -1.0"),
        "unknown sampler": ({"sampler": "euler"}, "Unknown sampler 'euler'; expected one of ddim, dpmpp_2m"),
        "unknown spacing": ({"spacing": "karras"}, "Unknown timestep spacing 'karras'"),
        "unknown framing": ({"framing": "tall"}, "Unknown framing 'tall'; expected one of whole, mask, center"),
        "seed -1": ({"seed": -1}, "seed must be a whole number from 0 to 4294967295; got -1"),
        "seed 2**32": ({"seed": 2**32}, "got 4294967296"),
        "size of no multiple": ({"size": (60, 128)}, "must be multiples of 8 up to 2048 pixels; got 60x128"),
        "size 0": ({"size": (0, 0)}, "got 0x0"),
        "size too large": ({"size": (8192, 8192)}, "got 8192x8192"),
        "blur -1": ({"blur": -1}, "blur must be from 0 to 64 pixels; got -1"),
    }
    for name, (changes, fault) in options.items():
        yield pytest.param(lambda changes=changes: (inputs(), dataclasses.replace(QUICK, **changes)), fault, id=name)


@pytest.mark.parametrize(("make", "fault"), list(bad_inputs()))
def test_bad_input_is_one_sentence_before_the_unet_runs(
    pipeline: TryOnPipeline, unet: Counted, make: Callable[[], Any], fault: str
) -> None:
    def try_on() -> None:
        pictures, options = make()  # some options are refused when they are made
        pipeline(*pictures, options)

    with pytest.raises(InputError) as raised:
        try_on()
    assert fault in str(raised.value)
    assert "\n" not in str(raised.value)
    assert unet.calls == 0


def test_a_mask_too_small_for_the_model_says_so(pipeline: TryOnPipeline, unet: Counted) -> None:
    photo, mask = colours((900, 1200)), Image.new("L", (900, 1200))
    mask.paste(255, (400, 400, 408, 408))
    with pytest.raises(MaskError, match="The painted area is too small for the model to repaint; paint a larger one"):
        pipeline(photo, golden("garment"), mask, QUICK)
    assert unet.calls == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"person": Image.new("RGB", (60, 128))}, "multiples of 8 up to 2048 pixels; got 60x128"),
        ({"garment": Image.new("RGB", (64, 64))}, "must have one size here; got 64x128, 64x64, 64x128"),
        ({"steps": 0}, "steps must be"),
        ({"eta": 2.0}, "eta must lie"),
        ({"sampler": "euler"}, "Unknown sampler"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be"),
    ],
)
def test_generate_refuses_what_it_cannot_use(
    pipeline: TryOnPipeline, unet: Counted, changes: dict[str, Any], fault: str
) -> None:
    arguments = {
        "person": golden("person_cropped"), "garment": golden("garment_padded"), "mask": golden("mask_blurred"),
        "steps": 1, "guidance_scale": 1.0, "sampler": "ddim", "eta": 0.0, "noise": np.zeros,
    }  # fmt: skip
    with pytest.raises(InputError, match=fault):
        pipeline.generate(**{**arguments, **changes})
    assert unet.calls == 0


def test_a_damaged_bundle_is_found_before_its_part_runs(golden_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "bundle")
    weights = bytearray((folder / "unet/openvino_model.bin").read_bytes())
    weights[1000] ^= 1
    (folder / "unet/openvino_model.bin").write_bytes(weights)
    pipeline = TryOnPipeline.load(folder)  # lazy: the manifest and sizes are right
    for _ in range(2):
        with pytest.raises(BundleDamagedError, match=r"unet/openvino_model\.bin does not have the checksum"):
            pipeline(*inputs(), QUICK)
    with pytest.raises(BundleNotFoundError, match="There is no model at"):
        TryOnPipeline.load(tmp_path / "nowhere")


def test_a_part_that_is_no_model_is_damage_though_its_checksum_fits(golden_bundle: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(golden_bundle, tmp_path / "bundle")
    (folder / "vae_decoder/openvino_model.xml").write_text("<net/>")
    manifest = json.loads((folder / MANIFEST).read_text())
    files = {name: dataclasses.asdict(record) for name, record in record_files(folder).items()}
    (folder / MANIFEST).write_text(json.dumps({**manifest, "files": files}))
    with pytest.raises(BundleDamagedError, match="vae_decoder cannot be read for the input shapes") as raised:
        TryOnPipeline.load(folder)(*inputs(), QUICK)
    assert "\n" not in str(raised.value)


def test_a_cpu_infers_in_float32_unless_told_otherwise(golden_bundle: Path) -> None:
    # One with bfloat16 would take that by itself, and give the golden network another picture every time.
    xml = Bundle.open(golden_bundle).part("vae_decoder")
    runtime = Runtime(RuntimeOptions())
    compiled = runtime.compile(runtime.core.read_model(xml), xml.with_suffix(".bin"))
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == ov.Type.f32
