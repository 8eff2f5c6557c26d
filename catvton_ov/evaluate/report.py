"""Scores as a page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from catvton_ov.errors import BatchError
from catvton_ov.evaluate.matching import open_match
from catvton_ov.evaluate.scores import Row, Scores
from catvton_ov.files import write_whole

SHOWN = 10  # best and worst pairs
LOWER_IS_BETTER = ("LPIPS", "FID", "KID")
UNITS = {"PSNR": " dB"}
_WIDTH, _HEIGHT, _BARS = 320, 120, 20
_STYLE = """
:root { color-scheme: light dark }
body { font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 72rem; padding: .5rem 1rem 2rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.2rem; margin: 2rem 0 .6rem } h1, li, b { overflow-wrap: anywhere }
table { border-collapse: collapse } td, th { padding: .3rem 1.5rem .3rem 0; border-bottom: 1px solid #8886 }
td, th { text-align: left } td:nth-child(2), th:nth-child(2) { text-align: right; font-variant-numeric: tabular-nums }
td:nth-child(3), p, figcaption { opacity: .8 } figcaption { font-size: .875rem } figcaption b { display: block }
div { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)) }
figure { margin: 0 } img { width: calc(50% - 2px); vertical-align: top } img + img { margin-left: 4px }
svg { width: 100%; max-width: 24rem; display: block }
rect { fill: #5b8def } line { stroke: currentColor } text { fill: currentColor; font-size: 11px }
"""


def write_report(path: Path, scores: Scores, results: Path, truths: Path) -> None:
    """Write the page, whole or not at all; raises BatchError when it cannot be written."""
    try:
        write_whole(path, render(scores, results.name, truths.name).encode())
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {error.strerror or error}.") from error


def render(scores: Scores, results: str, truths: str) -> str:
    """The page: means, how they are distributed, and the ten worst and ten best pairs as pictures."""
    made, true = scores.counts
    parts = [
        f"<h1>{escape(results)} against {escape(truths)}</h1>",
        f"<p>{made} results, {true} true pictures, {len(scores.rows)} pairs compared.</p>",
        _table(scores),
    ]
    if scores.left_out:
        items = "".join(f"<li>{escape(sentence)}</li>" for sentence in scores.left_out)
        parts.append(f"<h2>Left out</h2><ul>{items}</ul>")
    if scores.rows:
        names = list(scores.rows[0].values)
        plots = [_histogram(name, [row.values[name] for row in scores.rows]) for name in names]
        parts += ["<h2>How the pairs are distributed</h2>", _grid(plots)]
        measure = "LPIPS" if "LPIPS" in names else "SSIM"
        ordered = sorted(scores.rows, key=lambda row: row.values[measure], reverse=measure in LOWER_IS_BETTER)
        for title, rows in (("Worst", ordered[:SHOWN]), ("Best", ordered[::-1][:SHOWN])):
            parts += [f"<h2>{title} by {measure}: result, truth</h2>", _grid(map(_figure, rows))]
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(results)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


def _grid(figures: Iterable[str]) -> str:
    return f"<div>{''.join(figures)}</div>"


def _table(scores: Scores) -> str:
    lines = [
        f"<tr><td>{name}</td><td>{shown(name, value)}</td>"
        f"<td>{'lower' if name in LOWER_IS_BETTER else 'higher'} is better</td></tr>"
        for name, value in {**scores.means, **scores.sets}.items()
    ]
    return f"<table><tr><th>Measure</th><th>Value</th><th></th></tr>{''.join(lines)}</table>"


def shown(name: str, value: float) -> str:
    """A measure for people."""
    digits = {"PSNR": 2, "FID": 3, "KID": 5}.get(name, 4)
    return f"{value:.{digits}f}{UNITS.get(name, '')}"


def _histogram(name: str, values: Sequence[float]) -> str:
    """Bars as inline SVG, a line at the mean; infinite values (equal pictures) are counted in the caption."""
    finite = [value for value in values if math.isfinite(value)]
    endless = len(values) - len(finite)
    note = f", {endless} without any difference" if endless else ""
    if not finite:
        return f"<figure><figcaption><b>{name}</b>{note.removeprefix(', ')}</figcaption></figure>"
    low, high = min(finite), max(finite)
    if high - low < 1e-9 * max(1.0, abs(high)):  # all alike
        low, high = low - 1e-6, high + 1e-6
    counts, edges = np.histogram(finite, bins=_BARS, range=(low, high))
    step, most, mean = _WIDTH / _BARS, int(counts.max()), statistics.fmean(finite)
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{_HEIGHT - _HEIGHT * count / most:.1f}" width="{step - 1:.1f}" '
        f'height="{_HEIGHT * count / most:.1f}"><title>{low:.4g} to {high:.4g}: {count}</title></rect>'
        for index, (count, low, high) in enumerate(zip(counts.tolist(), edges, edges[1:], strict=False))
    )
    at = _WIDTH * (mean - edges[0]) / (edges[-1] - edges[0])
    lines = (
        f'<line x1="0" x2="{_WIDTH}" y1="{_HEIGHT}" y2="{_HEIGHT}"/>'
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{_HEIGHT}" stroke-dasharray="4"/>'
    )
    ends = (
        f'<text x="0" y="{_HEIGHT + 14}">{shown(name, edges[0])}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{shown(name, edges[-1])}</text>'
    )
    return (
        f'<figure><svg role="img" aria-label="{name}" viewBox="0 0 {_WIDTH} {_HEIGHT + 20}">{bars}{lines}{ends}</svg>'
        f"<figcaption><b>{name}</b>mean {shown(name, mean)}, the highest bar {most} of {len(values)} pairs{note}"
        "</figcaption></figure>"
    )


def _figure(row: Row) -> str:
    pictures = "".join(
        f'<img alt="{what}" src="{_data_uri(picture)}">'
        for what, picture in zip(("result", "truth"), open_match(row.pair), strict=True)
    )
    values = ", ".join(f"{name} {shown(name, value)}" for name, value in row.values.items())
    return f"<figure>{pictures}<figcaption><b>{escape(row.pair.name)}</b>{values}</figcaption></figure>"


def _data_uri(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((480, 480))
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
