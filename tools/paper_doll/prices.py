"""What shortcuts cost in quality, on pairs never trained on.

python -m tools.paper_doll.prices --run RUN --out prices.json [--count 256] [--bundle assets/paper_doll] [--recipes a,b]

RUN is where the pattern judge is, or is trained. Every recipe sees the same pairs and the same noise.
Results are added to the file as they come; recipes that are in it are not run again.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch

from catvton_ov.export.report_pictures import try_on_at_size
from catvton_ov.metrics import psnr, ssim
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS
from catvton_ov.shortcuts import Shortcuts
from tools.paper_doll.classifier import PatternJudge, judged
from tools.paper_doll.data import to_tensor
from tools.paper_doll.evaluate import load_judge
from tools.paper_doll.trials import EVALUATION_SEED, Trials, draw_trials


@dataclass(frozen=True)
class Price:
    """Means over pairs, persons in their own garments."""

    psnr: float  # dB under the mask, against the true figure
    ssim: float  # of the whole picture
    pattern: float  # share of patterns that are recognised
    gradient: float  # mean gradient energy under the mask, as a share of the true figure's
    seconds: float  # a picture, with the small model; for orientation only


def measure(pipeline: TryOnPipeline, trials: Trials, judge: PatternJudge, options: TryOnOptions) -> Price:
    """Try on and compare with the true figures; results are pasted back through the mask."""
    results, rows = [], []
    start = time.perf_counter()
    for number in range(len(trials)):
        pictures = trials.persons[number], trials.garments[number], trials.masks[number]
        picture = try_on_at_size(pipeline, pictures, (0, number), options)
        inside = trials.masks[number] >= 128
        results.append(np.where(inside[..., None], picture, trials.persons[number]))
    seconds = (time.perf_counter() - start) / len(trials)
    for result, truth, mask in zip(results, trials.truths, trials.masks, strict=True):
        inside = mask >= 128
        energy = gradient_energy(result)[inside].mean() / gradient_energy(truth)[inside].mean()
        rows.append((psnr(result[inside], truth[inside]), ssim(result, truth), energy))
    patterns = judge(judged(to_tensor(np.stack(results)), trials.areas)).argmax(dim=1)
    recognised = (patterns == torch.from_numpy(trials.labels)).float().mean().item()
    similarity = np.mean(rows, axis=0)
    return Price(float(similarity[0]), float(similarity[1]), recognised, float(similarity[2]), seconds)


def gradient_energy(picture: np.ndarray) -> np.ndarray:
    """Squared length of the luminance's gradient (Sobel), of uint8 (H, W, 3): float64 (H, W)."""
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float64)
    return cv2.Sobel(grey, cv2.CV_64F, 1, 0) ** 2 + cv2.Sobel(grey, cv2.CV_64F, 0, 1) ** 2


def recipes() -> Mapping[str, TryOnOptions]:
    """The presets, and every lever alone."""
    reference, fast = PRESETS["reference"], PRESETS["fast"]
    few = replace(fast, shortcuts=Shortcuts())
    found = dict(PRESETS)
    found["ddim 20, eta 1"] = replace(reference, steps=20)
    found["ddim 20, eta 0"] = replace(reference, steps=20, eta=0.0)
    for steps in (6, 8, 10, 12, 15, 20):
        for spacing in ("leading", "trailing"):
            found[f"dpm {steps} {spacing}"] = replace(few, steps=steps, spacing=spacing)
    for first, last in ((0.0, 0.3), (0.0, 0.5), (0.0, 0.7), (0.2, 0.7), (0.3, 1.0)):
        found[f"dpm 10, guided {first:g}-{last:g}"] = replace(few, steps=10, shortcuts=Shortcuts(guided=(first, last)))
    for every in (2, 3, 5):
        found[f"dpm 10, full every {every}"] = replace(few, steps=10, shortcuts=Shortcuts(cache_every=every))
    found["dpm 20, full every 2"] = replace(few, steps=20, shortcuts=Shortcuts(cache_every=2))
    for steps, every, guided in (
        (6, 2, (0, 0.67)), (8, 2, (0, 0.75)), (8, 3, (0, 0.75)), (10, 2, (0, 0.7)), (7, 3, (0, 0.71)),
        (6, 2, (0.34, 1)), (8, 3, (0.375, 1)), (8, 2, (0.25, 1)),
        (8, 3, (0.125, 0.625)), (8, 3, (0.375, 0.75)), (8, 3, (0.375, 0.875)), (12, 2, (0.085, 0.75)),
    ):  # fmt: skip
        name = f"dpm {steps}, full every {every}, guided {guided[0]:g}-{guided[1]:g}"
        found[name] = replace(few, steps=steps, shortcuts=Shortcuts(cache_every=every, guided=guided))
    for steps, every in ((6, 2), (6, 3), (8, 2), (8, 3), (8, 4), (12, 2), (12, 3)):
        shortcuts = Shortcuts(cache_every=every)
        found[f"dpm {steps}, full every {every}"] = replace(few, steps=steps, shortcuts=shortcuts)
    for keys in ("person-thinned", "thinned"):
        found[f"dpm 10, {keys}"] = replace(few, steps=10, shortcuts=Shortcuts(keys=keys))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="run directory")
    parser.add_argument("--bundle", type=Path, default=Path("assets/paper_doll"))
    parser.add_argument("--out", type=Path, required=True, help="JSON file that is added to")
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--skip", type=int, default=0, help="leave out the first pairs, on which recipes were chosen")
    parser.add_argument("--recipes", help="names, separated by semicolons; all if not given")
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    pipeline = TryOnPipeline.load(arguments.bundle, threads=arguments.threads)
    first = EVALUATION_SEED + arguments.skip
    trials = draw_trials(range(first, first + arguments.count), swapped=False)
    judge = load_judge(arguments.run)
    done = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    every = recipes()
    for name in arguments.recipes.split(";") if arguments.recipes else every:
        if name in done:
            continue
        with torch.inference_mode():
            price = measure(pipeline, trials, judge, every[name])
        done[name] = asdict(price)
        arguments.out.write_text(json.dumps(done, indent=2) + "\n")
        print(f"{name:28} {price}", flush=True)


if __name__ == "__main__":
    main()
