"""The safety checker: diffusers' own scores and decisions, from the published layout to the picture shown instead."""

from __future__ import annotations

import json
import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino as ov
import pytest
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker, cosine_distance
from openvino import opset13 as opset
from PIL import Image
from safetensors.torch import save_file
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from catvton_ov.errors import BundleDamagedError, DeviceError, ExportError
from catvton_ov.export.convert import IR_NAME, save_model
from catvton_ov.export.options import PRECISIONS
from catvton_ov.export.safety import (
    SafetyScores,
    compress_matmuls,
    convert_safety_checker,
    load_safety_checker,
    read_preprocessing,
)
from catvton_ov.runtime import Network, Runtime, RuntimeOptions
from catvton_ov.safety import CONCEPTS, Preprocessing, SafetyChecker, decide, notice_picture, preprocess

CONFIG = "safety_checker/config.json"
PREPROCESSOR = "feature_extractor/preprocessor_config.json"
WEIGHTS = "safety_checker/pytorch_model.bin"
OLD = "vision_model.vision_model."
TINY = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 14}
VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 24,
    "patch_size": 14,
}
Tensors = dict[str, torch.Tensor]


def write_checkpoint(folder: Path, vision: dict[str, int], image_size: int, projection: int) -> Tensors:
    """A checker of random weights as the base repo has it; returns its tensors.

    The spelling (names of transformers 4, `vision_config_dict`, sizes as bare numbers) is the published files'.
    """
    config = {
        "_commit_hash": None,
        "architectures": ["StableDiffusionSafetyChecker"],
        "initializer_factor": 1.0,
        "logit_scale_init_value": 2.6592,
        "model_type": "clip",
        "projection_dim": projection,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "model_type": "clip_text_model", "top_k": 50},
        "text_config_dict": {"hidden_size": 768, "intermediate_size": 3072},
        "torch_dtype": "float32",
        "transformers_version": None,
        "vision_config": {
            **vision,
            "dropout": 0.0,
            "hidden_act": "quick_gelu",
            "image_size": image_size,
            "layer_norm_eps": 1e-05,
            "model_type": "clip_vision_model",
            "num_channels": 3,
            "projection_dim": 512,
            "pruned_heads": {},
            "return_dict": True,
        },
        "vision_config_dict": vision if image_size == 224 else {**vision, "image_size": image_size},
    }
    preprocessor = {
        "crop_size": image_size,
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": image_size,
    }
    for name, content in ((CONFIG, config), (PREPROCESSOR, preprocessor)):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(json.dumps(content))
    tensors = random_tensors(vision, image_size, projection)
    torch.save(tensors, folder / WEIGHTS)
    return tensors


def random_tensors(vision: dict[str, int], image_size: int, projection: int) -> Tensors:
    """Random weights under which pictures differ in their scores, by published name."""
    width, inner, patch = vision["hidden_size"], vision["intermediate_size"], vision["patch_size"]
    positions = (image_size // patch) ** 2 + 1
    shapes: dict[str, tuple[int, ...]] = {
        f"{OLD}embeddings.class_embedding": (width,),
        f"{OLD}embeddings.patch_embedding.weight": (width, 3, patch, patch),
        f"{OLD}embeddings.position_embedding.weight": (positions, width),
        "visual_projection.weight": (projection, width),
        "concept_embeds": (17, projection),
        "special_care_embeds": (3, projection),
        "concept_embeds_weights": (17,),
        "special_care_embeds_weights": (3,),
    }
    blocks = {f"encoder.layers.{i}.layer_norm{n}": (width,) for i in range(vision["num_hidden_layers"]) for n in (1, 2)}
    for name in (*blocks, "pre_layrnorm", "post_layernorm"):
        shapes |= {f"{OLD}{name}.weight": (width,), f"{OLD}{name}.bias": (width,)}
    for i in range(vision["num_hidden_layers"]):
        layer = f"{OLD}encoder.layers.{i}."
        linear = {f"self_attn.{name}_proj": (width, width) for name in ("q", "k", "v", "out")}
        for name, (rows, columns) in {**linear, "mlp.fc1": (inner, width), "mlp.fc2": (width, inner)}.items():
            shapes |= {f"{layer}{name}.weight": (rows, columns), f"{layer}{name}.bias": (rows,)}
    random = torch.Generator().manual_seed(0)
    tensors: Tensors = {f"{OLD}embeddings.position_ids": torch.arange(positions)[None]}
    for name, shape in shapes.items():
        values = torch.randn(shape, generator=random)
        if name.endswith("embeds_weights"):
            values = 0.2 + 0.02 * values
        elif "norm" in name and name.endswith("weight"):
            values = 1 + 0.1 * values
        elif name.endswith(("bias", "position_embedding.weight")):
            values = 0.1 * values
        elif len(shape) > 1:
            values = values / math.sqrt(math.prod(shape[1:]))
        tensors[name] = values
    return tensors


def random_pictures() -> list[Image.Image]:
    """Soft blots and noise, of many sizes."""
    rng = np.random.default_rng(0)
    sizes = [(384, 512), (512, 384), (90, 91), (28, 28), (200, 61), (16, 70), (333, 500), (29, 30)]
    pictures = []
    for number, (width, height) in enumerate(sizes):
        blots = Image.fromarray(rng.integers(0, 256, (3 + number, 4, 3), dtype=np.uint8))
        pictures.append(blots.resize((width, height), Image.Resampling.BICUBIC))
    pictures.append(Image.fromarray(rng.integers(0, 256, (120, 80, 3), dtype=np.uint8)))
    return pictures


PICTURES = random_pictures()


class Reference:
    """diffusers' class, loaded by its own means from a published folder."""

    def __init__(self, folder: Path) -> None:
        self.checker = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker").eval()
        processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
        self.pixels = torch.cat([processor(picture, return_tensors="pt").pixel_values for picture in PICTURES])

    @torch.no_grad()
    def cosines(self) -> np.ndarray:
        """shape = (pictures, 20), float32: concepts, then special care."""
        embeds = self.checker.visual_projection(self.checker.vision_model(self.pixels)[1])
        concepts = (self.checker.concept_embeds, self.checker.special_care_embeds)
        return torch.cat([cosine_distance(embeds, each) for each in concepts], dim=1).numpy()

    def set_thresholds(self, thresholds: np.ndarray) -> None:
        self.checker.concept_embeds_weights.data = torch.tensor(thresholds[:CONCEPTS])
        self.checker.special_care_embeds_weights.data = torch.tensor(thresholds[CONCEPTS:])

    def scores(self) -> np.ndarray:
        weights = self.checker.concept_embeds_weights, self.checker.special_care_embeds_weights
        return self.cosines() - torch.cat(weights).detach().numpy()

    def flags(self) -> list[bool]:
        _, flags = self.checker(clip_input=self.pixels, images=np.zeros((len(PICTURES), 2, 2, 3)))
        return flags


class Published(NamedTuple):
    folder: Path
    flagged: list[bool]  # what its thresholds do to each of PICTURES


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A tiny checker in the published layout whose thresholds flag PICTURES, or do not, for every reason there is."""
    folder = tmp_path_factory.mktemp("published")
    tensors = write_checkpoint(folder, TINY, image_size=28, projection=24)
    cosines = Reference(folder).cosines()
    lead = np.diff(np.sort(cosines, axis=0)[-2:], axis=0)[0]  # of the picture nearest to a concept before the second
    nearest = {cosines[:, column].argmax(): column for column in np.argsort(lead[:CONCEPTS])}
    special = CONCEPTS + lead[CONCEPTS:].argmax()
    care = cosines[:, special].argmax()
    above, rounded, below = [picture for picture in reversed(nearest) if picture != care][:3]
    thresholds = cosines.max(axis=0) + np.float32(0.05)
    for picture, column, score in (
        (above, nearest[above], 0.0008),  # flagged: still positive when rounded
        (rounded, nearest[rounded], 0.0003),  # not flagged
        (care, special, 0.0008),
        (care, nearest[care], -0.009),  # flagged: special care adds 0.01
        (below, nearest[below], -0.009),  # not flagged
    ):
        assert lead[column] > 0.025  # so that nothing else depends on this threshold
        thresholds[column] = cosines[picture, column] - score
    tensors["concept_embeds_weights"] = torch.tensor(thresholds[:CONCEPTS])
    tensors["special_care_embeds_weights"] = torch.tensor(thresholds[CONCEPTS:])
    torch.save(tensors, folder / WEIGHTS)
    return Published(folder, [number in (above, care) for number in range(len(PICTURES))])


@pytest.fixture(scope="module")
def published(checkpoint: Published) -> Path:
    return checkpoint.folder


@pytest.fixture(scope="module")
def irs(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checker converted: `fp32/` and `fp16/`."""
    folder = tmp_path_factory.mktemp("irs")
    model = convert_safety_checker(load(published))
    for precision in PRECISIONS:
        save_model(model, folder / precision, precision)
    return folder


def load(folder: Path, weights: str = WEIGHTS) -> SafetyScores:
    return load_safety_checker(folder / CONFIG, folder / PREPROCESSOR, folder / weights)


def serve(ir: Path, size: int = 28) -> SafetyChecker:
    network = Network(Runtime(RuntimeOptions(precision="f32")), lambda: ir / IR_NAME)
    return SafetyChecker(network, Preprocessing(size))


def scores_of(checker: SafetyChecker) -> np.ndarray:
    return np.concatenate([checker.scores(picture) for picture in PICTURES])


# --- the same as diffusers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [224, 28])
def test_preprocessing_is_clip_s_to_the_bit(size: int) -> None:
    processor = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    for picture in (*PICTURES, PICTURES[0].convert("L"), PICTURES[1].convert("P")):
        expected = processor(picture, return_tensors="np")["pixel_values"]
        pixels = preprocess(picture, Preprocessing(size))
        assert pixels.dtype == np.float32
        assert np.array_equal(pixels, expected)


def test_scores_and_decisions_are_those_of_diffusers(checkpoint: Published, irs: Path) -> None:
    reference = Reference(checkpoint.folder)
    expected = reference.scores()
    checker = serve(irs / "fp32")
    assert np.abs(scores_of(checker) - expected).max() <= 2e-6
    flags = [checker.flagged(picture) for picture in PICTURES]
    assert flags == reference.flags() == checkpoint.flagged
    assert np.abs(scores_of(serve(irs / "fp16")) - expected).max() <= 1e-3


@pytest.mark.parametrize("turn", [False, True])
def test_a_very_long_picture_is_not_scaled_as_a_whole(turn: bool) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (2000, 20, 3), dtype=np.uint8)
    endless = np.pad(noise, ((1_000_000, 1_000_000), (0, 0), (0, 0)))  # scaled as a whole it would take 15 GB
    if turn:
        noise, endless = noise.transpose(1, 0, 2), endless.transpose(1, 0, 2)
    expected = CLIPImageProcessorPil()(Image.fromarray(noise), return_tensors="np")["pixel_values"]
    for picture in (noise, endless):
        assert np.array_equal(preprocess(Image.fromarray(picture), Preprocessing()), expected)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For networks so small that threads, on a busy machine, only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_the_rule_is_that_of_diffusers_around_every_edge(published: Path) -> None:
    reference = Reference(published)
    cosines = reference.cosines()
    rng = np.random.default_rng(0)
    # Scores at, beside and far from where rounding and the adjustment turn the decision.
    edges = [0, 0.0005, -0.0005, -0.0095, -0.01, -0.0105, 0.0015, 0.02]
    near = np.float32([edge + shift for edge in edges for shift in (-1e-4, -1e-7, 0, 1e-7, 1e-4)])
    seen = set()
    for _ in range(50):
        subject = rng.integers(len(PICTURES))
        thresholds = cosines.max(axis=0) + np.float32(0.05)
        for column in (rng.integers(CONCEPTS), CONCEPTS + rng.integers(3)):
            thresholds[column] = cosines[subject, column] - rng.choice(near)
        reference.set_thresholds(thresholds)
        scores = cosines - thresholds
        flags = decide(scores)
        assert flags.tolist() == reference.flags()
        concepts = scores[subject, :CONCEPTS].max()
        seen.add((bool(flags[subject]), bool(np.round(concepts, 3) > 0), bool(concepts > 0)))
    # Among them: flagged and not; flagged by the adjustment alone; not flagged for the rounding alone.
    assert seen >= {(True, True, True), (False, False, False), (True, False, False), (False, False, True)}


def test_thresholds_keep_their_precision_in_float16(published: Path, irs: Path, tmp_path: Path) -> None:
    module = load(published)
    for part in (module.coarse, module.fine):
        part.zero_()
    save_model(convert_safety_checker(module), tmp_path / "without", "fp16")
    without, scores = (serve(ir).scores(PICTURES[0])[0, :CONCEPTS] for ir in (tmp_path / "without", irs / "fp16"))
    thresholds = torch.load(published / WEIGHTS)["concept_embeds_weights"].numpy()
    assert np.abs(without - scores - thresholds).max() < 5e-7
    assert np.abs(thresholds.astype(np.float16) - thresholds).max() > 2e-5


def test_the_graph_is_open_in_its_batch_and_keeps_attention_fused(irs: Path) -> None:
    model = ov.Core().read_model(irs / "fp32" / IR_NAME)
    described = [(port.any_name, str(port.partial_shape)) for port in (*model.inputs, *model.outputs)]
    assert described == [("pixel_values", "[?,3,28,28]"), ("scores", "[?,20]")]
    kinds = [op.get_type_name() for op in model.get_ops()]
    assert kinds.count("ScaledDotProductAttention") == TINY["num_hidden_layers"]


def test_compressed_weights_have_eight_bits_and_give_nearly_the_same(irs: Path, tmp_path: Path) -> None:
    core = ov.Core()
    save_model(compress_matmuls(core.read_model(irs / "fp32" / IR_NAME)), tmp_path / "int8", "fp16")
    stored = core.read_model(tmp_path / "int8" / IR_NAME).get_ops()
    constants = [op for op in stored if op.get_type_name() == "Constant"]
    compressed = [list(op.get_output_shape(0)) for op in constants if op.get_element_type() == ov.Type.i8]
    assert len(compressed) == 6 * TINY["num_hidden_layers"] + 1  # and the projection
    assert [20, 24] not in compressed  # the concepts
    assert 1e-6 < np.abs(scores_of(serve(tmp_path / "int8")) - scores_of(serve(irs / "fp32"))).max() < 0.02


# --- wrong checkpoints -------------------------------------------------------------------------------------------


def copied(published: Path, tmp_path: Path) -> Path:
    for name in (CONFIG, PREPROCESSOR, WEIGHTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((published / name).read_bytes())
    return tmp_path


def test_other_spellings_of_the_same_checker_are_read(published: Path, tmp_path: Path) -> None:
    folder = copied(published, tmp_path)
    tensors = torch.load(folder / WEIGHTS)
    del tensors[f"{OLD}embeddings.position_ids"]
    modern = {name.replace(OLD, "vision_model."): tensor for name, tensor in tensors.items()}
    save_file(modern, folder / "safety_checker/model.safetensors")
    edit_json(folder / PREPROCESSOR, size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, do_rescale=True)
    old, new = load(published), load(folder, "safety_checker/model.safetensors")
    assert new.preprocessing == old.preprocessing == Preprocessing(28)
    pixels = torch.randn(2, 3, 28, 28)
    assert torch.equal(old(pixels), new(pixels))


def test_the_published_preprocessing_is_the_default(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, TINY, image_size=224, projection=4)
    assert read_preprocessing(tmp_path / PREPROCESSOR) == Preprocessing()


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda t: t.pop("concept_embeds"), "Missing: concept_embeds."),
        (lambda t: t.pop(f"{OLD}post_layernorm.bias"), "Missing: vision_model.post_layernorm.bias."),
        (lambda t: t.update({"logit_scale": torch.ones(())}), "Unexpected: logit_scale."),
        (lambda t: t.update({f"{OLD}head": torch.ones(1)}), "Unexpected: vision_model.head."),
        (lambda t: t.update({"position_ids": torch.ones(1)}), "Unexpected: position_ids."),
        (
            lambda t: t.update({"vision_model.post_layernorm.bias": torch.ones(32)}),
            f"Unexpected: {OLD}post_layernorm.bias.",
        ),
        (
            lambda t: t.update({"concept_embeds": torch.ones(16, 24)}),
            "Misshapen: concept_embeds (16, 24) instead of (17, 24).",
        ),
        (
            lambda t: t.update({"concept_embeds_weights": torch.ones(17, dtype=torch.int64)}),
            "Not floating-point: concept_embeds_weights int64.",
        ),
    ],
)
def test_wrong_tensors_are_named(
    published: Path, tmp_path: Path, edit: Callable[[Tensors], object], fault: str
) -> None:
    folder = copied(published, tmp_path)
    tensors = torch.load(folder / WEIGHTS)
    edit(tensors)
    torch.save(tensors, folder / WEIGHTS)
    with pytest.raises(ExportError) as raised:
        load(folder)
    assert str(raised.value).startswith(str(folder / WEIGHTS))
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("file", "changes", "fault"),
    [
        (CONFIG, {"architectures": ["CLIPModel"]}, r"describes a clip of \['CLIPModel'\]"),
        (CONFIG, {"model_type": "siglip"}, "describes a siglip"),
        (CONFIG, {"vision_config_dict": {**TINY, "num_attention_heads": 3}}, "does not describe a CLIP model"),
        (CONFIG, {"vision_config_dict": {**TINY, "hidden_act": "sharp"}}, "28 pixels; the checker .* 224 pixels"),
        (CONFIG, {"vision_config": {**TINY, "image_size": 28, "hidden_act": "sharp"}, "vision_config_dict": None},
         "does not describe a safety checker"),
        (PREPROCESSOR, {"size": 32, "crop_size": 32}, "RGB pictures of 32 pixels; the checker .* 3 channels of 28"),
        (PREPROCESSOR, {"size": 32}, "size and crop_size must be the same; got 32 and 28"),
        (PREPROCESSOR, {"size": {"height": 28, "width": 28}}, "size and crop_size must be the same"),
        (PREPROCESSOR, {"resample": 2}, "resample is 2; this program can use only 3"),
        (PREPROCESSOR, {"do_center_crop": False}, "do_center_crop is false; this program can use only true"),
        (PREPROCESSOR, {"rescale_factor": 1}, "rescale_factor is 1; this program can use only 0.0039"),
        (PREPROCESSOR, {"image_mean": [0.5, 0.5]}, "mean: "),
        (PREPROCESSOR, {"image_std": None}, "std: .* got None"),
    ],
)  # fmt: skip
def test_wrong_configs_are_named(
    published: Path, tmp_path: Path, file: str, changes: dict[str, Any], fault: str
) -> None:
    folder = copied(published, tmp_path)
    edit_json(folder / file, **changes)
    with pytest.raises(ExportError, match=fault) as raised:
        load(folder)
    assert str(folder / file) in str(raised.value)


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


def test_a_malicious_pickle_is_refused(published: Path, tmp_path: Path) -> None:
    folder = copied(published, tmp_path)
    tensors = torch.load(folder / WEIGHTS)
    torch.save({**tensors, "concept_embeds": Hostile(tmp_path / "planted")}, folder / WEIGHTS)
    with pytest.raises(ExportError, match="was refused"):
        load(folder)
    assert not (tmp_path / "planted").exists()


# --- serving -----------------------------------------------------------------------------------------------------


def test_a_checker_that_cannot_judge_lets_nothing_pass(published: Path, irs: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleDamagedError, match=r"\(1, 3, 56, 56\)"):
        serve(irs / "fp32", 56).flagged(PICTURES[0])

    pixels = opset.parameter([-1, 3, 28, 28], np.float32)
    pixels.output(0).set_names({"pixel_values"})
    model = ov.Model([opset.reduce_mean(pixels, opset.constant([2, 3]), False)], [pixels])
    save_model(model, tmp_path / "three", "fp32")
    with pytest.raises(BundleDamagedError, match=r"must give 20 scores; it gave \(1, 3\)"):
        serve(tmp_path / "three").flagged(PICTURES[0])

    module = load(published)
    module.coarse[3] = math.nan
    save_model(convert_safety_checker(module), tmp_path / "nan", "fp32")
    with pytest.raises(DeviceError, match="no usable scores"):
        serve(tmp_path / "nan").flagged(PICTURES[0])


@pytest.mark.parametrize("size", [(64, 128), (128, 64), (56, 72), (384, 512), (300, 2000), (2000, 300)])
def test_the_notice_is_plain_and_holds_its_sentence(size: tuple[int, int]) -> None:
    notice = notice_picture(size)
    assert (notice.mode, notice.size) == ("RGB", size)
    values = np.asarray(notice)
    assert np.ptp(values, axis=2).max() == 0  # gray
    ink = values[..., 0] < 150
    assert 0.002 < ink.mean() < 0.2
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    for (first, last), side in (((rows[0], rows[-1]), size[1]), ((columns[0], columns[-1]), size[0])):
        assert first >= 0.04 * side  # nothing is cut off
        assert last <= 0.96 * side
        assert abs(first + last - side) <= 0.03 * side + 2  # in the middle


def test_a_picture_too_small_for_letters_is_blank() -> None:
    assert notice_picture((16, 20)).getcolors() == [(320, (236, 236, 236))]


# --- full size ---------------------------------------------------------------------------------------------------

SERVE = """
import json, sys, time
import numpy as np
from pathlib import Path
from PIL import Image
from catvton_ov.runtime import Network, Runtime, RuntimeOptions
from catvton_ov.safety import Preprocessing, SafetyChecker

def status(field):
    return int(next(line for line in open("/proc/self/status") if line.startswith(field)).split()[1]) / 1e6

before = status("VmRSS:")
network = Network(Runtime(RuntimeOptions(precision="f32")), lambda: Path(sys.argv[1]))
checker = SafetyChecker(network, Preprocessing())
pictures = [Image.open(path) for path in sys.argv[2:]]
start = time.perf_counter()
network.prepare(pixel_values=(1, 3, 224, 224))
compiled, start, cpu = time.perf_counter() - start, time.perf_counter(), time.process_time()
scores = [checker.scores(picture)[0].tolist() for picture in pictures]
each = (time.perf_counter() - start) / len(pictures)
cpu = (time.process_time() - cpu) / len(pictures)
figures = {"compile s": compiled, "picture s": each, "picture CPU s": cpu, "RSS GB": status("VmRSS:") - before}
print(json.dumps([scores, {**figures, "anonymous GB": status("RssAnon:"), "peak GB": status("VmHWM:")}]))
"""


@pytest.mark.slow  # 1.2 GB of random weights, three times converted
def test_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ViT-L/14: the same scores at full size; prints what each way of storing the weights costs."""
    write_checkpoint(tmp_path, VIT_L, image_size=224, projection=768)
    expected = Reference(tmp_path).scores()
    pictures = [tmp_path / f"{number}.png" for number in range(len(PICTURES))]
    for picture, path in zip(PICTURES, pictures, strict=True):
        picture.save(path)

    lines = [f"scores vary by {expected.std(axis=0).mean():.4f} (standard deviation) from picture to picture"]
    for name, tolerance in (("fp32", 1e-5), ("fp16", 1e-3), ("int8", 1e-2)):
        start = time.perf_counter()
        model = convert_safety_checker(load(tmp_path))
        model = compress_matmuls(model) if name == "int8" else model
        save_model(model, tmp_path / name, "fp32" if name == "fp32" else "fp16")
        del model
        seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        xml = tmp_path / name / IR_NAME
        command = [sys.executable, "-c", SERVE, str(xml), *map(str, pictures)]
        output = subprocess.run(
            command, capture_output=True, encoding="utf-8", check=True, cwd=Path(__file__).parents[1]
        )
        scores, figures = json.loads(output.stdout)
        error = np.abs(np.array(scores) - expected)
        lines.append(
            f"{name}: {xml.with_suffix('.bin').stat().st_size / 1e6:.0f} MB; exported in {seconds:.0f} s, "
            f"peak so far {peak:.1f} GB; scores off by {error.mean():.1e}, at most {error.max():.1e}; "
            + ", ".join(f"{key} {value:.2f}" for key, value in figures.items())
        )
        assert error.max() <= tolerance
    with capsys.disabled():
        print("", *lines, sep="\n")
