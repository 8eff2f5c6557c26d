"""Trains the paper-doll models. Every command continues where it was stopped.

python -m tools.paper_doll.train autoencoder --out DIR
python -m tools.paper_doll.train latents --out DIR --scenes 16384
python -m tools.paper_doll.train unet --out DIR
python -m tools.paper_doll.train unet --out DIR --decay-from STEP --decay-steps 3000
python -m tools.paper_doll.train parser --out DIR

Latents, UNet and parser begin a new run directory from weights in git with `--start tools/paper_doll/weights`.
"""

import argparse
from pathlib import Path

from tools.paper_doll.latents import cache_latents
from tools.paper_doll.train_autoencoder import AutoencoderOptions, train_autoencoder
from tools.paper_doll.train_parser import ParserTraining, train_parser
from tools.paper_doll.train_unet import UNetTraining, train_unet
from tools.paper_doll.weights import restore


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    autoencoder = commands.add_parser("autoencoder", help="train the autoencoder")
    autoencoder.add_argument("--steps", type=int, default=AutoencoderOptions.steps)
    latents = commands.add_parser("latents", help="draw scenes and encode them")
    latents.add_argument("--scenes", type=int, default=16384)
    unet = commands.add_parser("unet", help="train the denoiser")
    unet.add_argument("--steps", type=int, default=UNetTraining.steps)
    unet.add_argument("--lr", type=float, default=UNetTraining.lr)
    unet.add_argument("--muon", action="store_true", help="train the matrices inside with Muon instead of AdamW")
    unet.add_argument("--decay-from", type=int, help="step at which the learning rate starts to fall to zero")
    unet.add_argument("--decay-steps", type=int, default=UNetTraining.decay_steps)
    parsing = commands.add_parser("parser", help="train the compact parser")
    parsing.add_argument("--steps", type=int, default=ParserTraining.steps)
    parsing.add_argument(
        "--drawn", type=float, default=ParserTraining.drawn, help="share of figures of the network's size"
    )
    for command in (autoencoder, latents, unet, parsing):
        command.add_argument("--out", type=Path, required=True, help="run directory")
    for command in (latents, unet, parsing):
        command.add_argument("--start", type=Path, help="give a new run directory these kept weights first")
    arguments = parser.parse_args()
    if arguments.command != "autoencoder" and arguments.start:
        restore(arguments.start, arguments.out)
    if arguments.command == "autoencoder":
        train_autoencoder(arguments.out, AutoencoderOptions(steps=arguments.steps))
    elif arguments.command == "latents":
        cache_latents(arguments.out, arguments.scenes)
    elif arguments.command == "parser":
        train_parser(arguments.out, ParserTraining(steps=arguments.steps, drawn=arguments.drawn))
    else:
        options = UNetTraining(
            steps=arguments.steps,
            lr=arguments.lr,
            muon=arguments.muon,
            decay_from=arguments.decay_from,
            decay_steps=arguments.decay_steps,
        )
        train_unet(arguments.out, options)


if __name__ == "__main__":
    main()
