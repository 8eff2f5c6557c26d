"""Scores as a page: one HTML file with everything in it."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

from catvton_ov.errors import BatchError
from catvton_ov.evaluate.matching import open_match
from catvton_ov.evaluate.scores import Row, Scores

SHOWN = 10  # best and worst pairs
LOWER_IS_BETTER = ("LPIPS", "FID", "KID")
UNITS = {"PSNR": " dB"}
_WIDTH, _HEIGHT, _BARS = 320, 120, 20
_STYLE = """
body { font: 15px/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse } td, th { padding: .3rem .9rem; text-align: right; border-bottom: 1px solid #ddd }
td:first-child, th:first-child { text-align: left } figure { display: inline-block; margin: 0 1rem 1rem 0 }
figcaption { font-size: 13px; color: #555 } img { height: 240px; margin-right: 2px } svg { background: #f6f6f6 }
"""


def write_report(path: Path, scores: Scores, results: Path, truths: Path) -> None:
    """Write the page, whole or not at all; raises BatchError when it cannot be written."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(render(scores, results.name, truths.name), encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise BatchError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        part.unlink(missing_ok=True)


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
        parts.append("<h2>Distributions</h2>")
        parts += [_histogram(name, [row.values[name] for row in scores.rows]) for name in names]
        measure = "LPIPS" if "LPIPS" in names else "SSIM"
        ordered = sorted(scores.rows, key=lambda row: row.values[measure], reverse=measure in LOWER_IS_BETTER)
        for title, rows in (("Worst", ordered[:SHOWN]), ("Best", ordered[::-1][:SHOWN])):
            parts.append(f"<h2>{title} by {measure}: result, truth</h2>")
            parts += [_figure(row) for row in rows]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(results)}</title>'
        f"<style>{_STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )


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
    """Bars as inline SVG; infinite values (equal pictures) are counted in the caption."""
    finite = [value for value in values if math.isfinite(value)]
    endless = len(values) - len(finite)
    note = f", {endless} without any difference" if endless else ""
    if not finite:
        return f"<figure><figcaption>{name}{note}</figcaption></figure>"
    counts, edges = np.histogram(finite, bins=_BARS)
    step, most = _WIDTH / _BARS, int(counts.max())
    bars = "".join(
        f'<rect x="{index * step:.1f}" y="{_HEIGHT - _HEIGHT * count / most:.1f}" width="{step - 1:.1f}" '
        f'height="{_HEIGHT * count / most:.1f}" fill="#36c"><title>{low:.4g} to {high:.4g}: {count}</title></rect>'
        for index, (count, low, high) in enumerate(zip(counts.tolist(), edges, edges[1:], strict=False))
    )
    caption = f"{name}: {shown(name, min(finite))} to {shown(name, max(finite))}{note}"
    return (
        f'<figure><svg role="img" aria-label="{name}" width="{_WIDTH}" height="{_HEIGHT}">{bars}</svg>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _figure(row: Row) -> str:
    pictures = "".join(f'<img alt="" src="{_data_uri(picture)}">' for picture in open_match(row.pair))
    values = ", ".join(f"{name} {shown(name, value)}" for name, value in row.values.items())
    return f"<figure>{pictures}<figcaption>{escape(row.pair.name)}: {values}</figcaption></figure>"


def _data_uri(picture: Image.Image) -> str:
    small = picture.copy()
    small.thumbnail((480, 480))
    stream = io.BytesIO()
    small.save(stream, format="JPEG", quality=85)
    return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode()}"
