"""Builds what the project ships from a run directory.

python -m tools.paper_doll.build all --run RUN --out assets/paper_doll      everything; resumes whatever is there
python -m tools.paper_doll.build bundle --run RUN --out assets/paper_doll   the bundle from the newest checkpoint
python -m tools.paper_doll.build sheet --out assets/paper_doll              assets/paper_doll_sheet.png
python -m tools.paper_doll.build evaluate --run RUN --out assets/paper_doll   the bundle's quality
python -m tools.paper_doll.build keep --run RUN --out tools/paper_doll/weights   float16 weights for git
"""

import argparse
from pathlib import Path

import torch

from tools.paper_doll.bundle import make_bundle
from tools.paper_doll.engines import BundleEngine
from tools.paper_doll.evaluate import evaluate
from tools.paper_doll.latents import cache_latents
from tools.paper_doll.sampling import Sampling
from tools.paper_doll.sheet import make_sheet
from tools.paper_doll.train_autoencoder import AutoencoderOptions, train_autoencoder
from tools.paper_doll.train_parser import ParserTraining, train_parser
from tools.paper_doll.train_unet import UNetTraining, train_unet
from tools.paper_doll.weights import keep, restore


def train_all(run: Path, scenes: int, steps: int, decay_steps: int, start: Path | None) -> None:
    """Parser, autoencoder, latents, denoiser, whose learning rate falls to zero over the last of its `steps`."""
    if start is not None:
        restore(start, run)
    if not (run / "parser.pt").exists():
        train_parser(run, ParserTraining())
    if not (run / "autoencoder.pt").exists():
        train_autoencoder(run, AutoencoderOptions())
    cache_latents(run, scenes)
    train_unet(run, UNetTraining(muon=True, decay_from=max(0, steps - decay_steps), decay_steps=decay_steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("all", "bundle", "sheet", "evaluate", "keep"))
    parser.add_argument("--run", type=Path, help="run directory; needed by all but sheet")
    parser.add_argument("--out", type=Path, required=True, help="the bundle; of keep: where the weights go")
    parser.add_argument("--scenes", type=int, default=16384, help="all: how many to train on")
    parser.add_argument("--steps", type=int, default=12000, help="all: of the UNet's training, in total")
    parser.add_argument("--decay-steps", type=int, default=UNetTraining.decay_steps)
    parser.add_argument("--start", type=Path, help="all: begin a new run from these kept weights")
    parser.add_argument("--precision", choices=("int8", "fp16"), default="int8", help="of the bundle's weights")
    parser.add_argument("--count", type=int, default=64, help="pairs to evaluate")
    parser.add_argument("--threads", type=int, help="CPU threads; by default what torch and OpenVINO choose")
    arguments = parser.parse_args()
    command, run, out = arguments.command, arguments.run, arguments.out
    if run is None and command != "sheet":
        parser.error(f"{command} needs --run")
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if command == "keep":
        keep(run, out)
    if command == "all":
        train_all(run, arguments.scenes, arguments.steps, arguments.decay_steps, arguments.start)
    if command in ("all", "bundle"):
        make_bundle(run, out, int8=arguments.precision == "int8")
    if command in ("all", "sheet"):
        make_sheet(out, out.with_name(f"{out.name}_sheet.png"), arguments.threads)
    if command in ("all", "evaluate"):
        evaluate(BundleEngine.load(out, arguments.threads), run, arguments.count, Sampling())


if __name__ == "__main__":
    main()
