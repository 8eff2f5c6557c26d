"""Weights small enough for git, and starting from them on another machine."""

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from tools.paper_doll import checkpoint

PARTS = ("autoencoder", "unet")


def keep(run: Path, out: Path) -> None:
    """Write the autoencoder and the averaged UNet of `run` as float16 safetensors, with their training steps."""
    out.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        state = checkpoint.load(run / f"{part}.pt")
        if state is None:
            raise FileNotFoundError(f"{run / f'{part}.pt'} is missing: train the {part} first")
        tensors = {name: tensor.half().contiguous() for name, tensor in state["model"].items()}
        path = out / f"{part}.safetensors"
        partial = path.with_suffix(".partial")
        partial.write_bytes(save(tensors, metadata={"step": str(state["step"])}))
        partial.replace(path)
        checkpoint.say(f"{path}: step {state['step']}, {path.stat().st_size / 1e6:.1f} MB")


def restore(weights: Path, run: Path) -> None:
    """Give `run` the kept weights. The UNet needs the very autoencoder it was trained with, so a run that has
    any checkpoint is left alone."""
    if any((run / f"{part}{kind}.pt").exists() for part in PARTS for kind in ("", "_training")):
        checkpoint.say(f"{run} has checkpoints already: {weights} is not used")
        return
    run.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        with safe_open(weights / f"{part}.safetensors", framework="pt") as file:
            tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
            step = int(file.metadata()["step"])
        checkpoint.save({"model": tensors, "step": step}, run / f"{part}.pt")
        checkpoint.say(f"{run / f'{part}.pt'}: from {weights}, step {step}")
