"""The safety checker of Stable Diffusion: CLIP's image encoder with the concepts and thresholds it is asked about.

What is done with its scores, and with the picture beforehand, is in catvton_ov/safety.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import openvino as ov
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from pydantic import TypeAdapter, ValidationError
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPVisionConfig

from catvton_ov.errors import ExportError
from catvton_ov.export.checkpoints import Tensors, load_exactly, read_tensors
from catvton_ov.export.configs import read_config
from catvton_ov.export.convert import convert
from catvton_ov.safety import Preprocessing

# Within the base model's repository, the preferred name first, in the order in which load_safety_checker takes them.
FILES = (
    ("safety_checker/config.json",),
    ("feature_extractor/preprocessor_config.json",),
    ("safety_checker/model.safetensors", "safety_checker/pytorch_model.bin"),
)

# What a preprocessor_config.json may say besides sizes, mean and deviation; the value is also what an absent field has.
_PREPROCESSOR: Mapping[str, object] = {
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,  # bicubic
    "rescale_factor": 1 / 255,
}


class SafetyScores(nn.Module):
    """The published checker up to its scores, in a form whose constants may be stored as float16.

    A threshold near 0.2 would move by up to 6e-5 when rounded to float16, as much as rounding all the weights moves
    the cosines. Here it is the sum of two float16 numbers, multiplied with the embedding's length and divided by it
    again, because constants that are only added would be folded into one.
    """

    directions: Tensor
    coarse: Tensor
    fine: Tensor
    _SCALE = 2048.0  # 2 ** 11, float16's precision: brings the remainder back to the size of the threshold

    def __init__(self, checker: StableDiffusionSafetyChecker, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.vision_model = checker.vision_model
        self.visual_projection = checker.visual_projection
        self.preprocessing = preprocessing
        embeds = torch.cat([checker.concept_embeds, checker.special_care_embeds])
        thresholds = torch.cat([checker.concept_embeds_weights, checker.special_care_embeds_weights])
        coarse = thresholds.half().float()
        self.register_buffer("directions", functional.normalize(embeds), persistent=False)
        self.register_buffer("coarse", coarse, persistent=False)
        self.register_buffer("fine", ((thresholds - coarse) * self._SCALE).half().float(), persistent=False)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """Score pictures.

        Args:
            pixel_values: shape = (N, 3, size, size), float32: see catvton_ov.safety.preprocess.

        Returns:
            shape = (N, 20), float32: cosine minus threshold, of the 17 concepts, then of the 3 special-care concepts.
        """
        image_embeds = self.visual_projection(self.vision_model(pixel_values)[1])  # pooled
        length = torch.linalg.vector_norm(image_embeds, dim=-1, keepdim=True)
        dots = functional.linear(image_embeds, self.directions)
        scores: Tensor = (dots - length * self.coarse - (length / self._SCALE) * self.fine) / length
        return scores


def load_safety_checker(config_file: Path, preprocessor_file: Path, weights: Path) -> SafetyScores:
    """Build the published safety checker in float32.

    Args:
        config_file: `safety_checker/config.json`.
        preprocessor_file: `feature_extractor/preprocessor_config.json`.
        weights: `safety_checker/model.safetensors` or `pytorch_model.bin`.

    Raises:
        ExportError: naming the field that cannot be used, or what is missing, extra or misshapen in the weights.
    """
    config = _read_checker_config(config_file)
    preprocessing = read_preprocessing(preprocessor_file)
    vision = config.vision_config
    assert isinstance(vision, CLIPVisionConfig)
    if (vision.num_channels, vision.image_size) != (3, preprocessing.size):
        raise ExportError(
            f"{preprocessor_file} gives RGB pictures of {preprocessing.size} pixels; the checker of {config_file} "
            f"takes {vision.num_channels} channels of {vision.image_size} pixels."
        )
    try:
        with torch.device("meta"):
            checker = StableDiffusionSafetyChecker(config)
    except Exception as error:  # whatever transformers' own checks, or the arithmetic of odd sizes, raise
        raise ExportError(f"{config_file} does not describe a safety checker: {error}.") from error
    embeddings = checker.vision_model.embeddings
    with torch.device("cpu"):
        embeddings.position_ids = torch.arange(embeddings.num_positions)[None]  # no checkpoint need give it
    load_exactly(checker, _modern_names(read_tensors(weights)), weights)
    return SafetyScores(checker, preprocessing)


def _read_checker_config(path: Path) -> CLIPConfig:
    config = read_config(path)
    architectures = config.get("architectures")
    if config.get("model_type") != "clip" or architectures != ["StableDiffusionSafetyChecker"]:
        raise ExportError(
            f"{path} describes a {config.get('model_type')} of {architectures}; "
            "expected a clip of ['StableDiffusionSafetyChecker']."
        )
    try:
        return CLIPConfig.from_dict(config)
    except Exception as error:  # whatever transformers' own checks raise
        raise ExportError(f"{path} does not describe a CLIP model: {error}.") from error


def read_preprocessing(path: Path) -> Preprocessing:
    """What a `preprocessor_config.json` says; raises ExportError naming the field that asks for something else."""
    config = read_config(path)
    for field, only in _PREPROCESSOR.items():
        if config.get(field, only) != only:
            raise ExportError(
                f"{path}: {field} is {json.dumps(config[field])}; this program can use only {json.dumps(only)}."
            )
    size = _side(config.get("size"), {"shortest_edge"})
    crop = _side(config.get("crop_size"), {"height", "width"})
    if size != crop:
        raise ExportError(f"{path}: size and crop_size must be the same; got {size!r} and {crop!r}.")
    known = {"size": size, "mean": config.get("image_mean"), "std": config.get("image_std")}
    try:
        return TypeAdapter(Preprocessing).validate_json(json.dumps(known), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        raise ExportError(f"{path}: {first['loc'][0]}: {first['msg']}; got {first['input']!r}.") from None


def _side(value: object, keys: set[str]) -> object:
    """The number of pixels in 224, or in what newer files say instead: a dict with these keys."""
    if isinstance(value, dict) and value.keys() == keys and len(set(value.values())) == 1:
        return next(iter(value.values()))
    return value


def _modern_names(tensors: Tensors) -> Tensors:
    """The published file has the names of transformers 4: one level more, and a list of the positions by number."""
    old = "vision_model.vision_model."
    renamed: Tensors = {}
    for name, tensor in tensors.items():
        modern = name.removeprefix("vision_model.") if name.startswith(old) else name
        if name != f"{old}embeddings.position_ids":
            renamed[name if modern in tensors else modern] = tensor  # where both are there, the old one is too many
    return renamed


def convert_safety_checker(module: SafetyScores) -> ov.Model:
    """`pixel_values` (N, 3, size, size) f32 -> `scores` (N, 20) f32."""
    size = module.preprocessing.size
    example = {"pixel_values": torch.zeros(2, 3, size, size)}
    model = convert(module, example, {"pixel_values": (-1, 3, size, size)}, "scores")
    model.input(0).set_names({"pixel_values"})  # without the number that the trace has for it besides
    return model


def compress_matmuls(model: ov.Model) -> ov.Model:
    """Store the weights of the encoder's MatMuls as 8-bit integers (symmetric, a scale a row); returns `model`.

    The directions of the concepts and the patch embedding, half a percent of the weights, stay as they are.
    """
    import nncf  # takes seconds, and not every export compresses

    concepts = [op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() == "MatMul"][-1]
    ignored = nncf.IgnoredScope(types=["Convolution"], names=[concepts])
    compressed: ov.Model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM, ignored_scope=ignored)
    return compressed
