"""The quality bar of the compact parser: masks made from its labels against masks made from the true ones.

python -m tools.paper_doll.evaluate_parser --run RUN               the checkpoint of a run, in torch
python -m tools.paper_doll.evaluate_parser --xml openvino_model.xml   the exported network
"""

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from catvton_ov.masking import CATEGORIES, cloth_agnostic_mask
from catvton_ov.masking.compact import SIZE, CompactParser
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.runtime import Network, Runtime, RuntimeOptions
from tools.paper_doll import checkpoint
from tools.paper_doll.data import UNSEEN, mask_of, scene_of
from tools.paper_doll.examples import SIZE as EXAMPLE_SIZE
from tools.paper_doll.figures import draw
from tools.paper_doll.parser import PaperDollParser, load_parser

EVALUATION_SEED = UNSEEN + 500_000
BAR = 0.95

Parse = Callable[[np.ndarray], LabelMaps]


def mask_ious(parse: Parse, seeds: Iterable[int], size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """Of the mask of every category, for figures drawn at `size`: category -> (N,) in 0..1."""
    ious: dict[str, list[float]] = {category: [] for category in CATEGORIES}
    for seed in seeds:
        figure = draw(scene_of(seed), size)
        maps = parse(figure.person)
        for category, values in ious.items():
            mask = cloth_agnostic_mask(maps.densepose, maps.lip, maps.atr, category) > 0
            truth = mask_of(figure, category) > 0
            values.append((mask & truth).sum() / (mask | truth).sum())
    return {category: np.array(values) for category, values in ious.items()}


def in_torch(model: PaperDollParser) -> CompactParser:
    """The parser as it is served, its network in torch."""

    @torch.inference_mode()
    def network(picture: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(picture)).numpy()

    return CompactParser(cast(Any, network))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--run", type=Path, help="run directory")
    given.add_argument("--xml", type=Path, help="exported network")
    parser.add_argument("--count", type=int, default=64, help="figures")
    arguments = parser.parse_args()
    if arguments.run:
        parse = in_torch(load_parser(arguments.run))
    else:
        parse = CompactParser(Network(Runtime(RuntimeOptions(threads=1)), lambda: arguments.xml))
    for size in (SIZE, EXAMPLE_SIZE):
        ious = mask_ious(parse, range(EVALUATION_SEED, EVALUATION_SEED + arguments.count), size)
        for category, values in ious.items():
            figures = " | ".join(f"{value:.3f}" for value in (values.mean(), np.quantile(values, 0.05), values.min()))
            checkpoint.say(f"| {size[0]}x{size[1]} | {category} | {figures} |")
        verdict = "passes" if all(values.mean() >= BAR for values in ious.values()) else "does not pass"
        checkpoint.say(f"{arguments.count} figures of {size[0]}x{size[1]}: {verdict}")


if __name__ == "__main__":
    main()
