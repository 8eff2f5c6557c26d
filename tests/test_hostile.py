"""What nobody should send to the page, sent to the real page: a clean refusal or a right result, and nothing left."""

from __future__ import annotations

import base64
import json
import math
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import pytest
from gradio.data_classes import DataWithFiles
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from catvton_ov.page.bounds import Bounds
from catvton_ov.page.guard import bound_editor
from tests import hostile
from tests.serving import ROOT, served_page
from tests.visitor import JSON, Answer, Visitor

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
PERSON = EXAMPLES / "person" / "Ada.png"
PHOTO = Image.open(PERSON).convert("RGB")
RIGHT = ("upper", 1, 1, "ddim", 7, "reference", None, 1, False)  # category, steps, ..., size, person_number, worn


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The page's address and its folder; in its log stands no traceback at the end."""
    folder = tmp_path_factory.mktemp("page")
    with served_page(folder, CATVTON_OV_REQUESTS_PER_MINUTE="100000") as url:
        yield url, folder
    log = (folder / "page.log").read_text()
    assert "Traceback" not in log, log
    assert files_below(folder / "cache") | files_below(folder / "system") == set(), "pictures outlive the page"


@pytest.fixture(scope="module")
def good(served: tuple[str, Path]) -> tuple[Visitor, dict[str, dict[str, Any]]]:
    """A visitor who has handed in the three pictures of an honest request."""
    visitor = Visitor(served[0])
    files = {
        "person": PERSON,
        "garment": EXAMPLES / "garment" / "upper-plain.png",
        "mask": EXAMPLES / "mask" / "Ada-upper.png",
    }
    return visitor, {name: visitor.upload(path.read_bytes(), path.name) for name, path in files.items()}


@pytest.fixture
def honest(good: tuple[Visitor, dict[str, dict[str, Any]]]) -> Iterator[tuple[Visitor, dict[str, dict[str, Any]]]]:
    """The same; when the test is over, an honest request must be served."""
    yield good
    visitor, files = good
    assert visitor.call("try_on", *files.values(), *RIGHT).worked


def is_clean(answer: Answer) -> bool:
    """A result, or one or two sentences that tell nothing about the server."""
    if answer.worked:
        return True
    message = answer.message or ""
    telling = re.search(r"Traceback|\.py\b|/tmp|/home|site-packages|object at 0x", message)
    return bool(message) and telling is None and len(message) < 600


def outcomes(visitor: Visitor, files: dict[str, dict[str, Any]], cases: hostile.Files, role: str) -> dict[str, Answer]:
    """What comes of every case, sent as the person, the garment or the mask of an otherwise good request."""
    answers = {}
    for name, (file, content) in cases.items():
        sent = files | {role: visitor.upload(content, file)}
        answers[name] = visitor.call("try_on", *sent.values(), *RIGHT)
        assert is_clean(answers[name]), (name, answers[name])
    return answers


def test_bombs_are_refused_before_they_are_decoded(honest: Any) -> None:
    for role in ("person", "garment"):
        answers = outcomes(*honest, hostile.bombs(), role)
        assert not [name for name, answer in answers.items() if answer.worked]


def test_what_is_no_picture_or_a_damaged_one_is_refused(honest: Any) -> None:
    answers = outcomes(*honest, hostile.liars(PHOTO), "garment")
    fine = {name for name, answer in answers.items() if answer.worked}
    assert fine <= {
        "PNG named SVG",
        "PNG and archive in one",
        "PNG with HTML in its text",
        "JPEG with a damaged EXIF block",
        "PNG with too few pixels",
    }


def test_a_photo_cut_off_anywhere_is_refused(honest: Any) -> None:
    answers = outcomes(*honest, hostile.cut(PERSON), "person")
    assert len(answers) >= 8
    assert not [name for name, answer in answers.items() if answer.worked]


@pytest.mark.slow
def test_pictures_of_unusual_kinds_are_tried_on(honest: Any) -> None:
    answers = outcomes(*honest, hostile.unusual(PHOTO), "garment")
    assert [name for name, answer in answers.items() if not answer.worked] == []


def test_sizes_that_no_photo_has_are_refused_in_words(honest: Any) -> None:
    answers = outcomes(*honest, hostile.extremes(), "garment")
    assert {name for name, answer in answers.items() if answer.worked} == {"16x4,000"}


def test_a_file_name_is_only_a_name(honest: Any, served: tuple[str, Path]) -> None:
    answers = outcomes(*honest, hostile.names(PHOTO), "garment")
    assert [name for name, answer in answers.items() if not answer.worked] == []
    assert {path.name for path in served[1].iterdir()} <= {"page.log", "cache", "facts", "elsewhere", "system"}
    assert not Path("/etc/cron.d/evil.png").exists()


WRONG_VALUES: dict[str, tuple[Any, ...]] = {
    "category": ("hat", None, 7, [], {"a": 1}, "upper\0", "../upper"),
    "steps": (0, -1, 2.5, "twenty", math.nan, math.inf, 1e308, 10**30, True, [1], {}),
    "guidance_scale": (-1, 1e9, math.nan, -math.inf, "much", [2.5]),
    "sampler": ("euler", 3, ["ddim"], "d" * 100_000),
    "seed": (-1, 2**32, 2**200, 0.5, math.nan, "seven", False, [7]),
    "preset": ("quick", 3, ["fast"], "f" * 100_000),
    "size": ("large", "8x8x8", "1x1", "64x64", "2048x2048", 192, [192, 256], "9" * 100_000),
}


@pytest.mark.parametrize("name", WRONG_VALUES)
def test_values_of_a_wrong_kind_or_beyond_all_bounds_are_refused(honest: Any, name: str) -> None:
    visitor, files = honest
    place = list(WRONG_VALUES).index(name)
    for value in WRONG_VALUES[name]:
        sent = [*files.values(), *RIGHT]
        sent[3 + place] = value
        answer = visitor.call("try_on", *sent)
        assert is_clean(answer), (value, answer)
        assert not answer.worked, value


def test_files_that_are_not_the_visitors_own_uploads_are_refused(honest: Any, tmp_path: Path) -> None:
    visitor, files = honest
    (tmp_path / "mine.png").write_bytes(PERSON.read_bytes())
    marked = {"meta": {"_type": "gradio.FileData"}}
    whole = "data:image/png;base64," + base64.b64encode(PERSON.read_bytes()).decode()
    for file in (
        "/etc/passwd",
        str(PERSON),
        {"path": "/etc/passwd", **marked},
        {"path": str(tmp_path / "mine.png"), **marked},
        {"path": files["person"]["path"] + "/../../../../../../../../etc/passwd", **marked},
        {"path": whole, **marked},
        {"path": "", "url": whole, **marked},
        {"path": None, **marked},
        {"path": files["person"]["path"]},
        {"path": "\0", **marked},
        {"path": "n" * 5000, **marked},
        [files["person"]] * 2,
        17,
        {},
    ):
        answer = visitor.call("try_on", file, files["garment"], files["mask"], *RIGHT)
        assert is_clean(answer), (file, answer)
        assert not answer.worked, file


def test_nothing_is_fetched_for_anybody(honest: Any) -> None:
    visitor, files = honest
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        for place in (f"file={address}", f"file={address.upper()}", f"file/{address}", f"proxy={address}"):
            assert visitor.http.get(f"gradio_api/{place}").status_code == 403
        for given_address in (address, " " + address, address.replace("http", "HTTP"), "ftp" + address[4:]):
            sent = {"path": given_address, "meta": {"_type": "gradio.FileData"}}
            answer = visitor.call("try_on", sent, files["garment"], files["mask"], *RIGHT)
            assert (answer.status, answer.worked) == (400, False)
        time.sleep(0.5)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()


def test_requests_that_make_no_sense_get_a_status_of_their_own(honest: Any) -> None:
    post = honest[0].http.post
    nested = "[" * 100_000
    for path, body, status in (
        ("call/try_on", '{"data": ' + nested, 400),
        ("call/try_on", '{"data": ' + nested[:500] + "]" * 500 + "}", 400),
        ("call/try_on", '{"data": ["' + "x" * 1_100_000 + '"]}', 413),
        ("call/try_on", "{", 422),
        ("call/try_on", "[]", 422),
        ("call/nothing", '{"data": []}', 400),
        ("call/v2/try_on", '{"what": 1}', 400),
        ("run/try_on", '{"data": []}', 404),  # past the queue
        ("queue/join", '{"data": [], "fn_index": 99999, "session_hash": "x"}', 400),
        ("queue/join", '{"data": [], "fn_index": 0}', 400),
        ("queue/join", '{"data": [], "fn_index": "a", "session_hash": {}}', 422),
        ("component_server", "{}", 400),
        ("component_server", '{"data": 1, "component_id": 1, "session_hash": "x", "fn_name": "__init__"}', 404),
        ("process_recording", "{}", 403),
        ("vibe-edit", "{}", 403),
    ):
        answer = post(f"gradio_api/{path}", content=body, headers=JSON)
        assert answer.status_code == status, (path, body[:60], answer.text)
        assert "Traceback" not in answer.text
    twice = [("Content-Type", "application/json"), ("Content-Type", "multipart/form-data")]  # which one counts?
    assert post("gradio_api/call/presets", content='{"data": []}', headers=twice).status_code == 400
    assert post("gradio_api/call/presets", content='{"data": []}', headers=JSON).status_code == 200
    assert honest[0].http.get("gradio_api/deep_link?session_hash=x").status_code == 403
    assert honest[0].http.get("monitoring/summary").status_code == 403


def test_uploads_that_are_too_large_or_break_off_leave_no_file(honest: Any, served: tuple[str, Path]) -> None:
    visitor, _ = honest
    cache = served[1] / "cache"
    before = {path for path in cache.rglob("*") if path.is_file()}
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}

    def endless() -> Iterator[bytes]:
        yield head
        for _ in range(34):
            yield bytes(1_000_000)

    assert visitor.http.post("gradio_api/upload", content=endless(), headers=kind).status_code == 413
    address = httpx.URL(str(visitor.http.base_url))
    with socket.create_connection((address.host, address.port)) as line:
        line.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n")
        line.sendall(b"Content-Type: multipart/form-data; boundary=b\r\n\r\n" + head + bytes(2_000_000))
        time.sleep(0.5)
    with socket.create_connection((address.host, address.port)) as line:
        line.sendall(b"POST /gradio_api/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 99000000\r\n\r\n")
        assert b" 413 " in line.recv(1000)
    deadline = time.monotonic() + 20
    while (left := {path for path in cache.rglob("*") if path.is_file()} - before) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == set()


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_a_body_without_its_last_boundary_leaves_no_file(honest: Any, served: tuple[str, Path]) -> None:
    """Four filled a disk of 100 MB for ever, those of the editor outside of the page's folder."""
    visitor, _ = honest
    before = files_below(served[1])
    fields = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in (("component_id", "1"), ("session_hash", "x"), ("fn_name", "accept_blobs"))
    )
    file = '--b\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    for path in ("upload", "component_server"):
        for ending in (b"", b"\r\n--b", b"\r\n--b\r\n", b"\r\n--c--\r\n", b"\r\n--b--\r\n" + bytes(5000)):
            body = (fields + file).encode() + bytes(2_000_000) + ending
            answer = visitor.http.post(f"gradio_api/{path}", content=body, headers=kind)
            assert answer.status_code == 400, (path, ending[:20], answer.text)
    assert files_below(served[1]) - before == set()


def test_no_door_takes_a_tiff(honest: Any) -> None:
    """One of 1.1 kB brought 1,536 of 1,536 rows of the photo that was decoded before, from 3 of 3 servers."""
    visitor, files = honest
    content = hostile.leaking_tiff(192, 256)
    for role in files:
        answer = visitor.call("try_on", *(files | {role: visitor.upload(content)}).values(), *RIGHT)
        assert "format known here" in str(answer.message), role
    assert "format known here" in str(visitor.call("mask", visitor.upload(content), "upper", 0, 0, 0, 0, 0, 1).message)
    for editor in (
        {"background": visitor.upload(content), "layers": [files["mask"]]},
        {"background": files["person"], "layers": [visitor.upload(content)]},
    ):
        answer = visitor.press("try-on", person=editor, garment=files["garment"])
        assert "format known here" in str(answer.message)
    assert visitor.blob("draft", "background", content).status_code == 200
    assert visitor.blob("draft", "layer", PERSON.read_bytes(), 0).status_code == 200
    assert "format known here" in str(visitor.press("try-on", person={"id": "draft"}, garment=files["garment"]).message)


def test_an_editor_that_brings_nonsense_is_refused(honest: Any) -> None:
    visitor, files = honest
    photo = PERSON.read_bytes()
    for index in (8, -1, 10**12, "x"):
        assert visitor.blob("layers", "layer", photo, index).status_code == 400
    assert visitor.blob("a", "nothing", photo).status_code == 400
    assert visitor.blob("i" * 100, "background", photo).status_code == 400
    small = hostile.encode(Image.new("RGBA", (8, 8), "red"), "PNG")

    def pressed(person: Any) -> Answer:
        return visitor.press("try-on", person=person, garment=files["garment"], Quality=1)

    drafts: dict[str, list[tuple[str, bytes, Any]]] = {
        "bomb": [("background", hostile.bombs()["PNG that holds 400 megapixels"][1], "null")],
        "large": [("background", hostile.png(5000, 4000, b""), "null")],
        "text": [("background", b"no picture", "null")],
        "another size": [("background", photo, "null"), ("layer", small, 0)],
        "nothing painted on": [("layer", small, 0)],
        "only together": [("composite", photo, "null")],
    }
    for name, parts in drafts.items():
        for kind, content, index in parts:
            assert visitor.blob(name, kind, content, index).status_code == 200
    layers = [files["mask"]] * 40
    for person in (
        *({"id": name} for name in drafts),
        {"id": "unknown"},
        {"id": 7},
        {"background": files["person"], "layers": layers, "composite": None},
        {"background": files["person"], "layers": "all", "composite": None},
        {"background": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "layers": []},
        {"unknown": 1},
        {},
        [],
        "photo",
        None,
    ):
        answer = pressed(person)
        assert is_clean(answer), (person, answer)
        assert not answer.worked, person


def test_what_editors_hand_in_and_never_use_does_not_pile_up() -> None:
    editor = gr.ImageEditor()
    bound_editor(editor, Bounds(drafts_bytes=1_000_000))
    for number in range(300):
        fields = {"id": f"draft {number}", "type": "layer", "index": "3"}
        editor.accept_blobs(DataWithFiles(data=fields, files=[("part.png", bytes(50_000))]))
    assert list(editor.blob_storage) == [f"draft {number}" for number in range(281, 300)]  # each is 51,000 bytes


def test_galleries_answer_clicks_beside_their_pictures_with_a_sentence(honest: Any) -> None:
    visitor, _ = honest
    config = visitor.http.get("config").json()
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    events = (d for d in config["dependencies"] if [ids["persons"], "select"] in map(list, d["targets"]))
    (event,) = (d for d in events if d["inputs"])
    for index in (10**6, -1, "0", None, [0, 0]):
        body = {"data": ["paper_doll"], "fn_index": event["id"], "session_hash": visitor.session}
        body |= {"event_data": {"index": index, "value": None, "_type": "select"}}
        assert visitor.http.post("gradio_api/queue/join", json=body).status_code == 200
        told = visitor.http.get("gradio_api/queue/data", params={"session_hash": visitor.session}).text
        assert "There is no such example" in told


@pytest.mark.slow
def test_one_visitor_in_a_hurry_does_not_keep_others_from_their_turn(tmp_path: Path) -> None:
    with served_page(tmp_path, "--keep-seconds", "2", CATVTON_OV_JOBS_PER_MINUTE="3") as url:
        hasty, other = Visitor(url, "203.0.113.5"), Visitor(url, "198.51.100.1, 203.0.113.9")
        answers = [hasty.call("try_on") for _ in range(5)]
        assert [answer.status for answer in answers] == [200, 200, 200, 429, 429]
        assert "wait a moment" in str(answers[-1].message)
        assert other.call("try_on").status == 200
        # What was uploaded is deleted after its time, whether it came to anything or not.
        content = PERSON.read_bytes()
        other.upload(content)
        deadline = time.monotonic() + 30
        while any(path.read_bytes() == content for path in tmp_path.rglob("photo.png")):
            assert time.monotonic() < deadline, "the photo is kept"
            time.sleep(0.3)


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5).map(repr)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["path", "url", "meta", "a"]), inner),
    max_leaves=8,
)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(data=st.lists(VALUES, max_size=9), endpoint=st.sampled_from(["try_on", "mask", "call"]))
def test_whatever_json_the_endpoints_get_they_answer_in_words(good: Any, data: list[Any], endpoint: str) -> None:
    answer = good[0].call(endpoint, *data)
    assert is_clean(answer), answer
    assert answer.status < 500


@pytest.mark.slow
@settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(body=st.dictionaries(st.sampled_from(["data", "fn_index", "session_hash", "event_data", "x"]), VALUES))
def test_whatever_is_put_into_the_queue_it_answers_with_a_status(good: Any, body: dict[str, Any]) -> None:
    visitor = good[0]
    answer = visitor.http.post("gradio_api/queue/join", content=json.dumps(body), headers=JSON)
    assert answer.status_code in (200, 400, 422), answer.text
    assert "Traceback" not in answer.text
