"""The grid of docs/performance.md: what the presets make of the same pairs.

python -m tools.paper_doll.grid [--bundle assets/paper_doll] [--out docs/presets.png]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS
from tools.paper_doll.trials import EVALUATION_SEED, draw_trials

ROWS = 6
MARGIN = 24  # pixels, for the words above a column


def make_grid(bundle: Path, path: Path) -> None:
    """Persons put into garments of others, all presets with the same seed."""
    pipeline = TryOnPipeline.load(bundle)
    trials = draw_trials(range(EVALUATION_SEED + 3000, EVALUATION_SEED + 3000 + ROWS), swapped=True)
    columns = {"person": trials.persons, "garment": trials.garments}
    for name, options in PRESETS.items():
        columns[name] = np.stack(
            [
                pipeline(
                    *map(Image.fromarray, (trials.persons[row], trials.garments[row], trials.masks[row])),
                    replace(options, seed=row),
                ).picture
                for row in range(ROWS)
            ]
        )
    columns["true figure"] = trials.truths
    height, width = trials.persons.shape[1:3]
    sheet = Image.new("RGB", (width * len(columns), MARGIN + height * ROWS), "white")
    for number, (title, pictures) in enumerate(columns.items()):
        ImageDraw.Draw(sheet).text((number * width + 4, 6), title, fill="black")
        sheet.paste(Image.fromarray(np.vstack(list(pictures))), (number * width, MARGIN))
    sheet.save(path, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=Path("assets/paper_doll"))
    parser.add_argument("--out", type=Path, default=Path("docs/presets.png"))
    arguments = parser.parse_args()
    make_grid(arguments.bundle, arguments.out)


if __name__ == "__main__":
    main()
