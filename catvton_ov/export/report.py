"""What a bundle costs and what its precision does to the pictures: `report.json`, and a table for the model card."""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.bundle import PARTS, Bundle
from catvton_ov.errors import DeviceError
from catvton_ov.export.calibration import Pair, model_pictures
from catvton_ov.export.options import ReportKind
from catvton_ov.images import Size, to_picture
from catvton_ov.machine import this_machine
from catvton_ov.measure import Work, measure
from catvton_ov.metrics import psnr, ssim
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, PresetName
from catvton_ov.samplers import make_sampler

Array = npt.NDArray[np.float32]
JSON, TABLE = "report.json", "report.md"  # beside the manifest, which does not list them


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    steps: int  # of the try-ons that are compared
    passes: int | None  # UNet passes that are timed; None: those of a whole picture


EFFORTS: Mapping[str, Effort] = {"quick": Effort(steps=4, passes=2), "full": Effort(steps=20, passes=None)}


class Run(NamedTuple):
    """A try-on of the reference, step by step."""

    pictures: tuple[Image.Image, Image.Image, Image.Image]  # person, garment, soft mask
    timesteps: Sequence[int]
    inputs: list[Array]  # the UNet's, one a step, with the garment
    noise_preds: list[Array]
    result: npt.NDArray[np.uint8]  # (H, W, 3)


def make_report(
    bundles: Mapping[Any, Path],
    reference: str | None,
    pairs: Sequence[Pair],
    kind: ReportKind,
    sizes: Sequence[Size] = (),
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Measure bundles side by side.

    Args:
        bundles: name -> folder.
        reference: the bundle the pictures of the others are compared with; it is not timed. None compares nothing.
        pairs: what is tried on; none of it may have been calibrated on.
        kind: "quick" times a few passes and multiplies; "full" times whole pictures.
        sizes: (width, height) to time at; none: all the bundle is for.

    Returns:
        The content of `report.json`.
    """
    say = progress or (lambda line: None)
    effort = EFFORTS[kind]
    opened = {name: Bundle.open(folder) for name, folder in bundles.items()}
    content: dict[str, Any] = {
        "kind": kind,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": asdict(this_machine()),
        "bytes": {name: dict(part_bytes(bundle)) for name, bundle in opened.items()},
        "quality": [],
        "speed": [],
    }
    if reference is not None:
        say(f"Report: running {reference}")
        runs = list(_record(TryOnPipeline.load(bundles[reference]), pairs, effort.steps))
        for name, folder in bundles.items():
            if name != reference:
                say(f"Report: comparing {name} with {reference}")
                rows = compare(TryOnPipeline.load(folder), runs)
                content["quality"].append({"bundle": name, "reference": reference, "steps": effort.steps, **rows})
    for name, folder in bundles.items():
        for size in sizes or opened[name].manifest.sizes:
            if name != reference or len(bundles) == 1:
                for preset in PRESETS:
                    say(f"Report: timing {name} at {size[0]}x{size[1]}, {preset}")
                    content["speed"].append(_time(name, folder, size, preset, effort))
    return content


def part_bytes(bundle: Bundle) -> Mapping[str, int]:
    """Part -> bytes of its files, "total" of the whole bundle."""
    files = bundle.manifest.files
    sizes = {
        part: sum(files[str(Path(xml).with_suffix(suffix))].bytes for suffix in (".xml", ".bin"))
        for part, xml in bundle.manifest.parts.items()
    }
    return {**sizes, "total": sum(record.bytes for record in files.values())}


def compare(pipeline: TryOnPipeline, runs: Sequence[Run]) -> dict[str, Any]:
    """How far a bundle is from the reference's runs: its pictures, and its noise for the reference's inputs."""
    pictures = [_try_on(pipeline, run.pictures, number, len(run.timesteps)) for number, run in enumerate(runs)]
    errors = [
        [
            _relative(pipeline.unet(sample=given, timestep=np.array([t], dtype=np.int64)), expected)
            for t, given, expected in zip(run.timesteps, run.inputs, run.noise_preds, strict=True)
        ]
        for run in runs
    ]
    return {
        "pairs": len(runs),
        "psnr": statistics.mean(psnr(ours, run.result) for ours, run in zip(pictures, runs, strict=True)),
        "ssim": statistics.mean(ssim(ours, run.result) for ours, run in zip(pictures, runs, strict=True)),
        "noise_error": [
            {"timestep": int(t), "relative": statistics.mean(column)}
            for t, column in zip(runs[0].timesteps, zip(*errors, strict=True), strict=True)
        ],
    }


def write_report(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `report.json` and `report.md` into a bundle's folder."""
    for name, text in ((JSON, json.dumps(content, indent=2) + "\n"), (TABLE, render(content))):
        part = folder / f".{name}.part"
        part.write_text(text, encoding="utf-8")
        part.replace(folder / name)


def render(content: Mapping[str, Any]) -> str:
    """The report in Markdown."""
    machine = content["machine"]
    sets = ", ".join(machine["instruction_sets"]) or "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    lines = [
        f"Measured on {content['date']} on {machine['cores']} cores of {machine['cpu']} "
        f"(instruction sets: {sets}), {machine['memory_gb']:.0f} GB; {versions}.",
        "",
        *_table(
            ["MB", *content["bytes"]],
            ([part, *(_megabytes(sizes.get(part)) for sizes in content["bytes"].values())] for part in _parts(content)),
        ),
    ]
    if content["quality"]:
        lines += [
            f"Against {content['quality'][0]['reference']}, the same pictures and seeds, "
            f"{content['quality'][0]['pairs']} held-back pairs, {content['quality'][0]['steps']} steps. "
            "Noise error: root mean square, relative, for the same inputs.",
            "",
            *_table(
                ["", "PSNR, dB", "SSIM", "noise error, first step", "last step"],
                (
                    [
                        row["bundle"],
                        f"{row['psnr']:.1f}",
                        f"{row['ssim']:.4f}",
                        *(f"{row['noise_error'][index]['relative']:.4f}" for index in (0, -1)),
                    ]
                    for row in content["quality"]
                ),
            ),
        ]
    timed = "a few UNet passes, multiplied up to whole pictures" if content["kind"] == "quick" else "whole pictures"
    lines += [
        f"Seconds are of {timed}; memory is the process's peak.",
        "",
        *_table(
            ["", "size", "preset", "UNet pass, s", "picture, s", "memory, GB"],
            (_speed(row) for row in content["speed"]),
        ),
    ]
    return "\n".join(lines)


def _record(pipeline: TryOnPipeline, pairs: Sequence[Pair], steps: int) -> Iterator[Run]:
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

        result = _try_on(pipeline, pictures, number, steps, keep)
        yield Run(pictures, [int(t) for t in timesteps], inputs, noise, result)


def _try_on(
    pipeline: TryOnPipeline,
    pictures: tuple[Image.Image, Image.Image, Image.Image],
    seed: int,
    steps: int,
    on_step: Any = None,
) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    decoded = pipeline.generate(
        *pictures,
        steps=steps,
        guidance_scale=2.5,
        sampler="ddim",
        eta=1.0,
        noise=lambda shape: rng.standard_normal(shape, dtype=np.float32),
        on_step=on_step,
    )
    return np.asarray(to_picture(decoded))


def _relative(ours: Array, expected: Array) -> float:
    return float(np.sqrt(np.mean((ours - expected) ** 2) / np.mean(expected**2)))


def _time(name: str, folder: Path, size: Size, preset: PresetName, effort: Effort) -> dict[str, Any]:
    work = Work(str(folder), size, PRESETS[preset], passes=effort.passes)
    row: dict[str, Any] = {"bundle": name, "size": list(size), "preset": preset}
    try:
        return {**row, **asdict(measure(work))}
    except DeviceError as error:
        return {**row, "error": str(error)}


def _parts(content: Mapping[str, Any]) -> list[str]:
    named = {part for sizes in content["bytes"].values() for part in sizes} - {"total"}
    return [*sorted(named, key=lambda part: (part not in PARTS, part)), "total"]


def _megabytes(count: int | None) -> str:
    return "" if count is None else f"{count / 1e6:.1f}"


def _speed(row: Mapping[str, Any]) -> list[str]:
    size = "x".join(map(str, row["size"]))
    where = [row["bundle"], size, row["preset"]]
    if "error" in row:
        return [*where, row["error"], "", ""]
    low, median, high = row["unet_pass"]
    memory = f"{row['peak_rss_bytes'] / 1e9:.2f}"
    return [*where, f"{median:.2f} ({low:.2f} to {high:.2f})", f"{row['picture']:.1f}", memory]


def _table(head: Sequence[str], rows: Any) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [*("| " + " | ".join(line) + " |" for line in lines), ""]
