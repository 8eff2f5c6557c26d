"""How long a try-on takes and how much memory it needs, measured in a process of its own.

    measurement = measure(Work("my-bundle", (384, 512), PRESETS["fast"]))

A fresh process for every measurement: peak memory is that of the whole process, and nothing is warm that would be
cold for a user. What is tried on is noise: neither time nor memory depends on the pictures.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import numpy as np
from pydantic import TypeAdapter

from catvton_ov.errors import DeviceError
from catvton_ov.options import TryOnOptions
from catvton_ov.pictures.reading import Size
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Array, Precision
from catvton_ov.shortcuts import Pass, plan_passes

_T = TypeVar("_T")
Engine = Literal["pipeline", "notebook", "torch"]


@dataclass(frozen=True)
class Work:
    """What to measure."""

    bundle: str  # folder, paper_doll, or Hub id
    size: Size  # (width, height) the model works at
    options: TryOnOptions = TryOnOptions()  # steps, guidance and shortcuts count here; the rest changes no time
    engine: Engine = "pipeline"  # or one of the yardsticks, which see only the steps of `options`
    passes: int | None = None  # UNet passes to time, the rest is multiplied; None: all of them
    operations: bool = False  # also say where the time of a full pass goes; slows it down a little
    device: str = "CPU"
    threads: int | None = None
    precision: Precision | None = None  # of inference; None is f32 on a CPU, for the yardsticks too


@dataclass(frozen=True)
class Measurement:
    """Seconds unless said otherwise."""

    load: float  # opening the bundle: manifest and presence of files, for a Hub id the download too
    compile: float  # checking, reading and compiling the three parts
    first_pass: float  # the UNet's first pass, which is slower
    unet_pass: tuple[float, float, float]  # min, median, max of the others that are full
    shallow_pass: float | None  # median, where there are any
    passes: tuple[int, int]  # of one picture: full and shallow
    encode: float  # both pictures
    decode: float
    picture: float  # encode, all passes and decode, nothing else
    estimated: bool  # whether `picture` was multiplied up from fewer passes
    peak_rss_bytes: int  # of the whole process, files it maps included
    operations: Mapping[str, float] = field(default_factory=dict)  # operation type -> its seconds in a full pass

    def of(self, options: TryOnOptions) -> Measurement:
        """Multiplied up to a picture with other options, whose passes must be of the kinds that were timed here."""
        plan = plan_of(options)
        full = sum(planned.full for planned in plan)
        denoise = full * self.unet_pass[1] + (len(plan) - full) * (self.shallow_pass or 0.0)
        picture = self.encode + denoise + self.decode
        return replace(self, passes=(full, len(plan) - full), picture=picture, estimated=True)


class Subject(Protocol):
    """What is measured. Every method is called once before it is timed, where that makes a difference."""

    def prepare(self) -> None:
        """Read and compile all parts."""

    def encode(self) -> None:
        """Both pictures."""

    def plan(self) -> list[Pass]:
        """The runs of the UNet that a picture takes, in order."""

    def run(self, planned: Pass) -> None:
        """One of them."""

    def decode(self) -> None:
        """One picture."""

    def operations(self) -> Mapping[str, float]:
        """Where the time of the last full pass went: operation type -> seconds; empty if it cannot be told."""


class PipelineSubject:
    """TryOnPipeline's own way."""

    def __init__(self, work: Work) -> None:
        self._pipeline = TryOnPipeline.load(
            work.bundle, work.device, threads=work.threads, precision=work.precision, profile=work.operations
        )
        manifest = self._pipeline.bundle.manifest
        self._options, self._size = work.options, work.size
        self._picture, self._sample = noise_inputs(work.size, manifest.latent.channels, manifest.latent.downsample)
        self._latent: Array | None = None
        self._pipeline.unet.take(work.options.shortcuts)
        self._passes = self._pipeline.unet.passes()

    def prepare(self) -> None:
        _, channels, rows, columns = self._sample.shape
        self._pipeline.vae_encoder.prepare(picture=self._picture.shape)
        self._pipeline.unet.prepare(self._sample.shape)
        self._pipeline.vae_decoder.prepare(latent=(1, channels // 2, rows // 2, columns))

    def encode(self) -> None:
        for _ in range(2):
            self._latent = self._pipeline.vae_encoder(picture=self._picture)
        self._pipeline.spare(self._pipeline.vae_encoder, self._size)

    def plan(self) -> list[Pass]:
        return plan_of(self._options)

    def run(self, planned: Pass) -> None:
        self._passes(planned, self._sample, np.array([500], dtype=np.int64))

    def decode(self) -> None:
        assert self._latent is not None
        self._pipeline.vae_decoder(latent=self._latent)
        self._pipeline.spare(self._pipeline.vae_decoder, self._size)

    def operations(self) -> Mapping[str, float]:
        return self._pipeline.unet.profile()


def plan_of(options: TryOnOptions) -> list[Pass]:
    """The runs of the UNet that a picture takes, in order."""
    plan = plan_passes(options.steps, options.guidance_scale, options.shortcuts)
    return [planned for step in plan for planned in step]


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
    subject, load = _timed(lambda: _subject(work))
    _, compiling = _timed(subject.prepare)
    subject.encode()
    _, encode = _timed(subject.encode)
    plan = subject.plan()
    counts = sum(planned.full for planned in plan), sum(not planned.full for planned in plan)
    seconds: dict[bool, list[float]] = defaultdict(list)
    _, first = _timed(lambda: subject.run(plan[0]))
    # A shallow graph is compiled by its first pass, which is not counted either.
    if shallow := next((planned for planned in plan if not planned.full), None):
        subject.run(Pass(shallow.branch, True))
        _, extra = _timed(lambda: subject.run(shallow))
    for planned in plan if work.passes is None else _sample_of(plan, work.passes):
        seconds[planned.full].append(_timed(lambda planned=planned: subject.run(planned))[1])  # type: ignore[misc]
    operations: Mapping[str, float] = {}
    if work.operations:
        subject.run(plan[0])
        operations = subject.operations()
    subject.decode()
    _, decode = _timed(subject.decode)
    full, some = statistics.mean(seconds[True]), seconds[False]
    denoise = full * counts[0] + (statistics.mean(some) * counts[1] if some else 0)
    return Measurement(
        load=load,
        compile=compiling + (max(0.0, extra - statistics.mean(some)) if some else 0),
        first_pass=first,
        unet_pass=(min(seconds[True]), statistics.median(seconds[True]), max(seconds[True])),
        shallow_pass=statistics.median(some) if some else None,
        passes=counts,
        encode=encode,
        decode=decode,
        picture=encode + denoise + decode,
        estimated=sum(map(len, seconds.values())) < len(plan),
        peak_rss_bytes=peak_rss(),
        operations=operations,
    )


def noise_inputs(size: Size, channels: int, downsample: int) -> tuple[Array, Array]:
    """A picture (1, 3, H, W) and a UNet input (1, 2C+1, 2h, w), both float32."""
    width, height = size
    rng = np.random.default_rng(0)
    picture = rng.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
    shape = (1, 2 * channels + 1, 2 * (height // downsample), width // downsample)
    return picture, rng.standard_normal(shape, dtype=np.float32)


def _subject(work: Work) -> Subject:
    if work.engine == "pipeline":
        return PipelineSubject(work)
    if work.engine == "notebook":
        from catvton_ov.bench.notebook import NotebookSubject

        return NotebookSubject(work)
    from catvton_ov.bench.eager import EagerSubject

    return EagerSubject(work)


def _sample_of(plan: list[Pass], count: int) -> list[Pass]:
    """So many passes of a plan, shallow ones among them if it has any, so at least two then; a full one comes first."""
    full = [planned for planned in plan if planned.full]
    shallow = [planned for planned in plan if not planned.full][: max(1, count // 2)]
    return full[: max(1, count - len(shallow))] + [each._replace(branch=full[0].branch) for each in shallow]


def _timed(do: Callable[[], _T]) -> tuple[_T, float]:
    start = time.perf_counter()
    result = do()
    return result, time.perf_counter() - start


def peak_rss() -> int:
    """The most memory this process has held, in bytes; 0 where the system does not tell."""
    try:  # on Linux, getrusage would count what the parent held when it started this process
        status = Path("/proc/self/status").read_text()
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    except (OSError, IndexError):
        pass
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
