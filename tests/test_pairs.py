"""Tables of pairs: as spreadsheets write them, and what counts when cells, flags and presets disagree."""

from __future__ import annotations

from pathlib import Path

from catvton_ov.batch.pairs import Defaults, Refused, Row, read_pairs
from catvton_ov.options import MaskAdjustment
from catvton_ov.presets import preset


def test_tables_as_spreadsheets_write_them(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(
        '\ufeff"person";garment;category;steps;size;;\r\n\r\nä b.png;g.png;lower;;384X512;;\r\n;;;;;;\r\n'.encode()
    )
    (row,) = read_pairs(tmp_path / "t.csv", Defaults(given={"steps": 9, "seed": 3}))
    assert row == Row(
        "line 3", "ä b_g", tmp_path / "ä b.png", tmp_path / "g.png", None, "lower",
        preset("balanced", steps=9, seed=3, size=(384, 512)),
    )  # fmt: skip


def test_a_cell_counts_more_than_a_flag_and_a_flag_more_than_a_preset(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("person,garment,preset,steps,grow,blur\na,g,,,,\nb,g,fast,,,\nc,g,fast,3,5,0\n")
    given = {"steps": 9, "blur": 2}
    rows = read_pairs(tmp_path / "t.csv", Defaults("reference", given, adjustment=MaskAdjustment(grow=1, up=2)))
    assert [row.options for row in rows if isinstance(row, Row)] == [
        preset("reference", steps=9, seed=0, blur=2),
        preset("fast", steps=9, seed=0, blur=2),
        preset("fast", steps=3, seed=0, blur=0),
    ]
    assert [row.adjustment.grow for row in rows if isinstance(row, Row)] == [1, 1, 5]
    assert {row.adjustment.up for row in rows if isinstance(row, Row)} == {2}


def test_a_quotation_mark_that_is_never_closed_says_what_it_swallowed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('person,garment\na,g\n"b,g\nc,g\nd,g\n')
    row, refused = read_pairs(tmp_path / "t.csv", Defaults())
    assert isinstance(row, Row)
    assert isinstance(refused, Refused)
    assert refused.where == "lines 3 to 5"
    assert "a quotation mark is missing" in refused.reason


def test_refused_rows_keep_their_place_in_the_table(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('person,garment\n"a\nb.png",g.png\n,g.png\n')
    rows = read_pairs(tmp_path / "t.csv", Defaults())
    assert [row.where for row in rows] == ["lines 2 to 3", "line 4"]
    assert isinstance(rows[0], Refused)  # a name with a line break in it
