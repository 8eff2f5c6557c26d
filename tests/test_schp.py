"""Human parsing: the authors' logits and label maps, from a published file to the labels of a photo."""

from __future__ import annotations

import dataclasses
import json
import pickle
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import openvino as ov
import pytest
import torch
from PIL import Image

from catvton_ov.errors import ExportError, ImageError
from catvton_ov.export.convert import IR_NAME, save_model
from catvton_ov.export.schp import TRAINING_ONLY, AugmentCE2P, convert_schp, load_schp
from catvton_ov.masking.schp import ATR_KIND, LIP_KIND, SchpKind, SchpParser, label_map, network_input
from catvton_ov.runtime import Network, Runtime, RuntimeOptions

GOLDEN = Path(__file__).parent / "golden" / "schp"
KINDS = {"lip": LIP_KIND, "atr": ATR_KIND}
CASES = [(kind, path.name) for kind in KINDS for path in sorted(GOLDEN.glob(f"schp_io_{kind}_*.npz"))]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / name) as vectors:
        return dict(vectors)


def error_of_max(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


# --- before and after the network --------------------------------------------------------------------------------


def test_the_goldens_are_there() -> None:
    assert len(CASES) == 4


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_the_network_is_fed_what_the_reference_feeds_it(kind: str, case: str) -> None:
    vectors = golden(case)
    fed = network_input(vectors["image"], KINDS[kind])
    assert (fed.dtype, fed.shape) == (np.float32, (1, 3, KINDS[kind].side, KINDS[kind].side))
    assert np.array_equal(fed[:, :, ::8, ::8], vectors["network_input_every_8th"])


@pytest.mark.parametrize(("kind", "case"), CASES)
def test_logits_become_the_labels_of_the_reference(kind: str, case: str) -> None:
    vectors = golden(case)
    labels = label_map(vectors["network_logits"], vectors["image"].shape[:2], KINDS[kind])
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, vectors["labels"])


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
@pytest.mark.parametrize("shape", [(1024, 768), (97, 388), (388, 97), (60, 45), (16, 16), (1, 9), (2, 1)])
def test_labels_are_those_of_torch_at_any_size(kind: SchpKind, shape: tuple[int, int]) -> None:
    """By the reference's recipe: enlarge the square in torch, bring back every class, take the highest."""
    coarse = -(-kind.side // 4)
    logits = np.random.default_rng(0).standard_normal((1, kind.classes, coarse, coarse), np.float32)
    square = torch.nn.Upsample(size=(kind.side, kind.side), mode="bilinear", align_corners=True)
    scale = (max(shape) - 1) / (kind.side - 1)
    back = np.array([[scale, 0, (shape[1] - max(shape)) / 2], [0, scale, (shape[0] - max(shape)) / 2]])
    enlarged = square(torch.from_numpy(logits))[0].numpy()
    values = np.stack([cv2.warpAffine(channel, back, shape[::-1], flags=cv2.INTER_LINEAR) for channel in enlarged])
    labels = label_map(logits, shape, kind)
    assert labels.shape == shape
    assert (labels != values.argmax(0)).mean() < 1e-4  # `back` is not rounded as the reference's, hence not 0


@pytest.mark.parametrize(
    "picture",
    [
        np.zeros((20, 30, 3), np.float32),
        np.zeros((20, 30, 4), np.uint8),
        np.zeros((1, 1, 3), np.uint8),
        np.zeros((0, 30, 3), np.uint8),
        Image.new("L", (30, 20)),
    ],
    ids=["float", "RGBA", "a pixel", "empty", "gray"],
)
def test_other_pictures_are_refused(picture: Any) -> None:
    with pytest.raises(ImageError, match=r"RGB picture \(H, W, 3\); got (float32|uint8)\("):
        network_input(np.asarray(picture), LIP_KIND)


# --- the network -------------------------------------------------------------------------------------------------


def keys(kind: str) -> dict[str, tuple[int, ...]]:
    lines = (line.split(" ", 1) for line in (GOLDEN / f"schp_{kind}_keys.txt").read_text().splitlines())
    return {key: tuple(json.loads(shape)) for key, shape in lines}


def weight(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The formula of the golden vectors."""
    x = np.random.default_rng(zlib.crc32(f"pub{key}".encode())).standard_normal(shape)
    if key.endswith("num_batches_tracked"):
        return torch.tensor(1000)
    if key.endswith("running_var"):
        x = 1 + 0.2 * np.abs(x)
    elif key.endswith("running_mean"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if key.endswith("weight") else 0.1 * x
    else:
        x = x * np.sqrt(1.6 / np.prod(shape[1:]))
    return torch.from_numpy(x.astype(np.float32))


class Converted(NamedTuple):
    network: AugmentCE2P
    model: ov.Model


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Converted]:
    """Both full-size networks, through a file in the published layout."""
    path = tmp_path_factory.mktemp("schp") / "published.pth"
    weights: dict[str, torch.Tensor] = {}
    result = {}
    for name, kind in KINDS.items():
        shapes = keys(name)
        made = {key: weight(key, shape) for key, shape in shapes.items() if key not in weights or "fushion.3" in key}
        weights |= made  # the two kinds differ in their last layer only
        torch.save({"epoch": 150, "state_dict": weights}, path)
        network = load_schp(path, kind)
        path.unlink()  # 270 MB
        result[name] = Converted(network, convert_schp(network))
    return result


def run(model: ov.Model, picture: np.ndarray) -> np.ndarray:
    logits: np.ndarray = ov.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"picture": picture})[0]
    return logits


@pytest.mark.parametrize("kind", KINDS)
def test_the_converted_network_gives_the_reference_logits(converted: dict[str, Converted], kind: str) -> None:
    vectors = golden(f"schp_{kind}.npz")
    assert error_of_max(run(converted[kind].model, vectors["input"]), vectors["logits"]) <= 1e-4


def test_height_and_width_stay_open(converted: dict[str, Converted]) -> None:
    network, model = converted["atr"]
    assert [(port.any_name, str(port.partial_shape)) for port in model.inputs] == [("picture", "[1,3,?,?]")]
    picture = np.random.default_rng(0).standard_normal((1, 3, 66, 131), np.float32)
    with torch.no_grad():
        expected = network(torch.from_numpy(picture)).numpy()
    assert expected.shape == (1, 18, 17, 33)
    assert error_of_max(run(model, picture), expected) <= 1e-4


def test_a_photo_is_parsed_from_a_float16_file(converted: dict[str, Converted], tmp_path: Path) -> None:
    network, model = converted["lip"]
    save_model(model, tmp_path / "schp_lip", "fp16")
    xml = tmp_path / "schp_lip" / IR_NAME
    assert xml.with_suffix(".bin").stat().st_size < 135e6
    kind = dataclasses.replace(LIP_KIND, side=153)  # a smaller square, to be quick
    parser = SchpParser(Network(Runtime(RuntimeOptions(precision="f32")), lambda: xml), kind)
    pixels = golden("schp_io_lip_96x128.npz")["image"]
    fed = network_input(pixels, kind)
    with torch.no_grad():
        expected = network(torch.from_numpy(fed)).numpy()
    logits = parser.network(picture=fed)
    assert error_of_max(logits, expected) <= 5e-3
    for picture in (pixels, Image.fromarray(pixels)):
        assert np.array_equal(parser(picture), label_map(logits, (128, 96), kind))


# --- the file ----------------------------------------------------------------------------------------------------


@pytest.fixture
def hollow() -> dict[str, torch.Tensor]:
    """The LIP network's keys and shapes, each tensor a single stored number."""
    return {key: torch.tensor(0.5).expand(shape) for key, shape in keys("lip").items()}


def saved(path: Path, content: object, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


def test_what_training_left_in_the_file_is_passed_over(hollow: dict[str, torch.Tensor], tmp_path: Path) -> None:
    hollow = {key: tensor.half() for key, tensor in hollow.items() if not key.endswith("num_batches_tracked")}
    hollow |= {f"module.{name}": torch.ones(2) for name in TRAINING_ONLY}
    content = {"state_dict": hollow, "epoch": 150, "optimizer": {"lr": 0.007}}
    network = load_schp(saved(tmp_path / "lip.pth", content, _use_new_zipfile_serialization=False), LIP_KIND)
    assert {(parameter.dtype, float(parameter.max())) for parameter in network.parameters()} == {(torch.float32, 0.5)}
    assert not network.training


@pytest.mark.parametrize(
    ("key", "tensor", "fault"),
    [
        ("module.layer3.22.bn3.running_var", None, "Missing: module.layer3.22.bn3.running_var."),
        ("module.decoder.conv5.weight", torch.ones(1), "Unexpected: module.decoder.conv5.weight."),
        ("module.conv1.num_batches_tracked", torch.tensor(1), "Unexpected: module.conv1.num_batches_tracked."),
        ("conv1.weight", torch.ones(1), "Unexpected: conv1.weight."),
        ("module.edge.conv4.bias", torch.ones(3), "Misshapen: module.edge.conv4.bias (3,) instead of (2,)."),
        ("module.bn1.bias", torch.ones(64).int(), "Not floating-point: module.bn1.bias int32."),
        ("module.bn1.bias", "zeros", "'module.bn1.bias' is a str."),
    ],
)
def test_other_contents_are_refused_by_name(
    hollow: dict[str, Any], tmp_path: Path, key: str, tensor: object, fault: str
) -> None:
    hollow.pop(key, None)
    if tensor is not None:
        hollow[key] = tensor
    with pytest.raises(ExportError) as raised:
        load_schp(saved(tmp_path / "lip.pth", {"state_dict": hollow}), LIP_KIND)
    assert str(tmp_path / "lip.pth") in str(raised.value)
    assert fault in str(raised.value)


def test_the_file_of_the_other_kind_is_refused(hollow: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = saved(tmp_path / "lip.pth", {"state_dict": hollow})
    with pytest.raises(ExportError, match=r"module\.fushion\.3\.weight \(20, 256, 1, 1\) instead of \(18, 256, 1, 1\)"):
        load_schp(path, ATR_KIND)


@pytest.mark.parametrize("content", [{"module.conv1.weight": torch.ones(1)}, [1], {"state_dict": 5}])
def test_files_of_another_layout_are_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(ExportError, match=r"lip\.pth must hold a dict"):
        load_schp(saved(tmp_path / "lip.pth", content), LIP_KIND)


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.victim), "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    content = {"state_dict": {}, "epoch": Malicious(tmp_path / "victim")}
    if zipped:
        torch.save(content, tmp_path / "lip.pth")
    else:
        (tmp_path / "lip.pth").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(ExportError, match="was refused"):
        load_schp(tmp_path / "lip.pth", LIP_KIND)
    assert not (tmp_path / "victim").exists()
