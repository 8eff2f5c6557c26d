"""What it brings to show the model only the mask's surroundings, on photos larger than the model's picture.

python -m tools.paper_doll.framings [--bundle assets/paper_doll] [--count 64]

Figures never trained on, drawn at twice the model's size and in their own garments: once as they are, once with as
much wall and floor around them that they fill half of the photo. Every framing sees the same pairs and noise.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from catvton_ov.metrics import psnr
from catvton_ov.options import FRAMINGS
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS
from tools.paper_doll.data import mask_of, scene_of
from tools.paper_doll.examples import SIZE
from tools.paper_doll.figures import draw
from tools.paper_doll.prices import gradient_energy
from tools.paper_doll.trials import EVALUATION_SEED


def photo_of(seed: int, times: int) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Photo, garment and mask; the photo `times` as wide and high as the figure."""
    scene = scene_of(seed)
    figure = draw(scene, SIZE)
    width, height = ((times - 1) * length // 2 for length in SIZE)
    margins = (height, height), (width, width)
    photo = np.pad(figure.person, (*margins, (0, 0)), mode="edge")
    mask = np.pad(mask_of(figure, scene.category), margins)
    return Image.fromarray(photo), Image.fromarray(figure.garment), Image.fromarray(mask)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("assets/paper_doll"))
    parser.add_argument("--count", type=int, default=64)
    arguments = parser.parse_args()
    pipeline = TryOnPipeline.load(arguments.bundle)
    print("| figure fills | framing | PSNR under the mask, dB | gradient energy, of the true figure's |")
    print("|---|---|---:|---:|")
    for times in (1, 2):
        for framing in FRAMINGS:
            rows = []
            for number in range(arguments.count):
                photo, garment, mask = photo_of(EVALUATION_SEED + number, times)
                options = replace(PRESETS["fast"], framing=framing, seed=number)
                result = np.asarray(pipeline(photo, garment, mask, options).picture)
                truth, inside = np.asarray(photo), np.asarray(mask) >= 128
                energy = gradient_energy(result)[inside].mean() / gradient_energy(truth)[inside].mean()
                rows.append((psnr(result[inside], truth[inside]), energy))
            quality, energy = np.mean(rows, axis=0)
            fills = "the photo" if times == 1 else "half of it"
            print(f"| {fills} | {framing} | {quality:.2f} | {energy:.2f} |", flush=True)


if __name__ == "__main__":
    main()
