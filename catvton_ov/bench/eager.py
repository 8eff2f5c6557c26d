"""Another yardstick: PyTorch, eager and in float32, as the authors' code runs on a CPU. Needs torch and diffusers.

The weights are random: a bundle holds none that torch could read, and time does not depend on them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL

from catvton_ov.bundle import Bundle
from catvton_ov.errors import BundleError
from catvton_ov.export.unet import NoisePredictor, build_unet, drop_cross_attention
from catvton_ov.measure import Work, noise_inputs
from catvton_ov.shortcuts import Pass


class EagerSubject:
    def __init__(self, work: Work) -> None:
        """Raises BundleError if the bundle does not tell the architecture."""
        if work.threads is not None:
            torch.set_num_threads(work.threads)
        bundle = Bundle.open(Path(work.bundle))
        configs = [bundle.folder / part / "config.json" for part in ("unet", "vae_encoder")]
        if not all(path.is_file() for path in configs):
            raise BundleError(f"{bundle.manifest.name} brings no unet/config.json, so torch cannot build the network.")
        self._configs = [json.loads(path.read_bytes()) for path in configs]
        self._steps = work.options.steps
        latent = bundle.manifest.latent
        picture, sample = noise_inputs(work.size, latent.channels, latent.downsample)
        self._picture, self._sample = torch.from_numpy(picture), torch.from_numpy(sample).repeat(2, 1, 1, 1)

    @torch.inference_mode()
    def prepare(self) -> None:
        unet = build_unet(self._configs[0], "the bundle")
        drop_cross_attention(unet)
        self._unet = NoisePredictor(unet.to_empty(device="cpu").eval())
        for parameter in self._unet.parameters():
            parameter.normal_(std=0.02)
        self._vae = AutoencoderKL.from_config(self._configs[1]).eval()

    @torch.inference_mode()
    def encode(self) -> None:
        for _ in range(2):
            self._latent = self._vae.encode(self._picture).latent_dist.mean

    def plan(self) -> list[Pass]:
        return [Pass("conditional", True)] * self._steps  # both branches at once

    @torch.inference_mode()
    def run(self, planned: Pass) -> None:
        self._unet(self._sample, torch.tensor([500]))

    @torch.inference_mode()
    def decode(self) -> None:
        self._vae.decode(self._latent)

    def operations(self) -> Mapping[str, float]:
        return {}
