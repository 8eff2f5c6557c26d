"""What a bundle costs and what its precision does to the pictures: `report.json`, and a table for the model card."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from catvton_ov.bundle import Bundle, Manifest
from catvton_ov.errors import DeviceError
from catvton_ov.export.calibration import Pair
from catvton_ov.export.options import CalibrationOptions, ReportKind
from catvton_ov.export.report_pictures import compare, compare_presets, record_runs
from catvton_ov.export.report_table import render
from catvton_ov.files import write_whole
from catvton_ov.machine import this_machine
from catvton_ov.measure import Work, measure
from catvton_ov.pictures.reading import Size
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, PresetName

JSON, TABLE = "report.json", "report.md"  # beside the manifest, which does not list them


@dataclass(frozen=True)
class Effort:
    """How much is tried."""

    steps: int  # of the try-ons that are compared
    passes: int | None  # UNet passes that are timed; None: those of a whole picture
    presets: bool  # whether the presets' pictures are compared


EFFORTS: Mapping[str, Effort] = {
    "quick": Effort(steps=4, passes=2, presets=False),
    "full": Effort(steps=20, passes=None, presets=True),
}


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
        kind: "quick" times a few passes and multiplies; "full" times whole pictures, and compares those of the presets.
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
        "extras": {name: extras for name, bundle in opened.items() if (extras := _extras(bundle))},
        "quality": [],
        "presets": [],
        "speed": [],
    }
    if reference is not None:
        say(f"Report: running {reference}")
        runs = list(record_runs(TryOnPipeline.load(bundles[reference]), pairs, effort.steps))
        for name, folder in bundles.items():
            if name != reference:
                say(f"Report: comparing {name} with {reference}")
                rows = compare(TryOnPipeline.load(folder), runs)
                content["quality"].append({"bundle": name, "reference": reference, "steps": effort.steps, **rows})
    for name, folder in bundles.items():
        if name == reference and len(bundles) > 1:
            continue
        if effort.presets and pairs:
            say(f"Report: comparing the presets of {name}")
            rows_of_presets = compare_presets(TryOnPipeline.load(folder), pairs)
            content["presets"] += [{"bundle": name, **row} for row in rows_of_presets]
        for size in sizes or opened[name].manifest.sizes:
            say(f"Report: timing {name} at {size[0]}x{size[1]}")
            found = _times(folder, size, effort)
            content["speed"] += [{"bundle": name, "size": list(size), "preset": key, **row} for key, row in found]
    return content


def calibration_of(manifest: Manifest, folder: Path | None) -> CalibrationOptions:
    """How a bundle's pictures were chosen when it was quantized, so that the same ones are held back again."""
    quantization: Mapping[str, Any] = manifest.quantization or {}
    record = quantization.get("calibration", {})
    known = {name: record[name] for name in ("runs", "held_back", "seed") if name in record}
    return CalibrationOptions(folder=folder, **known)


def read_report(folder: Path) -> dict[str, Any] | None:
    """What `write_report` put into a bundle's folder; None where there is nothing of the kind."""
    try:
        content = json.loads((folder / JSON).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "quality" in content else None


def with_comparison_of(former: Mapping[str, Any] | None, content: dict[str, Any]) -> dict[str, Any]:
    """A report that compared nothing, with what a former one of the bundle had compared, marked with its date.

    The float bundles that an export compares with go away with it, so that this cannot be measured again.
    """
    if former is None or not former["quality"]:
        return content
    kept = {key: {**former.get(key, {}), **content[key]} for key in ("bytes", "extras")}
    presets = content["presets"] or former.get("presets", [])
    compared = former.get("compared", former.get("date"))
    return {**content, **kept, "quality": former["quality"], "presets": presets, "compared": compared}


def part_bytes(bundle: Bundle) -> Mapping[str, int]:
    """Part -> bytes of its files, "total" of the whole bundle."""
    files = bundle.manifest.files
    sizes = {
        part: sum(files[str(Path(xml).with_suffix(suffix))].bytes for suffix in (".xml", ".bin"))
        for part, xml in bundle.manifest.parts.items()
    }
    return {**sizes, "total": sum(record.bytes for record in files.values())}


def write_report(folder: Path, content: Mapping[str, Any]) -> None:
    """Write `report.json` and `report.md` into a bundle's folder."""
    for name, text in ((JSON, json.dumps(content, indent=2) + "\n"), (TABLE, render(content))):
        write_whole(folder / name, text.encode())


def _extras(bundle: Bundle) -> Mapping[str, Any]:
    """What quantizing changed around the UNet, see extras.py and vae_int8.py; nothing for a float bundle."""
    record: Mapping[str, Any] = bundle.manifest.quantization or {}
    vae = {"vae": record["vae"]} if "vae" in record else {}
    return {**vae, **record.get("extras", {})}


def _times(folder: Path, size: Size, effort: Effort) -> Iterator[tuple[PresetName, dict[str, Any]]]:
    """Every preset with its measurement, or why there is none.

    Where passes are multiplied, those of `fast` are timed for all: it has of both kinds, of the same graphs.
    """
    if effort.passes is not None:
        try:
            found = measure(Work(str(folder), size, PRESETS["fast"], passes=effort.passes))
        except DeviceError as error:
            yield from ((preset, {"error": str(error)}) for preset in PRESETS)
            return
        yield from ((preset, asdict(found.of(options))) for preset, options in PRESETS.items())
        return
    for preset, options in PRESETS.items():
        try:
            yield preset, asdict(measure(Work(str(folder), size, options)))
        except DeviceError as error:
            yield preset, {"error": str(error)}
