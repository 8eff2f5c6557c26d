"""The endpoint `/try_on` through the real Gradio client: right results, and one sentence for every bad input."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from catvton_ov.pictures.reading import open_picture
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import PRESETS, default_preset, preset
from tests.serving import ROOT, served_page

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"


def example(kind: str) -> Path:
    """The first example person, a mask of the upper body for it, or an upper garment."""
    person = sorted((EXAMPLES / "person").iterdir())[0]
    if kind == "mask":
        return EXAMPLES / "mask" / f"{person.stem}-upper.png"
    return person if kind == "person" else sorted((EXAMPLES / "garment").glob("upper-*"))[0]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("page")
    with served_page(folder) as url:
        yield Client(url, verbose=False, download_files=str(folder), httpx_kwargs={"timeout": 120})


def call(client: Client, **changes: object) -> tuple[str, int, dict[str, float]]:
    arguments: dict[str, object] = {kind: handle_file(str(example(kind))) for kind in ("person", "garment", "mask")}
    arguments |= {"category": "upper", "steps": 2, "guidance_scale": 2.5, "sampler": "ddim", "seed": 7} | changes
    return client.predict(api_name="/try_on", **arguments)


def test_the_endpoint_gives_the_pipelines_own_picture_its_seed_and_timings(client: Client) -> None:
    path, seed, timings = call(client)
    pictures = [open_picture(example(kind)) for kind in ("person", "garment", "mask")]
    usual = preset(default_preset("CPU"), steps=2, guidance_scale=2.5, sampler="ddim", seed=7)
    expected = TryOnPipeline.load("paper_doll")(*pictures, usual).picture
    with Image.open(path) as answer:
        assert answer.format == "PNG"
        assert not answer.getexif()
        assert np.array_equal(np.asarray(answer), np.asarray(expected))
    assert seed == 7
    assert {"prepare", "encode", "denoise", "decode", "paste"} <= timings.keys()


def test_without_a_seed_one_is_drawn_and_told(client: Client) -> None:
    path, seed, _ = call(client, seed=None)
    again, _, _ = call(client, seed=seed)
    assert Path(path).read_bytes() == Path(again).read_bytes()


def test_a_preset_is_the_pipelines_own_and_presets_tell_what_it_is(client: Client) -> None:
    path, _, _ = call(client, preset="fast", steps=None, guidance_scale=None, sampler=None)
    pictures = [open_picture(example(kind)) for kind in ("person", "garment", "mask")]
    expected = TryOnPipeline.load("paper_doll")(*pictures, preset("fast", seed=7)).picture
    with Image.open(path) as answer:
        assert np.array_equal(np.asarray(answer), np.asarray(expected))
    told = client.predict(api_name="/presets")
    assert told["default"] == default_preset("CPU")
    assert list(told["presets"]) == list(PRESETS)
    assert told["default"] in PRESETS
    options = told["presets"]["fast"]["options"]
    assert (options["steps"], options["shortcuts"]["cache_every"]) == (8, 3)
    with pytest.raises(AppError, match="Unknown preset 'quick'; expected one of reference, balanced, fast"):
        call(client, preset="quick")


def test_a_worn_garment_is_cut_out_of_its_photo(client: Client) -> None:
    worn = handle_file(str(sorted((EXAMPLES / "person").iterdir())[1]))
    as_it_is, cut = (call(client, garment=worn, worn=each)[0] for each in (False, True))
    assert Path(as_it_is).read_bytes() != Path(cut).read_bytes()


def picture(folder: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (384, 512), **save: object) -> Path:
    path = folder / name
    Image.new(mode, size).save(path, **save)
    return path


def bad_files(folder: Path) -> dict[str, tuple[str, Path]]:
    """What is wrong -> (the argument, the file)."""
    person = example("person").read_bytes()
    (folder / "cut.png").write_bytes(person[: len(person) // 2])
    (folder / "text.png").write_text("not a picture")
    (folder / "empty.png").write_bytes(b"")
    Image.new("L", (384, 512), 255).save(folder / "full.png")
    return {
        "a truncated person": ("person", folder / "cut.png"),
        "a person that is no picture": ("person", folder / "text.png"),
        "an empty garment file": ("garment", folder / "empty.png"),
        "a person of one pixel": ("person", picture(folder, "one.png", size=(1, 1))),
        "too many pixels": ("garment", picture(folder, "large.png", "1", (12000, 9000))),
        "an empty mask": ("mask", picture(folder, "black.png", "L")),
        "a full mask": ("mask", folder / "full.png"),
        "a mask of another size": ("mask", picture(folder, "other.png", "L", (100, 100))),
    }


BAD_FILES = (
    "a truncated person",
    "a person that is no picture",
    "an empty garment file",
    "a person of one pixel",
    "too many pixels",
    "an empty mask",
    "a full mask",
    "a mask of another size",
)
BAD_VALUES = (
    {"steps": 0},
    {"steps": 2.5},
    {"steps": -1},
    {"guidance_scale": 1000},
    {"sampler": "euler"},
    {"seed": -1},
    {"seed": 2**40},
    {"category": "hat"},
    {"person": None},
    {"mask": None, "person_number": 0},
    {"mask": None, "person_number": 2},
    {"mask": None, "person_number": 1.5},
)


def refused(client: Client, **changes: object) -> str:
    with pytest.raises(AppError) as caught:
        call(client, **changes)
    return str(caught.value)


def is_one_clear_sentence(message: str) -> bool:
    return bool(re.match(r"[A-Za-z]", message)) and "Traceback" not in message and "\n" not in message.strip()


@pytest.mark.parametrize("what", BAD_FILES)
def test_a_bad_file_is_refused_in_words_and_the_next_request_is_served(
    client: Client, tmp_path: Path, what: str
) -> None:
    argument, path = bad_files(tmp_path)[what]
    assert is_one_clear_sentence(refused(client, **{argument: handle_file(str(path))}))
    assert call(client)[1] == 7


@pytest.mark.parametrize("changes", BAD_VALUES, ids=str)
def test_a_bad_value_is_refused_in_words(client: Client, changes: dict[str, object]) -> None:
    message = refused(client, **changes)
    assert is_one_clear_sentence(message), message


@pytest.mark.parametrize("mode", ["CMYK", "I;16", "P", "LA"])
def test_photos_of_unusual_modes_are_tried_on(client: Client, tmp_path: Path, mode: str) -> None:
    with Image.open(example("person")) as person:
        suffix = "jpg" if mode == "CMYK" else "png"
        path = tmp_path / f"person.{suffix}"
        if mode == "I;16":
            Image.fromarray(np.asarray(person.convert("L")).astype(np.uint16) * 257).save(path)
        else:
            person.convert(mode).save(path)
    result, _, _ = call(client, person=handle_file(str(path)), steps=1)
    with Image.open(result) as answer:
        assert answer.size == (384, 512)
