"""Checkpoints that are either whole or absent, seeded initial weights, and a log that says when."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch


def save(state: dict[str, Any], path: Path) -> None:
    """Write beside the target, then rename over it."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def load(path: Path) -> dict[str, Any] | None:
    """The state, or None where there is none yet."""
    return torch.load(path, weights_only=True) if path.exists() else None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw initial weights from `seed`; torch's global generator is as before afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)
