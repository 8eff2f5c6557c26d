"""How long a try-on takes and how much memory it needs, measured in a process of its own.

    measurement = measure(Work("my-bundle", (384, 512), steps=20, guidance_scale=2.5))

A fresh process for every measurement: peak memory is that of the whole process, and nothing is warm that would be
cold for a user. What is tried on is noise: neither time nor memory depends on the pictures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
from pydantic import TypeAdapter

from catvton_ov.errors import DeviceError
from catvton_ov.images import Size
from catvton_ov.pipeline import TryOnPipeline

_T = TypeVar("_T")


@dataclass(frozen=True)
class Work:
    """What to measure."""

    bundle: str  # folder, paper_doll, or Hub id
    size: Size  # (width, height) the model works at
    steps: int = 20
    guidance_scale: float = 2.5  # up to 1 there is one UNet pass a step, above there are two
    passes: int | None = None  # UNet passes to time, the rest is multiplied; None: all of them
    device: str = "CPU"
    threads: int | None = None

    @property
    def all_passes(self) -> int:
        """The UNet passes of one picture."""
        return self.steps * (2 if self.guidance_scale > 1 else 1)


@dataclass(frozen=True)
class Measurement:
    """Seconds unless said otherwise."""

    load: float  # opening the bundle: manifest and presence of files, for a Hub id the download too
    compile: float  # checking, reading and compiling the three parts
    first_pass: float  # the UNet's first pass, which is slower
    unet_pass: tuple[float, float, float]  # min, median, max of the others
    encode: float  # both pictures
    decode: float
    picture: float  # encode, all passes and decode, nothing else
    estimated: bool  # whether `picture` was multiplied up from fewer passes
    peak_rss_bytes: int  # of the whole process, files it maps included


def measure(work: Work) -> Measurement:
    """Do the work in a child process.

    Raises:
        DeviceError: it could not be done; the message says why (too little memory, most often).
    """
    child = subprocess.run(
        [sys.executable, "-m", "catvton_ov.measure"],
        input=json.dumps(asdict(work)),
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode != 0:
        lines = [line for line in child.stderr.splitlines() if line.strip()]
        why = lines[-1] if lines else f"the process ended with {child.returncode}"
        if child.returncode == -9:
            why = "the system stopped it for want of memory"
        width, height = work.size
        raise DeviceError(f"{work.bundle} at {width}x{height} could not be measured: {why}")
    return TypeAdapter(Measurement).validate_json(child.stdout.splitlines()[-1])


def perform(work: Work) -> Measurement:
    """Do the work in this process, which had better be fresh."""
    pipeline, load = _timed(lambda: TryOnPipeline.load(work.bundle, work.device, threads=work.threads))
    manifest = pipeline.bundle.manifest
    width, height = work.size
    channels, rows, columns = (
        manifest.latent.channels,
        height // manifest.latent.downsample,
        width // manifest.latent.downsample,
    )
    rng = np.random.default_rng(0)
    picture = rng.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
    sample = rng.standard_normal((1, 2 * channels + 1, 2 * rows, columns), dtype=np.float32)
    timestep = np.array([500], dtype=np.int64)

    _, compile_encoder = _timed(lambda: pipeline.vae_encoder.prepare(picture=picture.shape))
    latent, one = _timed(lambda: pipeline.vae_encoder(picture=picture))
    _, other = _timed(lambda: pipeline.vae_encoder(picture=picture))
    _, compile_unet = _timed(lambda: pipeline.unet.prepare(sample=sample.shape, timestep=timestep.shape))
    passes = [
        _timed(lambda: pipeline.unet(sample=sample, timestep=timestep))[1]
        for _ in range(1 + min(work.passes or work.all_passes, work.all_passes))
    ]
    _, compile_decoder = _timed(lambda: pipeline.vae_decoder.prepare(latent=latent.shape))
    _, decode = _timed(lambda: pipeline.vae_decoder(latent=latent))
    timed = passes[1:]
    return Measurement(
        load=load,
        compile=compile_encoder + compile_unet + compile_decoder,
        first_pass=passes[0],
        unet_pass=(min(timed), statistics.median(timed), max(timed)),
        encode=one + other,
        decode=decode,
        picture=one + other + statistics.mean(timed) * work.all_passes + decode,
        estimated=len(timed) < work.all_passes,
        peak_rss_bytes=_peak_rss(),
    )


def _timed(do: Callable[[], _T]) -> tuple[_T, float]:
    start = time.perf_counter()
    result = do()
    return result, time.perf_counter() - start


def _peak_rss() -> int:
    """The most memory this process has held, in bytes; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _main() -> None:
    work = TypeAdapter(Work).validate_json(sys.stdin.read())
    try:
        measurement = perform(work)
    except Exception as error:
        print(str(error) or type(error).__name__, file=sys.stderr)
        sys.exit(1)
    print(TypeAdapter(Measurement).dump_json(measurement).decode())


if __name__ == "__main__":
    _main()
