"""How far pictures are from each other: one bundle's from another's, and a preset's from the reference's."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.export.calibration import Pair, model_pictures
from catvton_ov.images import to_picture
from catvton_ov.metrics import psnr, ssim
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import OnStep, Picture, TryOnPipeline
from catvton_ov.presets import PRESETS
from catvton_ov.samplers import make_sampler

Array = npt.NDArray[np.float32]
Result = npt.NDArray[np.uint8]  # (H, W, 3)
Pictures = tuple[Image.Image, Image.Image, Image.Image]  # person, garment, soft mask


class Run(NamedTuple):
    """A try-on of the reference, step by step."""

    pictures: Pictures
    timesteps: Sequence[int]
    inputs: list[Array]  # the UNet's, one a step, with the garment
    noise_preds: list[Array]
    result: Result


def record_runs(pipeline: TryOnPipeline, pairs: Sequence[Pair], steps: int) -> Iterator[Run]:
    """Try on every pair, at the bundle's smallest size, and keep what the UNet saw and said."""
    size = min(pipeline.bundle.manifest.sizes)
    timesteps = make_sampler("ddim", pipeline.bundle.manifest.schedule, steps, 1.0, None).timesteps
    for number, pair in enumerate(pairs):
        pictures = model_pictures(pipeline, pair, size)
        inputs: list[Array] = []
        noise: list[Array] = []

        def keep(
            unet_input: Array,
            noise_pred: Array,
            latents: Array,
            inputs: list[Array] = inputs,
            noise: list[Array] = noise,
        ) -> None:
            del latents
            inputs.append(unet_input[-1:])
            noise.append(noise_pred[-1:])

        result = try_on_at_size(pipeline, pictures, number, TryOnOptions(steps=steps), keep)
        yield Run(pictures, [int(t) for t in timesteps], inputs, noise, result)


def try_on_at_size(
    pipeline: TryOnPipeline,
    pictures: tuple[Picture, Picture, Picture],
    seed: int | tuple[int, ...],
    options: TryOnOptions,
    on_step: OnStep | None = None,
) -> Result:
    """What a pipeline makes of person, garment and soft mask at the model's size, not yet pasted back."""
    rng = np.random.default_rng(seed)
    decoded = pipeline.generate(
        *pictures,
        steps=options.steps,
        guidance_scale=options.guidance_scale,
        sampler=options.sampler,
        eta=options.eta,
        spacing=options.spacing,
        shortcuts=options.shortcuts,
        noise=lambda shape: rng.standard_normal(shape, dtype=np.float32),
        on_step=on_step,
    )
    return np.asarray(to_picture(decoded))


def compare(pipeline: TryOnPipeline, runs: Sequence[Run]) -> dict[str, Any]:
    """How far a bundle is from the reference's runs: its pictures, and its noise for the reference's inputs."""
    pictures = [
        try_on_at_size(pipeline, run.pictures, number, TryOnOptions(steps=len(run.timesteps)))
        for number, run in enumerate(runs)
    ]
    errors = [
        [
            _relative(pipeline.unet(sample=given, timestep=np.array([t], dtype=np.int64)), expected)
            for t, given, expected in zip(run.timesteps, run.inputs, run.noise_preds, strict=True)
        ]
        for run in runs
    ]
    return {
        "pairs": len(runs),
        **_alike(pictures, [run.result for run in runs], [run.pictures[2] for run in runs]),
        "noise_error": [
            {"timestep": int(t), "relative": statistics.mean(column)}
            for t, column in zip(runs[0].timesteps, zip(*errors, strict=True), strict=True)
        ],
    }


def compare_presets(pipeline: TryOnPipeline, pairs: Sequence[Pair]) -> Iterator[dict[str, Any]]:
    """How far the pictures of the other presets are from those of `reference`: the same bundle, pictures and noise.

    Yields:
        For each of them "preset", "pairs", and what `compare` says of pictures.
    """
    size = min(pipeline.bundle.manifest.sizes)
    given = [model_pictures(pipeline, pair, size) for pair in pairs]
    made = {
        name: [try_on_at_size(pipeline, pictures, number, options) for number, pictures in enumerate(given)]
        for name, options in PRESETS.items()
    }
    truth = made.pop("reference")
    for name, results in made.items():
        yield {"preset": name, "pairs": len(pairs), **_alike(results, truth, [mask for _, _, mask in given])}


def _alike(ours: Sequence[Result], theirs: Sequence[Result], masks: Sequence[Image.Image]) -> dict[str, float]:
    """Means over pictures; `psnr_masked` looks only at what is repainted."""
    inside = [np.asarray(mask) >= 128 for mask in masks]
    return {
        "psnr": statistics.mean(psnr(a, b) for a, b in zip(ours, theirs, strict=True)),
        "psnr_masked": statistics.mean(psnr(a[at], b[at]) for a, b, at in zip(ours, theirs, inside, strict=True)),
        "ssim": statistics.mean(ssim(a, b) for a, b in zip(ours, theirs, strict=True)),
    }


def _relative(ours: Array, expected: Array) -> float:
    return float(np.sqrt(np.mean((ours - expected) ** 2) / np.mean(expected**2)))
