"""Bundles: checked before they are used, wherever they come from; every fault is one sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from catvton_ov import bundle as bundle_module
from catvton_ov import sources
from catvton_ov.bundle import MANIFEST, PARTS, Bundle, Manifest, record_files
from catvton_ov.errors import BundleDamagedError, BundleError, BundleNotFoundError
from catvton_ov.memory import Memory
from catvton_ov.sources import open_bundle
from tests.hub_standin import client_settings, files_of, serve

ROOT = Path(__file__).parent.parent
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def bundle(golden_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the golden bundle, to be spoiled."""
    return shutil.copytree(golden_bundle, tmp_path / "bundle")


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def edit_manifest(bundle: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    manifest = json.loads((bundle / MANIFEST).read_text())
    edit(manifest)
    (bundle / MANIFEST).write_text(json.dumps(manifest))


# --- the manifest and the files ----------------------------------------------------------------------------------


def test_a_manifest_survives_being_written_and_read(golden_bundle: Path) -> None:
    manifest = Bundle.open(golden_bundle).manifest
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert manifest.to_json() == (golden_bundle / MANIFEST).read_bytes()
    assert record_files(golden_bundle) == manifest.files


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("suffix", [".bin", ".xml"])
def test_a_flipped_byte_is_found_when_its_part_is_first_used_and_only_then(
    bundle: Path, part: str, suffix: str
) -> None:
    name = f"{part}/openvino_model{suffix}"
    flip_a_byte(bundle / name)
    opened = Bundle.open(bundle)
    for other in set(PARTS) - {part}:
        assert opened.part(other).is_file()
    for _ in range(2):
        with pytest.raises(BundleDamagedError, match=f"bundle is damaged: {name} does not have the checksum"):
            opened.part(part)


def test_a_part_is_hashed_only_once(bundle: Path) -> None:
    opened = Bundle.open(bundle)
    opened.part("unet")
    flip_a_byte(bundle / "unet/openvino_model.bin")  # from here on it would be refused
    opened.part("unet")
    with pytest.raises(BundleDamagedError):
        Bundle.open(bundle).part("unet")


def test_missing_files_and_wrong_sizes_are_found_on_opening(bundle: Path) -> None:
    weights = bundle / "vae_decoder/openvino_model.bin"
    size = weights.stat().st_size
    with weights.open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(BundleDamagedError, match=rf"openvino_model\.bin has {size + 1} bytes instead of {size}\."):
        Bundle.open(bundle)
    weights.unlink()
    with pytest.raises(BundleDamagedError, match=r"is incomplete: vae_decoder/openvino_model\.bin is missing\."):
        Bundle.open(bundle)
    (bundle / MANIFEST).unlink()
    with pytest.raises(BundleNotFoundError, match=r"is not a model bundle: it has no manifest\.json"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b"[]", b"null", b"<html>", b"{" * 5000, b'{"format_version": 1}', b"{}"]
)
def test_what_is_no_manifest_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleDamagedError, match=r"manifest\.json cannot be used: ") as raised:
        Bundle.open(bundle)
    assert "\n" not in str(raised.value)


def test_a_newer_format_is_told_from_a_damaged_one(bundle: Path) -> None:
    edit_manifest(bundle, lambda m: (m.update(format_version=2), m.pop("latent")))
    with pytest.raises(BundleError, match=r"format version 2, this program reads up to 1: update the program") as got:
        Bundle.open(bundle)
    assert not isinstance(got.value, BundleDamagedError)


RECORD = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/passwd", "unet/../../secret", "..\\secret", "", "a/..", "unet\\..\\..\\x"]
)
def test_names_that_lead_out_of_the_bundle_are_refused(bundle: Path, name: str) -> None:
    edit_manifest(bundle, lambda m: m["files"].update({name: RECORD}))
    with pytest.raises(BundleDamagedError, match=r"names a file outside the bundle: "):
        Bundle.open(bundle)
    edit_manifest(bundle, lambda m: (m["files"].pop(name), m["parts"].update(unet=name)))
    with pytest.raises(BundleDamagedError, match=r"names a file outside the bundle: "):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("edit", "fault"),
    [
        (lambda m: m["parts"].pop("unet"), "lacks the part 'unet'"),
        (lambda m: m["files"].pop("unet/openvino_model.bin"), "lists no 'unet/openvino_model.bin', which part 'unet'"),
        (lambda m: m.update(sizes=[]), "at least one size"),
        (lambda m: m.update(sizes=[[64, 100]]), r"\(64, 100\) is not in multiples of 8 pixels"),
        (lambda m: m.update(sizes=[[64, 0]]), r"\(64, 0\) is not in multiples"),
        (lambda m: m.update(size_multiple=12), "size_multiple must be a multiple of 8"),
        (lambda m: m["latent"].update(channels=0), r"latent\.channels must be at least 1"),
        (lambda m: m["latent"].update(channels="four"), r"cannot be used: latent\.channels: "),
        (lambda m: m["schedule"].update(prediction_type="v_prediction"), r"cannot be used: schedule\.prediction_type"),
        (lambda m: m.pop("licence"), "cannot be used: licence: Field required"),
    ],
)
def test_a_manifest_that_cannot_be_meant_is_refused_with_the_field(
    bundle: Path, edit: Callable[[dict[str, Any]], object], fault: str
) -> None:
    edit_manifest(bundle, edit)
    with pytest.raises(BundleDamagedError, match=fault):
        Bundle.open(bundle)


def test_examples_are_those_the_manifest_lists(bundle: Path) -> None:
    for name in ("examples/person/b.png", "examples/person/a.png", "examples/garment/c.png"):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_bytes(b"x")
    manifest = dataclasses.replace(Bundle.open(bundle).manifest, files=record_files(bundle))
    (bundle / MANIFEST).write_bytes(manifest.to_json())
    (bundle / "examples/person/unlisted.png").write_bytes(b"x")
    opened = Bundle.open(bundle)
    assert [path.name for path in opened.examples("person")] == ["a.png", "b.png"]
    assert [path.name for path in opened.examples("garment")] == ["c.png"]
    assert opened.examples("mask") == []


# --- where a bundle comes from -----------------------------------------------------------------------------------


def test_a_folder_comes_before_the_bundled_model(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(bundle, tmp_path / "here" / sources.BUNDLED)
    shutil.copytree(bundle, tmp_path / "here" / "owner" / "name")
    monkeypatch.chdir(tmp_path / "here")
    assert open_bundle(sources.BUNDLED).folder == Path(sources.BUNDLED)
    assert open_bundle("owner/name").folder == Path("owner/name")  # not asked of the Hub
    assert open_bundle(bundle).folder == bundle
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    if sources.bundled_folder().is_dir():
        assert open_bundle(sources.BUNDLED).folder == sources.bundled_folder()
    else:
        with pytest.raises(BundleNotFoundError, match="assets/paper_doll is not a model bundle"):
            open_bundle(sources.BUNDLED)


@pytest.mark.parametrize(
    "source",
    [
        "/nowhere",
        "nowhere",
        "a/b/c",
        "https://huggingface.co/a/b",
        "x" * 300,
        "~nobody-by-this-name/x",
        "\0",
        "./nope",
        "../a",
    ],
)
def test_an_unknown_source_is_told_what_would_be_accepted(source: str) -> None:
    with pytest.raises(BundleNotFoundError) as raised:
        open_bundle(source)
    assert str(raised.value) == (
        f"There is no model at {source!r}: expected an existing folder, 'paper_doll', "
        "or a Hub repository as owner/name or owner/name@revision."
    )


OPEN = """
import json, sys
from catvton_ov.errors import TryOnError
from catvton_ov.sources import open_bundle
for source in sys.argv[1:]:
    try:
        bundle = open_bundle(source)
        print(json.dumps([bundle.manifest.name, *(str(bundle.part(part)) for part in bundle.manifest.parts)]))
    except TryOnError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""


def open_in_another_process(url: str, home: Path, *names: str, **env: str) -> list[Any]:
    """What `open_bundle` says with a Hub at `url`, which huggingface_hub reads once, when it is imported."""
    settings = client_settings(url, home) | env
    command = [sys.executable, "-c", OPEN, *names]
    run = subprocess.run(
        command, capture_output=True, encoding="utf-8", check=True, env=settings, cwd=ROOT, timeout=120
    )
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_a_bundle_from_the_hub_is_the_local_one_and_stays_usable_offline(golden_bundle: Path, tmp_path: Path) -> None:
    files = files_of(golden_bundle)
    repositories = {
        "some/model": (SHA, {**files, "README.md": b"not wanted", "unet/extra.bin": b"not wanted"}),
        "some/other": (SHA, {"README.md": b"no bundle"}),
        "some/partial": (SHA, {name: data for name, data in files.items() if name != "unet/openvino_model.bin"}),
    }
    names = ["some/model", f"some/model@{SHA}", "some/other", "some/partial", "some/missing", "some/model@nope"]
    with serve(repositories) as hub:
        first, pinned, other, partial, missing, revision = open_in_another_process(hub.url, tmp_path / "home", *names)
        assert "README.md" not in hub.served
        assert "unet/extra.bin" not in hub.served
        url = hub.url
    assert first == pinned
    assert first[0] == Bundle.open(golden_bundle).manifest.name
    for part, xml in zip(Bundle.open(golden_bundle).manifest.parts, first[1:], strict=True):
        for suffix in (".xml", ".bin"):
            name = f"{part}/openvino_model{suffix}"
            assert Path(xml).with_suffix(suffix).read_bytes() == files[name]
    assert other.startswith("BundleNotFoundError: some/other is not a model bundle: it has no manifest.json. ")
    assert "is incomplete: unet/openvino_model.bin is missing." in partial
    assert missing.startswith("BundleNotFoundError: There is no folder and no Hub repository 'some/missing'")
    assert revision.startswith("BundleNotFoundError: some/model has no revision 'nope': choose one ")

    # The Hub is gone, or not to be asked: the cache serves what it has.
    assert open_in_another_process(url, tmp_path / "home", "some/model", f"some/model@{SHA}") == [first, first]
    offline = {"HF_HUB_OFFLINE": "1"}
    cached, unknown = open_in_another_process(url, tmp_path / "home", "some/model", "some/unknown", **offline)
    assert cached == first
    assert unknown == (
        "BundleError: some/unknown is not in the local cache and the Hub cannot be reached: "
        "go online once, or name a local folder."
    )


def test_a_bundle_that_changed_on_the_way_is_refused_on_arrival(golden_bundle: Path, tmp_path: Path) -> None:
    files = files_of(golden_bundle)
    files["vae_decoder/openvino_model.bin"] = files["vae_decoder/openvino_model.bin"][:-1] + b"\x7f"
    with serve({"some/model": (SHA, files)}) as hub:
        (answer,) = open_in_another_process(hub.url, tmp_path, "some/model")
    assert answer.startswith("BundleDamagedError: ")
    assert "vae_decoder/openvino_model.bin does not have the checksum of its manifest." in answer


@contextmanager
def refusing(status: int, code: str) -> Iterator[str]:
    """A Hub that answers everything with one error."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (403, "GatedRepo", "BundleError: some/model asks you to accept its terms: open its page on the Hub"),
        (
            401,
            "RepoNotFound",
            "BundleNotFoundError: There is no folder and no Hub repository 'some/model' for the model; if it is",
        ),
        (401, "", "BundleError: Fetching some/model from the Hub failed (HfHubHTTPError): try again later."),
    ],
)
def test_a_hub_that_refuses_is_explained(tmp_path: Path, status: int, code: str, answer: str) -> None:
    with refusing(status, code) as url:
        (said,) = open_in_another_process(url, tmp_path, "some/model")
    assert said.startswith(answer)


def test_a_large_file_is_read_once_and_again_when_it_changes(
    golden_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files here are small, so the bound is lowered."""
    monkeypatch.setattr(bundle_module, "REMEMBERED_FROM", 1)
    folder = shutil.copytree(golden_bundle, tmp_path / "bundle")
    hashed: list[str] = []
    real = bundle_module.sha256
    monkeypatch.setattr(bundle_module, "sha256", lambda path: hashed.append(path.name) or real(path))

    def verify() -> list[str]:
        hashed.clear()
        Bundle.open(folder, Memory(tmp_path / "cache" / "memory.json")).part("unet")
        return list(hashed)

    weights = "openvino_model.bin"
    assert verify() == ["openvino_model.xml", weights]
    assert verify() == []
    path = folder / "unet" / weights
    content = path.read_bytes()
    status = path.stat()
    path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as old as before, on the face of it
    with pytest.raises(BundleDamagedError, match="checksum"):
        verify()
    path.write_bytes(content)
    assert verify() == [weights]
    (tmp_path / "cache" / "memory.json").write_text("{ not JSON")
    assert verify() == ["openvino_model.xml", weights]


def test_a_memory_that_cannot_be_written_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    memory = Memory(tmp_path / "file" / "memory.json")
    memory.put("a", 1.0)
    assert memory.get("a") is None
