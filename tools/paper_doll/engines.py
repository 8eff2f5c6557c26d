"""Two ways to try on: the training checkpoint in torch, and a bundle as the app runs it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from catvton_ov.images import to_array
from catvton_ov.pipeline import TryOnPipeline
from tools.paper_doll import checkpoint
from tools.paper_doll.autoencoder import PaperDollAutoencoder
from tools.paper_doll.data import to_tensor
from tools.paper_doll.latents import encode_pairs, load_autoencoder
from tools.paper_doll.sampling import Sampling, try_on
from tools.paper_doll.trials import Trials
from tools.paper_doll.unet import PaperDollUNet


class Engine(Protocol):
    name: str  # says which step of the training this is

    def try_on(self, trials: Trials, sampling: Sampling) -> torch.Tensor:
        """The decoded persons (N, 3, H, W), nominally in [-1, 1], not yet pasted back."""

    def reconstruct(self, images: np.ndarray) -> torch.Tensor:
        """Pictures uint8 (N, H, W, 3) through the autoencoder: (N, 3, H, W)."""


@dataclass(frozen=True)
class TorchEngine:
    name: str
    unet: PaperDollUNet
    autoencoder: PaperDollAutoencoder

    @classmethod
    def load(cls, run: Path) -> "TorchEngine":
        unet, step = load_unet(run)
        return cls(f"torch, step {step}", unet, load_autoencoder(run))

    def try_on(self, trials: Trials, sampling: Sampling) -> torch.Tensor:
        x = encode_pairs(self.autoencoder, trials.persons, trials.garments, trials.masks)
        latents = try_on(self.unet, x.take(torch.arange(len(trials))), sampling)
        return self.autoencoder.decode(latents)

    def reconstruct(self, images: np.ndarray) -> torch.Tensor:
        return self.autoencoder.decode(self.autoencoder.encode(to_tensor(images)))


@dataclass(frozen=True)
class BundleEngine:
    name: str
    pipeline: TryOnPipeline

    @classmethod
    def load(cls, folder: Path, threads: int | None = None) -> "BundleEngine":
        pipeline = TryOnPipeline.load(folder, threads=threads)
        recipe = next(source for source in pipeline.bundle.manifest.sources if source.role == "recipe")
        return cls(f"bundle {folder.name}, {recipe.revision}", pipeline)

    def try_on(self, trials: Trials, sampling: Sampling) -> torch.Tensor:
        results = []
        for number in range(len(trials)):
            rng = np.random.default_rng((sampling.seed, number))
            result = self.pipeline.generate(
                trials.persons[number],
                trials.garments[number],
                trials.masks[number],
                steps=sampling.steps,
                guidance_scale=sampling.guidance,
                sampler="ddim",
                eta=sampling.eta,
                noise=lambda shape, rng=rng: rng.standard_normal(shape, dtype=np.float32),
            )
            results.append(torch.from_numpy(result.copy()))
        return torch.cat(results)

    def reconstruct(self, images: np.ndarray) -> torch.Tensor:
        encode, decode = self.pipeline.vae_encoder, self.pipeline.vae_decoder
        pictures = [to_array(image) for image in images]
        return torch.cat([torch.from_numpy(decode(latent=encode(picture=each)).copy()) for each in pictures])


def load_unet(run: Path) -> tuple[PaperDollUNet, int]:
    """The averaged UNet of a run directory and its training step."""
    state = checkpoint.load(run / "unet.pt")
    if state is None:
        raise FileNotFoundError(f"{run / 'unet.pt'} is missing: train the UNet first")
    model = PaperDollUNet().to(memory_format=torch.channels_last).eval().requires_grad_(False)
    model.load_state_dict(state["model"])
    return model, state["step"]
