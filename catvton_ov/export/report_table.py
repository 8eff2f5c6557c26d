"""The report in Markdown, for `report.md` and the model card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from catvton_ov.bundle import PARTS
from catvton_ov.masking.densepose import PARTS as DENSEPOSE

_ALIKE = ("PSNR, dB", "PSNR under the mask, dB", "SSIM")


def render(content: Mapping[str, Any]) -> str:
    """Tables for people.

    Args:
        content: what `make_report` returns.
    """
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
    if content["extras"]:
        lines += [
            "The parts around the UNet; one whose answers would change too much keeps float weights.",
            "",
            *_table(["", "part", "8-bit weights", "answers"], _extras(content["extras"])),
        ]
    if content["quality"]:
        first = content["quality"][0]
        on = f" (on {content['compared']})" if "compared" in content else ""
        lines += [
            f"Against {first['reference']}{on}, the same pictures and seeds, {first['pairs']} held-back pairs, "
            f"{first['steps']} steps. Noise error: root mean square, relative, for the same inputs.",
            "",
            *_table(
                ["", *_ALIKE, "noise error, first step", "last step"],
                (
                    [
                        row["bundle"],
                        *_alike(row),
                        *(f"{row['noise_error'][index]['relative']:.4f}" for index in (0, -1)),
                    ]
                    for row in content["quality"]
                ),
            ),
        ]
    if content["presets"]:
        first = content["presets"][0]
        lines += [
            f"Pictures of the presets against those of `reference`, by the same bundle, the same pictures and seeds, "
            f"{first['pairs']} held-back pairs. Another sampler makes another picture: the distance is no measure of "
            "which is the better one.",
            "",
            *_table(
                ["", "preset", *_ALIKE],
                ([row["bundle"], row["preset"], *_alike(row)] for row in content["presets"]),
            ),
        ]
    if content["kind"] == "quick":
        timed = (
            "Seconds are of a few UNet passes at each size, multiplied up to whole pictures; "
            "memory is the peak of that process."
        )
    else:
        timed = "Seconds are of whole pictures; memory is the process's peak."
    lines += [
        timed,
        "",
        *_table(
            ["", "size", "preset", "UNet pass, s", "picture, s", "memory, GB"],
            (_speed(row) for row in content["speed"]),
        ),
    ]
    return "\n".join(lines)


def _alike(row: Mapping[str, Any]) -> list[str]:
    return [f"{row['psnr']:.1f}", f"{row['psnr_masked']:.1f}", f"{row['ssim']:.4f}"]


def _extras(extras: Mapping[str, Mapping[str, Any]]) -> Iterator[list[str]]:
    for bundle, parts in extras.items():
        # DensePose's networks were judged together.
        judged = {"densepose" if part in DENSEPOSE else part: found for part, found in parts.items()}
        for part, found in judged.items():
            yield [bundle, part, _weights(found), _answers(found)]


def _weights(found: Mapping[str, Any]) -> str:
    if "psnr_float" in found:  # the VAE
        return f"encoder: {found['vae_encoder']['form']}, decoder: {found['vae_decoder']['form']}"
    return "yes" if found.get("compressed") else "no"


def _answers(found: Mapping[str, Any]) -> str:
    if "label_agreement" in found:
        if found["label_agreement"] is None:
            return "not compared: nobody was recognised in the calibration's photos"
        return f"{100 * found['label_agreement']:.2f} % of labels agree"
    if "largest_score_change" in found:
        return f"scores change by {found['largest_score_change']:.4f} at most"
    if "psnr" in found:
        return f"pictures through both halves: {found['psnr']:.2f} dB, in float {found['psnr_float']:.2f}"
    return ""


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
