"""What each lever that changes no picture is worth alone: a guided step as it is served, and with one lever undone.

python -m tools.exact_levers --bundle BUNDLE [--size 384x512] [--rounds 2] [--steps 2]

Every turn is a process of its own, and the turns alternate. A guided step is both predictions of the UNet.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov

from catvton_ov.bundle import Bundle
from catvton_ov.measure import noise_inputs, peak_rss
from catvton_ov.options import size_of
from catvton_ov.pipeline import TryOnPipeline

TIMESTEP = np.array([500], dtype=np.int64)
Size = tuple[int, int]


def step(
    bundle: str,
    size: Size,
    steps: int,
    *,
    batch: int = 1,
    static: bool = True,
    fused: bool = True,
    inputs_shared: bool = True,
    outputs_shared: bool = False,
    threads: int | None = None,
) -> dict[str, float]:
    """Compile the UNet and take guided steps; the first is not counted."""
    opened = Bundle.open(Path(bundle))
    latent = opened.manifest.latent
    _, sample = noise_inputs(size, latent.channels, latent.downsample)
    sample = np.concatenate([sample] * batch)
    config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if threads is not None:
        config["INFERENCE_NUM_THREADS"] = threads
    if not fused:
        config["SNIPPETS_MODE"] = "DISABLE"
    begun = time.perf_counter()
    core = ov.Core()
    model = core.read_model(opened.part("unet"))
    if static:
        model.reshape({"sample": list(sample.shape), "timestep": [1]})
    request = core.compile_model(model, "CPU", config).create_infer_request()
    compiled = time.perf_counter() - begun
    seconds = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        for _ in range(2 // batch):
            inputs = {"sample": sample, "timestep": TIMESTEP}
            request.infer(inputs, share_inputs=inputs_shared, share_outputs=outputs_shared)
        seconds.append(time.perf_counter() - begun)
    return {"a guided step": statistics.median(seconds[1:]), "compile": compiled}


def beginning(bundle: str, size: Size, *, alongside: bool) -> dict[str, float]:
    """Until the first step can be taken: both pictures encoded, and the UNet compiled, alongside or afterwards."""
    pipeline = TryOnPipeline.load(bundle)
    latent = pipeline.bundle.manifest.latent
    picture, sample = noise_inputs(size, latent.channels, latent.downsample)
    begun = time.perf_counter()
    with ThreadPoolExecutor(1) as thread:
        compiling = thread.submit(pipeline.unet.prepare, sample.shape) if alongside else None
        for _ in range(2):
            pipeline.encode(picture)
        if compiling is None:
            pipeline.unet.prepare(sample.shape)
        else:
            compiling.result()
    return {"until the first step": time.perf_counter() - begun}


def whole(bundle: str, size: Size, *, kept: bool) -> dict[str, float]:
    """One pass between both halves of the VAE, the encoder kept in memory or let go before."""
    pipeline = TryOnPipeline.load(bundle)
    latent = pipeline.bundle.manifest.latent
    picture, sample = noise_inputs(size, latent.channels, latent.downsample)
    encoded = pipeline.encode(picture)
    if not kept:
        pipeline.vae_encoder.release()
    pipeline.unet(sample, TIMESTEP)
    before = peak_rss() / 1e9
    pipeline.vae_decoder(latent=encoded)
    begun = time.perf_counter()
    pipeline.vae_encoder.prepare(picture=picture.shape)
    return {"GB before decoding": before, "encoder ready again": time.perf_counter() - begun}


def blob(bundle: str, size: Size, *, warm: bool) -> dict[str, float]:
    """Compile the UNet with a cache of compiled models, which is empty or not."""
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(1 + warm):
            pipeline = TryOnPipeline.load(bundle, cache_dir=Path(folder))
            latent = pipeline.bundle.manifest.latent
            _, sample = noise_inputs(size, latent.channels, latent.downsample)
            begun = time.perf_counter()
            pipeline.unet.prepare(sample.shape)
            compiled = time.perf_counter() - begun
            pipeline.unet.release()
        kept = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return {"compile": compiled, "MB of cache": kept / 1e6}


TURNS: dict[str, Callable[[str, Size, int], dict[str, float]]] = {
    "as served": lambda bundle, size, steps: step(bundle, size, steps),
    "guidance as batch 2": lambda bundle, size, steps: step(bundle, size, steps, batch=2),
    "dynamic shapes": lambda bundle, size, steps: step(bundle, size, steps, static=False),
    "attention not fused": lambda bundle, size, steps: step(bundle, size, steps, fused=False),
    "inputs copied": lambda bundle, size, steps: step(bundle, size, steps, inputs_shared=False),
    "outputs not copied": lambda bundle, size, steps: step(bundle, size, steps, outputs_shared=True),
    "one thread": lambda bundle, size, steps: step(bundle, size, steps, threads=1),
    "four threads": lambda bundle, size, steps: step(bundle, size, steps, threads=4),
    "compiled alongside encoding": lambda bundle, size, _: beginning(bundle, size, alongside=True),
    "compiled afterwards": lambda bundle, size, _: beginning(bundle, size, alongside=False),
    "encoder kept": lambda bundle, size, _: whole(bundle, size, kept=True),
    "encoder let go": lambda bundle, size, _: whole(bundle, size, kept=False),
    "cache empty": lambda bundle, size, _: blob(bundle, size, warm=False),
    "cache warm": lambda bundle, size, _: blob(bundle, size, warm=True),
}


def turn(name: str, bundle: str, size: Size, steps: int) -> dict[str, float] | str:
    """What a process of its own found, its peak memory too; or why it could not."""
    command = [sys.executable, "-m", "tools.exact_levers", "--turn", name, "--bundle", bundle]
    command += ["--size", f"{size[0]}x{size[1]}", "--steps", str(steps)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    if child.returncode:
        return child.stderr.strip().splitlines()[-1] if child.stderr.strip() else f"ended with {child.returncode}"
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", required=True)
    parser.add_argument("--size", type=size_of, default=(384, 512))
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--only", help="names, separated by semicolons; all if not given")
    parser.add_argument("--turn", choices=tuple(TURNS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.turn:
        found = TURNS[given.turn](given.bundle, given.size, given.steps)
        print(json.dumps({**found, "GB at the highest": peak_rss() / 1e9}))
        return
    results: dict[str, list[dict[str, float]]] = {}
    for _ in range(given.rounds):
        for name in given.only.split(";") if given.only else TURNS:
            result = turn(name, given.bundle, given.size, given.steps)
            print(f"{name}: {result}", file=sys.stderr, flush=True)
            if not isinstance(result, str):
                results.setdefault(name, []).append(result)
    for name, rounds in results.items():
        figures = (f"{what} {statistics.median(each[what] for each in rounds):.3g}" for what in rounds[0])
        print(f"| {name} | {', '.join(figures)} |")


if __name__ == "__main__":
    main()
