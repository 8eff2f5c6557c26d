"""Random weights in the published layouts: to measure speed, memory and size. For benchmarks only.

python -m tools.random_checkpoints --out DIR                  full size: 6 GB on disk, 6 GB of memory, two minutes
python -m tools.random_checkpoints --out DIR --scale tiny     the same layouts with small networks, in seconds

Each folder in DIR stands for the Hub repository of that name. No picture made with such weights means anything.
"""

import argparse
import json
import pickle
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig

from catvton_ov.export.random_checkpoints import SCALES, Scale, write_json, write_tryon

KEYS = Path(__file__).resolve().parent.parent / "tests" / "golden"  # lists of the parsers' keys and shapes

FEATURE_EXTRACTOR = {
    "crop_size": 224,
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "resample": 3,
    "size": 224,
}


def write_safety_checker(folder: Path, scale: Scale) -> None:
    vision = {"image_size": 224, "patch_size": 14, "projection_dim": scale.projection, **scale.clip}
    checker = StableDiffusionSafetyChecker(CLIPConfig(vision_config=vision, projection_dim=scale.projection))
    for weights, embeds in (
        (checker.concept_embeds_weights, checker.concept_embeds),
        (checker.special_care_embeds_weights, checker.special_care_embeds),
    ):
        weights.data.fill_(0.2)
        embeds.data.normal_()
    checker.config.architectures = ["StableDiffusionSafetyChecker"]
    checker.config.save_pretrained(folder / "safety_checker")
    # As transformers 4 named them: one level more, and the positions by number.
    positions = {
        "vision_model.embeddings.position_ids": torch.arange(checker.vision_model.embeddings.num_positions)[None]
    }
    tensors = {
        f"vision_model.{name}" if name.startswith("vision_model.") else name: tensor
        for name, tensor in (checker.state_dict() | positions).items()
    }
    torch.save(tensors, folder / "safety_checker" / "pytorch_model.bin")
    write_json(folder / "feature_extractor" / "preprocessor_config.json", FEATURE_EXTRACTOR)


def write_parsers(folder: Path) -> None:
    """SCHP and DensePose of zhengchong/CatVTON, always full size, by the golden vectors' weight formula."""
    for kind, name in (("lip", "exp-schp-201908261155-lip.pth"), ("atr", "exp-schp-201908301523-atr.pth")):
        (folder / "SCHP").mkdir(parents=True, exist_ok=True)
        weights = {
            key: torch.from_numpy(random_weight(key, shape, "pub", "weight", 1.6))
            for key, shape in read_keys(KEYS / "schp" / f"schp_{kind}_keys.txt")
        }
        torch.save({"state_dict": weights}, folder / "SCHP" / name)
    (folder / "DensePose").mkdir(parents=True, exist_ok=True)
    arrays = {
        key: random_weight(key, shape, "pub", "norm.weight", 1.2)
        for key, shape in read_keys(KEYS / "densepose" / "densepose_keys.txt")
    }
    for key, array in arrays.items():
        if "bbox_pred" in key or "anchor_deltas" in key:
            array *= 0.02
    (folder / "DensePose" / "model_final_162be9.pkl").write_bytes(pickle.dumps({"model": arrays}))


def read_keys(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Lines such as `module.conv1.weight [64, 3, 3, 3]`."""
    for line in path.read_text().splitlines():
        key, _, shape = line.partition(" ")
        yield key, tuple(json.loads(shape))


def random_weight(key: str, shape: tuple[int, ...], salt: str, scale: str, gain: float) -> np.ndarray:
    """The golden vectors' formula; `scale` ends the name of what multiplies, `gain` is that of the other weights."""
    x = np.random.default_rng(zlib.crc32((salt + key).encode())).standard_normal(shape)
    if key.endswith("running_var"):
        x = 1 + 0.2 * np.abs(x)
    elif key.endswith("running_mean"):
        x = 0.1 * x
    elif len(shape) == 1:
        x = 1 + 0.1 * x if key.endswith(scale) else 0.1 * x
    else:
        x = x * np.sqrt(gain / np.prod(shape[1:]))
    return np.asarray(x, dtype=np.float32)


def write_all(out: Path, scale: Scale, parsers: bool) -> None:
    """Write every folder below `out`; the global random state is left as it was."""
    base, _, catvton = write_tryon(out, scale)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(1)
        write_safety_checker(base, scale)
    if parsers:
        write_parsers(catvton)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder to write into")
    parser.add_argument("--scale", choices=tuple(SCALES), default="full")
    parser.add_argument("--no-parsers", action="store_true", help="leave out SCHP and DensePose")
    arguments = parser.parse_args()
    write_all(arguments.out, SCALES[arguments.scale], parsers=not arguments.no_parsers)


if __name__ == "__main__":
    main()
