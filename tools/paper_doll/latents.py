"""The latent cache: every scene drawn and encoded once, in shards of a run directory."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import FACTOR, PaperDollAutoencoder
from tools.paper_doll.data import draw_many, latent_mask, masked_person, to_tensor

SHARD = 1024  # scenes


@dataclass(frozen=True)
class Latents:
    """N examples at latent size (h, w)."""

    person: torch.Tensor  # float16 (N, 16, h, w)
    masked: torch.Tensor  # float16 (N, 16, h, w)
    garment: torch.Tensor  # float16 (N, 16, h, w)
    mask: torch.Tensor  # uint8 (N, 1, h, w), 0 or 1: what the network is told
    covered: torch.Tensor  # uint8 (N, 1, h, w), 1 where any pixel of the cell is masked

    def __len__(self) -> int:
        return len(self.person)

    def take(self, index: torch.Tensor) -> "Latents":
        """Some examples, as float32."""
        return Latents(**{name: part[index].float() for name, part in vars(self).items()})


def join(parts: list[Latents]) -> Latents:
    return Latents(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})


@torch.inference_mode()
def encode_many(model: PaperDollAutoencoder, images: torch.Tensor, batch: int = 32) -> torch.Tensor:
    """(N, 3, H, W) to float16 (N, 16, h, w)."""
    return torch.cat([
        model.encode(part.contiguous(memory_format=torch.channels_last)).half() for part in images.split(batch)
    ])  # fmt: skip


def encode_pairs(model: PaperDollAutoencoder, persons: np.ndarray, garments: np.ndarray, masks: np.ndarray) -> Latents:
    """Pictures uint8 (N, H, W, 3) and masks uint8 (N, H, W) to latents."""
    person = to_tensor(persons)
    covered = nn.functional.max_pool2d(torch.from_numpy(masks >= 128)[:, None].float(), FACTOR)
    return Latents(
        person=encode_many(model, person),
        masked=encode_many(model, masked_person(person, masks)),
        garment=encode_many(model, to_tensor(garments)),
        mask=latent_mask(masks).to(torch.uint8),
        covered=covered.to(torch.uint8),
    )


def load_autoencoder(out: Path) -> PaperDollAutoencoder:
    state = checkpoint.load(out / "autoencoder.pt")
    if state is None:
        raise FileNotFoundError(f"{out / 'autoencoder.pt'} is missing: train the autoencoder first")
    model = PaperDollAutoencoder().to(memory_format=torch.channels_last).eval().requires_grad_(False)
    model.load_state_dict(state["model"])
    return model


def shard_path(out: Path, number: int) -> Path:
    return out / "latents" / f"{number:04d}.pt"


def cache_latents(out: Path, scenes: int) -> None:
    """Draw and encode scenes 0 .. scenes - 1; shards that exist are kept."""
    model = load_autoencoder(out)
    shard_path(out, 0).parent.mkdir(parents=True, exist_ok=True)
    for number in range(scenes // SHARD):
        path = shard_path(out, number)
        if path.exists():
            continue
        persons, garments, masks, _ = draw_many(range(number * SHARD, (number + 1) * SHARD))
        checkpoint.save(vars(encode_pairs(model, persons, garments, masks)), path)
        checkpoint.say(f"latents: shard {number + 1} of {scenes // SHARD}")


class LatentCache:
    """The shards of a run directory, in memory. Others may be appended while it is used."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.parts: list[Latents] = []
        self.refresh()

    def refresh(self) -> None:
        while shard_path(self.out, len(self.parts)).exists():
            self.parts.append(Latents(**torch.load(shard_path(self.out, len(self.parts)), weights_only=True)))

    def __len__(self) -> int:
        return SHARD * len(self.parts)

    def batch(self, size: int, generator: torch.Generator) -> Latents:
        index = torch.randint(len(self), (size,), generator=generator)
        return join([self.parts[i // SHARD].take(torch.tensor([i % SHARD])) for i in index.tolist()])
