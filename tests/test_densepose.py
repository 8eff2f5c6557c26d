"""DensePose: the published network in, the reference's boxes and label maps out."""

from __future__ import annotations

import io
import os
import pickle
import re
import shutil
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
import torch
from openvino import opset9
from PIL import Image

from catvton_ov.errors import ExportError, ImageError, OptionsError
from catvton_ov.export.convert import save_model
from catvton_ov.export.densepose import convert_densepose, load_densepose
from catvton_ov.export.pickles import read_arrays
from catvton_ov.masking.densepose import (
    PARTS,
    DensePoseOptions,
    DensePoseParser,
    Detections,
    Features,
    box_labels,
    network_input,
)
from catvton_ov.masking.detection import anchors, apply_deltas, detect, propose, suppress
from catvton_ov.masking.roi import pool, resize, roi_align
from catvton_ov.runtime import Runtime, RuntimeOptions

FOLDER = Path(__file__).parent / "golden" / "densepose"
GOLDEN = dict(np.load(FOLDER / "densepose.npz"))
SIZE = (64, 96)  # of the golden picture
TOLERANCE = 1e-3  # of the largest absolute value
PRECISIONS = ("fp32", "fp16")


def published_weights() -> dict[str, np.ndarray]:
    """The golden's random weights, under the published names."""
    weights = {}
    for line in (FOLDER / "densepose_keys.txt").read_text().splitlines():
        key, _, text = line.partition(" ")
        shape = tuple(int(side) for side in re.findall(r"\d+", text))
        x = np.random.default_rng(zlib.crc32(f"pub{key}".encode())).standard_normal(shape)
        if key.endswith("running_var"):
            x = 1 + 0.2 * np.abs(x)
        elif len(shape) == 1:
            x = 1 + 0.1 * x if key.endswith("norm.weight") else 0.1 * x
        else:
            x = x * np.sqrt(1.2 / np.prod(shape[1:]))
        weights[key] = x.astype(np.float32)
        if "bbox_pred" in key or "anchor_deltas" in key:
            weights[key] *= np.float32(0.02)
    return weights


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folders fp32 and fp16 with the parts, exported from a pickle laid out as the published one."""
    folder = tmp_path_factory.mktemp("densepose")
    checkpoint = folder / "model_final_162be9.pkl"
    # What older versions of detectron2 add; their own loader ignores it.
    constants = {"pixel_mean": np.zeros((3, 1, 1)), "proposal_generator.anchor_generator.cell_anchors.0": np.eye(3)}
    with checkpoint.open("wb") as file:
        pickle.dump({"model": published_weights() | constants, "__author__": "golden"}, file, protocol=4)
    network = load_densepose(checkpoint)
    checkpoint.unlink()
    for part, model in convert_densepose(network):
        for precision in PRECISIONS:
            save_model(model, folder / precision / part, precision)
    yield folder
    shutil.rmtree(folder)  # half a gigabyte, which pytest would keep


class CountingRuntime(Runtime):
    def __init__(self) -> None:
        super().__init__(RuntimeOptions(precision="f32"))
        self.compiled: Counter[str] = Counter()

    def compile(self, model: ov.Model, weights: Path) -> ov.CompiledModel:
        self.compiled[weights.parent.name] += 1
        return super().compile(model, weights)


def make_parser(exported: Path, precision: str = "fp32", **options: Any) -> DensePoseParser:
    """A parser that shows small pictures to the network as they are, and parses two persons of the many it finds."""
    options = {"short_side": SIZE[0], "long_side": SIZE[1], "max_persons": 2, **options}
    folder = exported / precision
    return DensePoseParser(
        CountingRuntime(), lambda part: folder / part / "openvino_model.xml", DensePoseOptions(**options)
    )


@pytest.fixture(scope="module")
def parser(exported: Path) -> DensePoseParser:
    return make_parser(exported)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(GOLDEN["image_bgr"][:, :, ::-1]))


@pytest.fixture(scope="module")
def features(parser: DensePoseParser) -> Features:
    return Features(*(_copied(feature) for feature in parser.features(GOLDEN["input"])))


def _copied(feature: Any) -> Any:
    return tuple(map(np.copy, feature)) if isinstance(feature, tuple) else feature.copy()


def error_of_max(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.abs(actual - expected).max() / np.abs(expected).max())


# --- the same as the reference -----------------------------------------------------------------------------------


def test_the_network_sees_the_reference_picture(photo: Image.Image) -> None:
    assert np.array_equal(network_input(photo), GOLDEN["input"])


def test_backbone_gives_the_reference_features(features: Features) -> None:
    found = dict(zip(("p2", "p3", "p4", "p5", "p6"), features.pyramid, strict=True))
    found["p2"] = found["p2"][:, ::8]
    found["decoder"] = features.decoder[:, ::8]
    assert {name: error_of_max(value, GOLDEN[name]) <= TOLERANCE for name, value in found.items()} == dict.fromkeys(
        found, True
    )


def test_proposals_are_those_of_the_reference(features: Features) -> None:
    boxes, logits = propose(features.objectness, features.anchor_deltas, features.grids, SIZE)
    assert error_of_max(boxes[:100], GOLDEN["proposal_boxes"]) <= TOLERANCE
    assert error_of_max(logits[:100], GOLDEN["proposal_logits"]) <= TOLERANCE


def test_boxes_become_the_reference_detections(parser: DensePoseParser, features: Features) -> None:
    cls_score, deltas = parser.classify(features, GOLDEN["roi_boxes"])
    assert error_of_max(cls_score, GOLDEN["cls_score"]) <= TOLERANCE
    assert error_of_max(deltas, GOLDEN["bbox_pred"]) <= TOLERANCE
    boxes, scores = detect(cls_score, deltas, GOLDEN["roi_boxes"], SIZE, min_score=0.8)
    assert error_of_max(boxes, GOLDEN["det_boxes"]) <= TOLERANCE
    assert error_of_max(scores, GOLDEN["det_scores"]) <= TOLERANCE


# Rounding the random weights to FP16 moves the logits by 2.3e-3, and 3 of each box's 2700 and 4400 labels.
@pytest.mark.parametrize(("precision", "logits_within", "labels_equal"), [("fp32", 1e-3, 0.999), ("fp16", 4e-3, 0.997)])
def test_boxes_get_the_reference_labels(
    exported: Path, precision: str, logits_within: float, labels_equal: float
) -> None:
    parser = make_parser(exported, precision)
    features = parser.features(GOLDEN["input"])
    for index, box in enumerate(GOLDEN["densepose_boxes"]):
        coarse, fine = parser.segment(features, box)
        assert error_of_max(coarse, GOLDEN["coarse_segm"][index].astype(np.float32)) <= logits_within
        if index < len(GOLDEN["fine_segm"]):
            assert error_of_max(fine, GOLDEN["fine_segm"][index].astype(np.float32)) <= logits_within
        expected = GOLDEN[f"labels_{index}"]
        labels = box_labels(coarse, fine, expected.shape[::-1])
        assert (labels.dtype, labels.shape) == (np.uint8, expected.shape)
        assert np.mean(labels == expected) >= labels_equal


# --- between the networks, against other implementations ---------------------------------------------------------


def test_roi_align_is_openvino_s() -> None:
    """On boxes of all kinds: whole, thin, outside, one pixel, at the edges."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-30, 190, (40, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 120, (40, 2))], axis=1)
    boxes = np.concatenate([boxes, [(0, 0, 160, 112), (0, 0, 1, 112), (159, 111, 160, 112), (160, 112, 160, 112)]])
    boxes = boxes.astype(np.float32)
    features = rng.standard_normal((1, 3, 14, 20), np.float32)  # stride 8
    constants = [opset9.constant(value) for value in (features, boxes, np.zeros(len(boxes), np.int64))]
    node = opset9.roi_align(*constants, 7, 7, 2, 1 / 8, "avg", "asymmetric")
    expected = ov.compile_model(ov.Model([node], []), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([])[0]
    pooled = np.stack([roi_align(features[0], box, 8, 7) for box in boxes])
    assert np.abs(pooled - expected).max() <= 1e-4
    assert np.abs(expected).max(axis=(1, 2, 3)).min() == 0  # some lie outside, yet not all
    assert np.count_nonzero(np.abs(expected).max(axis=(1, 2, 3))) > 20


def test_boxes_are_pooled_from_the_level_of_their_size() -> None:
    pyramid = [
        np.full((1, 1, 400 // stride, 400 // stride), level, np.float32)
        for level, stride in enumerate((4, 8, 16, 32), 2)
    ]
    sides = (1, 111, 113, 223, 225, 300, 399)
    boxes = np.array([(0, 0, side, side) for side in sides], np.float32)
    assert pool(pyramid, boxes, 1).ravel().tolist() == [2, 2, 3, 3, 4, 4, 4]
    huge = np.array([(0, 0, 10_000, 10_000)], np.float32)
    assert pool([level[:, :, :1, :1] for level in pyramid], huge, 7).max() <= 5


@pytest.mark.parametrize("size", [(1, 1), (36, 75), (112, 112), (150, 9), (301, 260)])
def test_resize_is_torch_s(size: tuple[int, int]) -> None:
    maps = np.random.default_rng(1).standard_normal((4, 112, 112), np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(maps)[None], size[::-1], mode="bilinear")[0].numpy()
    assert np.abs(resize(maps, size) - expected).max() <= 1e-4


def test_suppression_is_its_definition() -> None:
    rng = np.random.default_rng(2)
    corners = rng.uniform(0, 60, (200, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(5, 40, (200, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(200).astype(np.float32)

    def overlap(a: np.ndarray, b: np.ndarray) -> float:
        sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
        shared = float(sides.prod())
        return shared / float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)

    expected: list[int] = []
    for index in np.argsort(-scores):
        if all(overlap(boxes[index], boxes[better]) <= 0.5 for better in expected):
            expected.append(int(index))
    assert suppress(boxes, scores, 0.5).tolist() == expected
    assert 5 < len(expected) < 195


def test_anchors_and_deltas_by_hand() -> None:
    levels = anchors([(2, 3), (1, 2), (1, 1), (1, 1), (1, 1)])
    assert [len(level) for level in levels] == [18, 6, 3, 3, 3]
    assert levels[0][1].tolist() == [-16, -16, 16, 16]  # the first place, the square one
    assert levels[0][3 * 3 + 1 * 3 + 1].tolist() == [-12, -12, 20, 20]  # second row, second column
    assert levels[4][2] == pytest.approx([-256 / 2**0.5, -256 * 2**0.5, 256 / 2**0.5, 256 * 2**0.5])

    box = np.array([[10, 20, 30, 60]], np.float32)
    grown = apply_deltas(np.array([[0.5, -0.25, np.log(2), 99]], np.float32), box)
    assert grown[0] == pytest.approx([10, 30 - 1250, 50, 30 + 1250])  # the last delta is bounded: 62.5 times as high


# --- the parser --------------------------------------------------------------------------------------------------


def test_persons_come_largest_first_each_with_a_label_map(parser: DensePoseParser, photo: Image.Image) -> None:
    found = parser(photo)
    assert found.size == SIZE
    assert len(found.persons) == parser.options.max_persons == 2
    areas = []
    for index, person in enumerate(found.persons):
        left, top, right, bottom = person.box
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        assert person.score > parser.options.min_score
        areas.append((right - left) * (bottom - top))
        labels = found.label_map(index)
        assert (labels.dtype, labels.shape) == (np.uint8, SIZE[::-1])
        assert labels.max() <= 24
        inside = labels[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
        assert inside.any()
        assert np.count_nonzero(inside) == np.count_nonzero(labels)  # nothing outside the box
    assert areas == sorted(areas, reverse=True)
    assert np.array_equal(found.label_map(), found.label_map(0))
    assert not np.array_equal(found.label_map(0), found.label_map(1))
    with pytest.raises(OptionsError, match=f"no person number {len(areas) + 1}, .* found: {len(areas)}"):
        found.label_map(len(areas))


def test_nobody_found_is_an_empty_answer(exported: Path, photo: Image.Image) -> None:
    found = make_parser(exported, min_score=1.0)(photo)
    assert found == Detections(SIZE, ())
    labels = found.label_map()
    assert (labels.dtype, labels.shape, labels.any()) == (np.uint8, SIZE[::-1], False)


def test_large_photos_are_parsed_smaller(parser: DensePoseParser, exported: Path, photo: Image.Image) -> None:
    """Among them, a photo that is an array instead of an image gives the same."""
    large = photo.resize((3 * SIZE[0], 3 * SIZE[1]), Image.Resampling.NEAREST)
    found = make_parser(exported, label_side=96, max_persons=1)(large)
    (person,) = found.persons
    assert person.labels.shape == SIZE[::-1]  # linear shrinking by 3 reads the middle pixel: the golden picture
    assert found.label_map().shape == (3 * SIZE[1], 3 * SIZE[0])
    assert np.array_equal(found.label_map()[1::3, 1::3], person.labels)
    expected = parser(np.asarray(photo)).persons[0]
    assert np.array_equal(person.labels, expected.labels)
    assert np.array(person.box) == pytest.approx(3 * np.array(expected.box))


def test_any_size_gives_labels_of_that_size(exported: Path, photo: Image.Image) -> None:
    parser = make_parser(exported, max_persons=1)
    for size in ((16, 16), (160, 40), (16, 2000)):
        found = parser(photo.resize(size))
        assert len(found.persons) == 1
        assert found.label_map().shape == size[::-1]


def test_only_another_size_of_picture_compiles_anew(exported: Path, photo: Image.Image) -> None:
    parser = make_parser(exported)
    runtime = parser.backbone._runtime
    assert isinstance(runtime, CountingRuntime)
    features = parser.features(network_input(photo))
    boxes, _ = propose(features.objectness, features.anchor_deltas, features.grids, SIZE)
    for count in (0, 3, 100, 7):
        cls_score, _ = parser.classify(features, boxes[:count])
        assert cls_score.shape == (count, 2)
    for box in boxes[:2]:
        parser.segment(features, box)
    parser.features(network_input(photo.rotate(180)))
    assert runtime.compiled == Counter(dict.fromkeys(PARTS, 1))
    parser.features(network_input(photo.rotate(90, expand=True)))
    assert runtime.compiled == Counter({**dict.fromkeys(PARTS, 1), "densepose_backbone": 2})
    parser.release()
    parser.classify(features, boxes[:3])
    assert runtime.compiled["densepose_box_head"] == 2


def test_what_cannot_be_parsed_is_refused(parser: DensePoseParser) -> None:
    for array in (np.zeros((96, 64), np.uint8), np.zeros((96, 64, 4), np.uint8), np.zeros((96, 64, 3), np.float32)):
        with pytest.raises(ImageError, match="RGB uint8"):
            parser(array)
    for options in ({"min_score": -0.1}, {"min_score": 1.1}, {"max_persons": 0}, {"short_side": 0}):
        with pytest.raises(OptionsError, match=next(iter(options))):
            DensePoseOptions(**options)


# --- the checkpoint ----------------------------------------------------------------------------------------------


def test_the_graphs_are_named_and_open(exported: Path) -> None:
    found = {}
    for part in PARTS:
        model = ov.Core().read_model(exported / "fp16" / part / "openvino_model.xml")
        inputs = [(port.any_name, str(port.partial_shape)) for port in model.inputs]
        found[part] = (inputs, [port.any_name for port in model.outputs])
        sizes = [(exported / precision / part / "openvino_model.bin").stat().st_size for precision in PRECISIONS]
        assert sizes[1] / sizes[0] == pytest.approx(0.5, abs=0.01)
    levels = ["p2", "p3", "p4", "p5", "p6"]
    assert found == {
        "densepose_backbone": (
            [("picture", "[1,3,?,?]")],
            [*levels, "decoder", "objectness", "anchor_deltas"],
        ),
        "densepose_box_head": ([("pooled", "[?,256,7,7]")], ["cls_score", "bbox_pred"]),
        "densepose_head": ([("pooled", "[?,256,28,28]")], ["coarse_segm", "fine_segm"]),
    }


def test_missing_extra_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    arrays = {"backbone.fpn_lateral2.bias": np.zeros(255, np.float32), "intruder.weight": np.zeros(3, np.float32)}
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": arrays}))
    with pytest.raises(ExportError) as caught:
        load_densepose(path)
    message = str(caught.value)
    assert "Missing: backbone.bottom_up." in message
    assert "unexpected: intruder.weight" in message
    assert "misshapen: backbone.fpn_lateral2.bias (255,) instead of (256,)" in message


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_pickle_protocol_are_read(tmp_path: Path, protocol: int) -> None:
    arrays = OrderedDict(
        a=np.arange(6, dtype=np.float32).reshape(2, 3),
        b=np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        c=np.arange(3, dtype=">f8"),
        d=np.array(7, np.int64),
    )
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "iteration": np.float32(3), "__author__": "me"}, protocol))
    tensors = read_arrays(path)
    assert list(tensors) == list(arrays)
    for name, tensor in tensors.items():
        assert np.array_equal(tensor.numpy(), arrays[name])


class Touch:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_with_code_in_it_is_refused_and_runs_nothing(tmp_path: Path, protocol: int) -> None:
    planted = tmp_path / "planted"
    path = tmp_path / "model.pkl"
    code = Touch(planted)
    for content in (code, {"model": {"a": np.zeros(2), "b": code}}, {"model": {"a": np.array([code])}}):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(ExportError, match=r"was refused.*(posix\.system, which no array needs|array of 'O8')"):
            read_arrays(path)
    assert not planted.exists()
    pickle.loads(pickle.dumps(Touch(planted), protocol))
    assert planted.exists()  # an unguarded reader would have


class ForgedDType:
    """A dtype of objects beyond the end of its items: numpy's own, given this state, reads foreign memory."""

    def __reduce__(self) -> Any:
        return np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 64)}, 8, 1, 63)


class ForgedArray:
    def __reduce__(self) -> Any:
        return np.zeros(0).__reduce__()[0], (np.ndarray, (0,), b"b"), (1, (2,), ForgedDType(), False, [1, 2])


def test_a_pickle_cannot_reach_past_the_allowed_names(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    for program in (
        pickle.dumps({"model": {"a": ForgedArray()}}),
        b"cbuiltins\neval\n(V1\ntR.",
        b"cnumpy\nload\n(Vmodel.npy\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        b"c_codecs\nencode\n(VAAAA\nVzlib_codec\ntR.",
        b"ccollections\nOrderedDict\n(N}Vmove_to_end\nI0\nstb.",  # sets an attribute of a class
        b"c_codecs\nencode\n}V_function\nI0\nsb.",
        b"cnumpy\ndtype\n(N}V_function\nccollections\nOrderedDict\nstb.",
    ):
        path.write_bytes(program)
        with pytest.raises(ExportError, match="was refused"):
            read_arrays(path)


def test_other_and_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    whole = pickle.dumps({"model": {"a": np.zeros(100)}})
    texts, bare, unnamed = ({"model": {"a": np.array(["x"])}}, {"model": {"a": 3}}, {"model": {1: np.zeros(2)}})
    contents = {
        "was refused": [b"", b"no pickle", whole[: len(whole) // 2], pickle.dumps(texts)],
        'under "model"': [pickle.dumps(3), pickle.dumps({"a": np.zeros(2)}), pickle.dumps({"model": [np.zeros(2)]})],
        "nothing but named arrays": [pickle.dumps(bare), pickle.dumps(unnamed)],
    }
    for message, files in contents.items():
        for content in files:
            path.write_bytes(content)
            with pytest.raises(ExportError, match=message):
                read_arrays(path)
    with pytest.raises(ExportError, match="was refused"):
        read_arrays(tmp_path / "absent.pkl")
    buffer = io.BytesIO()
    torch.save({"model": {"a": torch.zeros(2)}}, buffer)
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ExportError, match="was refused"):
        read_arrays(path)
