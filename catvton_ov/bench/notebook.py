"""The yardstick: how OpenVINO's published notebook runs CatVTON.

Post-training quantization of everything NNCF quantizes in a transformer, attention inputs included; dynamic shapes;
guidance as one pass of batch 2; DDIM with 50 steps. Its samples and steps are not ours to improve.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import openvino as ov

from catvton_ov.bundle import Bundle
from catvton_ov.measure import Work, noise_inputs
from catvton_ov.options import TryOnOptions
from catvton_ov.runtime import operation_seconds
from catvton_ov.shortcuts import Pass

NOTEBOOK = TryOnOptions(steps=50, sampler="ddim", eta=1.0)


class NotebookSubject:
    """What `Work.bundle` names must be a bundle quantized with the recipe "ptq", or one in float."""

    def __init__(self, work: Work) -> None:
        self._bundle = Bundle.open(Path(work.bundle))
        self._steps = work.options.steps
        self._config = {
            "PERF_COUNT": work.operations,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": work.precision or "f32",
        }
        if work.threads is not None:
            self._config["INFERENCE_NUM_THREADS"] = work.threads
        latent = self._bundle.manifest.latent
        picture, sample = noise_inputs(work.size, latent.channels, latent.downsample)
        self._picture, self._sample = picture, np.concatenate([sample, sample])
        self._parts: dict[str, ov.CompiledModel] = {}
        self._requests: dict[str, ov.InferRequest] = {}

    def prepare(self) -> None:
        core = ov.Core()
        for part in ("vae_encoder", "unet", "vae_decoder"):
            self._parts[part] = core.compile_model(core.read_model(self._bundle.part(part)), "CPU", self._config)
            self._requests[part] = self._parts[part].create_infer_request()

    def encode(self) -> None:
        for _ in range(2):
            self._requests["vae_encoder"].infer({"picture": self._picture})

    def plan(self) -> list[Pass]:
        return [Pass("conditional", True)] * self._steps  # both branches at once

    def run(self, planned: Pass) -> None:
        self._requests["unet"].infer({"sample": self._sample, "timestep": np.array([500], dtype=np.int64)})

    def decode(self) -> None:
        latent = self._requests["vae_encoder"].get_output_tensor(0).data
        self._requests["vae_decoder"].infer({"latent": latent})

    def operations(self) -> Mapping[str, float]:
        return operation_seconds(self._requests["unet"])
