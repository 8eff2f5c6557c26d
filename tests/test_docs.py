"""Figures that one page takes from another."""

from __future__ import annotations

from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def table(page: str, first: str) -> list[list[str]]:
    """The cells of the table whose first line begins with `first`, without that line and the next."""
    lines = iter((DOCS / page).read_text(encoding="utf-8").splitlines())
    for line in lines:
        if line.startswith(first):
            break
    next(lines)
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def number(cell: str) -> float:
    """The first number of a cell: "≈ 47.6", "3,000", "1.20 (measured)"."""
    return float(cell.removeprefix("≈").split()[0].replace(",", ""))


def test_the_arithmetic_of_catalogues_is_right_and_from_the_measured_seconds() -> None:
    rows = table("catalogues.md", "| | seconds per picture")
    assert len(rows) == 3
    for _, seconds, an_hour, cores, _ in rows:
        assert number(an_hour) == pytest.approx(3600 / number(seconds), rel=0.03)
        assert number(cores) == pytest.approx(40_000 * number(seconds) / 86_400, rel=0.03)
    measured = {row[0]: row for row in table("performance.md", "| recipe | size | s a picture")}
    for (_, seconds, _, _, memory), recipe in zip(rows[1:], ("fast", "balanced"), strict=True):
        assert number(seconds) == pytest.approx(2 * number(measured[recipe][2]), abs=0.5)
        assert f"({number(measured[recipe][2])} with two threads)" in seconds
        assert number(memory) == pytest.approx(number(measured[recipe][-1]), abs=0.05)
