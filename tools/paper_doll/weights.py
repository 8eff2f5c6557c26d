"""Weights small enough for git, and starting from them on another machine."""

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save

from tools.paper_doll import checkpoint

# Parts that need the very others they were trained with.
SETS = (("autoencoder", "unet"), ("parser",), ("judge",))


def kept_file(weights: Path, part: str) -> Path:
    return weights / f"{part}.safetensors"


def keep(run: Path, out: Path) -> None:
    """Write the trained parts of `run` as float16 safetensors, with their training steps; of the UNet, its average."""
    kept = [parts for parts in SETS if any((run / f"{part}.pt").exists() for part in parts)]
    if not kept:
        raise FileNotFoundError(f"{run} holds no trained part")
    out.mkdir(parents=True, exist_ok=True)
    for part in (part for parts in kept for part in parts):
        state = checkpoint.load(run / f"{part}.pt")
        if state is None:
            raise FileNotFoundError(f"{run / f'{part}.pt'} is missing: train the {part} first")
        tensors = {name: tensor.half().contiguous() for name, tensor in state["model"].items()}
        path = kept_file(out, part)
        partial = path.with_suffix(".partial")
        partial.write_bytes(save(tensors, metadata={"step": str(state["step"])}))
        partial.replace(path)
        checkpoint.say(f"{path}: step {state['step']}, {path.stat().st_size / 1e6:.1f} MB")


def restore(weights: Path, run: Path) -> None:
    """Give `run` the kept weights; of a set of which it has any checkpoint already, none."""
    if not any(kept_file(weights, part).exists() for parts in SETS for part in parts):
        raise FileNotFoundError(f"{weights} holds no kept weights")
    run.mkdir(parents=True, exist_ok=True)
    for parts in SETS:
        if any((run / f"{part}{kind}.pt").exists() for part in parts for kind in ("", "_training")):
            checkpoint.say(f"{run} has checkpoints already: {', '.join(parts)} of {weights} not used")
            continue
        if not any(kept_file(weights, part).exists() for part in parts):
            checkpoint.say(f"{weights} holds no {' and no '.join(parts)}")
            continue
        for part in parts:
            state = read(weights, part)
            checkpoint.save(state, run / f"{part}.pt")
            checkpoint.say(f"{run / f'{part}.pt'}: from {weights}, step {state['step']}")


def read(weights: Path, part: str) -> dict[str, Any]:
    """What `keep` wrote of a part, as a checkpoint: "model" in float32, and "step"."""
    with safe_open(kept_file(weights, part), framework="pt") as file:
        tensors: dict[str, torch.Tensor] = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
        return {"model": tensors, "step": int(file.metadata()["step"])}
