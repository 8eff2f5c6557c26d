"""What docs/performance.md shows: the cost of every lever, and seconds against quality.

python -m tools.performance levers --bundle DIR --size 384x512,768x1024 --out levers.json   passes, lever by lever
python -m tools.performance write --levers levers.json --prices prices.json --out docs            the plot and its table

A picture's seconds are those of its passes and of the VAE, all timed on full-size random weights; its quality is that
of the small bundled model with the same recipe (tools.paper_doll.prices).
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from catvton_ov.measure import Work, measure
from catvton_ov.presets import PRESETS
from catvton_ov.shortcuts import KEYS, Shortcuts, plan_passes
from tools.paper_doll.prices import recipes

WIDTH, HEIGHT, MARGIN = 760, 420, 56


def levers(bundle: str, sizes: Sequence[tuple[int, int]], rounds: int = 2) -> list[dict[str, Any]]:
    """Seconds of full and shallow passes with each choice of keys, and of the VAE; the quickest of some rounds."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _ in range(rounds):
        for size in sizes:
            for keys in KEYS:
                options = replace(PRESETS["fast"], shortcuts=Shortcuts(cache_every=2, keys=keys))
                timed = measure(Work(bundle, size, options, passes=4))
                row = {
                    "size": list(size),
                    "keys": keys,
                    "full": timed.unet_pass[0],
                    "shallow": timed.shallow_pass,
                    "vae": timed.encode + timed.decode,
                    "peak_rss_bytes": timed.peak_rss_bytes,
                }
                before = found.get((size, keys))
                if before is None or row["full"] < before["full"]:
                    found[size, keys] = row
                print(row, flush=True)
    return list(found.values())


def points(rows: Sequence[Mapping[str, Any]], prices: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every priced recipe with its seconds at the smallest size, cheapest first."""
    size = min(row["size"] for row in rows)
    cost = {row["keys"]: row for row in rows if row["size"] == size}
    known, found = recipes(), []
    for name, price in prices.items():
        options = known[name]
        row = cost[options.shortcuts.keys]
        plan = plan_passes(options.steps, options.guidance_scale, options.shortcuts)
        passes = [each.full for step in plan for each in step]
        full, shallow = passes.count(True), passes.count(False)
        seconds = full * row["full"] + shallow * row["shallow"] + row["vae"]
        found.append({**price, "name": name, "full": full, "shallow": shallow, "seconds": seconds})
    return sorted(found, key=lambda point: point["seconds"])


def table(found: Sequence[Mapping[str, Any]]) -> str:
    reference = next(point for point in found if point["name"] == "reference")
    lines = [
        "| recipe | passes | s a picture | PSNR under the mask, dB | against reference | SSIM | patterns | "
        "gradient energy, against reference |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for point in found:
        name = f"**{point['name']}**" if point["name"] in PRESETS else point["name"]
        passes = f"{point['full']} + {point['shallow']}" if point["shallow"] else f"{point['full']}"
        gradient = point["gradient"] / reference["gradient"] - 1
        lines.append(
            f"| {name} | {passes} | {point['seconds']:.0f} | {point['psnr']:.2f} | "
            f"{point['psnr'] - reference['psnr']:+.2f} | {point['ssim']:.4f} | {point['pattern']:.0%} | "
            f"{gradient:+.0%} |"
        )
    return "\n".join(lines) + "\n"


def plot(found: Sequence[Mapping[str, Any]]) -> str:
    """Seconds (logarithmic) against PSNR, as SVG; the presets are named, and so is what nothing else beats."""
    import math

    xs = [math.log(point["seconds"]) for point in found]
    ys = [point["psnr"] for point in found]
    low, high = math.floor(min(ys)), math.ceil(max(ys))

    def at(point: Mapping[str, Any]) -> tuple[float, float]:
        x = (math.log(point["seconds"]) - min(xs)) / (max(xs) - min(xs))
        y = (point["psnr"] - low) / (high - low)
        return MARGIN + x * (WIDTH - 2 * MARGIN - 60), HEIGHT - MARGIN - y * (HEIGHT - 2 * MARGIN)

    best = [  # nothing else is both quicker and better
        point for point in found if all(each["psnr"] < point["psnr"] for each in found[: found.index(point)])
    ]
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        'font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        f'<text x="{WIDTH / 2}" y="{HEIGHT - 12}" text-anchor="middle">seconds a picture, 384x512, full-size network '
        "(logarithmic)</text>",
        f'<text x="16" y="{HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 16 {HEIGHT / 2})">'
        "PSNR under the mask, dB (small model)</text>",
    ]
    for level in range(low, high + 1):
        _, y = at({"seconds": found[0]["seconds"], "psnr": level})
        parts.append(f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{level}</text>')
    for seconds in (30, 60, 120, 240, 480, 960):
        if found[0]["seconds"] <= seconds <= found[-1]["seconds"]:
            x, _ = at({"seconds": seconds, "psnr": low})
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - MARGIN + 18}" text-anchor="middle">{seconds}</text>')
            parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN}" y2="{HEIGHT - MARGIN}" stroke="#eee"/>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(at, best))
    parts.append(f'<polyline points="{line}" fill="none" stroke="#e11d48" stroke-dasharray="4 3"/>')
    for point in found:
        x, y = at(point)
        is_preset = point["name"] in PRESETS
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if is_preset else 3.5}" '
            f'fill="{"#e11d48" if is_preset else "#78716c"}"><title>{point["name"]}</title></circle>'
        )
        if is_preset:
            parts.append(f'<text x="{x + 9:.1f}" y="{y + 4:.1f}" font-weight="bold">{point["name"]}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    timing = commands.add_parser("levers")
    timing.add_argument("--bundle", required=True)
    timing.add_argument("--size", default="384x512")
    timing.add_argument("--rounds", type=int, default=2)
    timing.add_argument("--out", type=Path, required=True)
    writing = commands.add_parser("write")
    writing.add_argument("--levers", type=Path, required=True)
    writing.add_argument("--prices", type=Path, required=True)
    writing.add_argument("--out", type=Path, default=Path("docs"))
    arguments = parser.parse_args()
    if arguments.command == "levers":
        sizes = [tuple(map(int, size.split("x"))) for size in arguments.size.split(",")]
        arguments.out.write_text(json.dumps(levers(arguments.bundle, sizes, arguments.rounds), indent=2) + "\n")
        return
    found = points(json.loads(arguments.levers.read_text()), json.loads(arguments.prices.read_text()))
    (arguments.out / "performance.svg").write_text(plot(found))
    print(table(found))


if __name__ == "__main__":
    main()
