"""Settings that travel with a result, and the mark that says what it is."""

from __future__ import annotations

import io
import json
from pathlib import Path
from urllib.parse import parse_qsl

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from catvton_ov.cli import main
from catvton_ov.errors import OptionsError, TryOnError
from catvton_ov.marking import MARK, marked, png_info
from catvton_ov.options import MAX_SEED, MaskAdjustment, TryOnOptions
from catvton_ov.page.shown import Shown
from catvton_ov.presets import preset
from catvton_ov.settings import TryOnSettings

OPTIONS = st.builds(
    TryOnOptions,
    steps=st.integers(1, 100),
    guidance_scale=st.floats(0, 20),
    sampler=st.sampled_from(["ddim", "dpmpp_2m"]),
    seed=st.none() | st.integers(0, MAX_SEED),
    size=st.none() | st.tuples(st.integers(64, 2048), st.integers(64, 2048)),
    framing=st.sampled_from(["whole", "mask", "center"]),
)
PERCENT = st.floats(0, 30)
SETTINGS = st.builds(
    TryOnSettings,
    st.sampled_from(["upper", "lower", "overall", "inner", "outer"]),
    OPTIONS,
    st.builds(MaskAdjustment, st.floats(-30, 30), PERCENT, PERCENT, PERCENT, PERCENT),
    person_number=st.integers(1, 9),
    worn=st.booleans(),
)


@settings(max_examples=50, deadline=None, database=None)
@given(SETTINGS)
def test_settings_come_back_from_a_file_and_from_a_link_as_they_were(given_settings: TryOnSettings) -> None:
    assert TryOnSettings.from_json(given_settings.to_json()) == given_settings
    assert TryOnSettings.from_query(dict(parse_qsl(given_settings.to_query()))) == given_settings


@settings(max_examples=100, deadline=None, database=None)
@given(
    st.dictionaries(st.sampled_from(["steps", "seed", "size", "category", "grow", "sampler", "eta", "x"]), st.text()),
    st.binary(),
)
def test_whatever_stands_in_a_link_or_a_file_is_settings_or_one_sentence(query: dict[str, str], content: bytes) -> None:
    for read, value in ((TryOnSettings.from_query, query), (TryOnSettings.from_json, content)):
        try:
            assert read(value) is None or isinstance(read(value), TryOnSettings)
        except TryOnError as error:
            assert "\n" not in str(error).strip()  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"options": {"steps": "many"}}', "options.steps"),
        (b'{"options": {"seed": -1}}', "seed must be"),
        (b'{"category": "hat"}', "Unknown category 'hat'"),
        (b'{"person_number": 0}', "counted from 1"),
        (b"[1]", "cannot be used"),
        (b'{"optons": {}}', "optons"),
        (b'{"options": {"stps": 3}}', "options.stps"),
        (b" " * 200_000, "too large"),
    ],
)
def test_settings_that_cannot_be_used_say_which_one_it_is(text: bytes, message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        TryOnSettings.from_json(text)


def test_the_command_takes_its_defaults_from_settings_and_refuses_a_file_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "settings.json").write_bytes(TryOnSettings(options=TryOnOptions(steps=1, seed=9)).to_json())
    examples = Path(__file__).parent.parent / "assets" / "paper_doll" / "examples"
    pictures = {"person": "person/Ada", "garment": "garment/upper-plain", "mask": "mask/Ada-upper"}
    arguments = [word for kind, name in pictures.items() for word in (f"--{kind}", str(examples / f"{name}.png"))]
    arguments = [
        "try-on",
        *arguments,
        "--out",
        str(tmp_path / "out.png"),
        "--settings",
        str(tmp_path / "settings.json"),
    ]
    assert main(arguments) == 0
    assert "seed 9 " in capsys.readouterr().out
    assert main([*arguments, "--seed", "10"]) == 0  # what is given counts more
    assert "seed 10 " in capsys.readouterr().out
    assert main([*arguments, "--preset", "fast", "--steps", "2"]) == 0  # which is about time and quality alone
    assert "seed 9 " in capsys.readouterr().out
    (tmp_path / "marked.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "settings.json").read_bytes())
    assert main([*arguments[:-1], str(tmp_path / "marked.json")]) == 0
    assert main([*arguments[:-1], str(tmp_path / "nothing.json")]) == 1
    assert "nothing.json cannot be read" in capsys.readouterr().err


def test_a_result_carries_the_mark_and_nothing_of_the_photo_and_only_a_corner_mark_changes_pixels() -> None:
    photo = Image.effect_noise((300, 400), 60).convert("RGB")
    photo.info = {"Comment": "taken at home", "exif": b"GPS"}
    plain, corner = marked(photo), marked(photo, corner=True)
    assert np.array_equal(np.asarray(plain), np.asarray(photo))
    rows, columns = np.nonzero((np.asarray(corner) != np.asarray(photo)).any(axis=2))
    assert rows.min() > 350
    assert columns.min() > 250
    stream = io.BytesIO()
    plain.save(stream, "PNG", pnginfo=png_info(plain))
    content = stream.getvalue()
    assert b"compositeWithTrainedAlgorithmicMedia" in content
    assert b"home" not in content
    assert b"GPS" not in content
    with Image.open(io.BytesIO(content)) as again:
        assert {**again.info, "xmp": b""} == {**MARK, "xmp": b""}


def test_what_a_browser_brings_back_of_its_results_is_theirs_or_one_sentence() -> None:
    made = tuple(TryOnSettings("lower", preset("fast", seed=seed), MaskAdjustment(up=3)) for seed in (7, 8))
    shown = Shown(made, 1)
    kept = json.loads(json.dumps(shown.value()))
    assert Shown.of(kept) == shown
    for wrong in (
        None,
        [],
        "x",
        {},
        kept | {"chosen": 2},
        kept | {"chosen": -1},
        kept | {"settings": [{"category": "hat"}]},
    ):
        with pytest.raises(OptionsError):
            Shown.of(wrong)
