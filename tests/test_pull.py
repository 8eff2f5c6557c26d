"""Bundles from the Hub: the real client, in processes of their own, against the stand-in on the loopback.

The real Hub prefers to send large files by Xet, which the stand-in does not speak and these tests do not exercise,
but for a Xet server that cannot be reached.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from catvton_ov.bundle import MANIFEST, PARTS, FileRecord, read_manifest
from catvton_ov.sources import bundled_folder
from tests.hub_standin import Stall, StandIn, client_settings, cut_at_half, flipped, serve

ROOT = Path(__file__).parent.parent
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PINNED = f"some/model@{COMMIT}"
UNET = "unet/openvino_model.bin"

OPEN = """
import dataclasses, json, resource, sys
limit, *sources = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
from catvton_ov.errors import TryOnError
from catvton_ov.sources import open_bundle
for source in sources:
    told = []
    try:
        bundle = open_bundle(source, progress=lambda download: told.append(dataclasses.astuple(download)))
        print(json.dumps({"folder": str(bundle.folder), "told": told}), flush=True)
    except TryOnError as error:
        print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)
"""


def bundle_files() -> dict[str, bytes]:
    """A bundle that can be opened, not run: noise for its parts, a UNet of 14 MB, a few examples."""
    block = hashlib.shake_256(b"noise").digest(14_000_000)
    files = {f"{part}/openvino_model.{kind}": f"{part} {kind}".encode() for part in PARTS for kind in ("xml", "bin")}
    files |= {UNET: block, "examples/person/Ada.png": block[:5000], "vae_decoder/openvino_model.bin": block[:1_200_000]}
    records = {name: FileRecord(hashlib.sha256(data).hexdigest(), len(data)) for name, data in sorted(files.items())}
    parts = {part: f"{part}/openvino_model.xml" for part in PARTS}
    manifest = dataclasses.replace(read_manifest(bundled_folder()), files=records, parts=parts)
    return {**files, MANIFEST: manifest.to_json()}


FILES = bundle_files()
TOTAL = sum(len(data) for name, data in FILES.items() if name != MANIFEST)


@pytest.fixture
def hub() -> Iterator[StandIn]:
    others = {"README.md": b"the card", "unet/other_variant.bin": b"not in the manifest"}
    with serve({"some/model": (COMMIT, FILES | others)}) as hub:
        yield hub


@dataclasses.dataclass(frozen=True)
class Client:
    """Programs that open bundles, one after the other, with one cache."""

    hub: StandIn
    home: Path

    def start(self, *sources: str, limit: int = 0, **env: str) -> subprocess.Popen[str]:
        settings = client_settings(self.hub.url, self.home)
        settings["HF_HUB_DOWNLOAD_TIMEOUT"] = "100"  # seconds without a byte, after which the client would ask again
        command = [sys.executable, "-c", OPEN, str(limit), *sources]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, encoding="utf-8", env=settings | env, cwd=ROOT, **pipes)

    def open(self, *sources: str, limit: int = 0, **env: str) -> list[Any]:
        """For each source {"folder", "told"}, or the error."""
        return answers(self.start(*sources, limit=limit, **env))

    def partials(self) -> list[Path]:
        return list(self.home.rglob("*.incomplete"))

    def cached(self, name: str) -> Path:
        return self.home / "hub/models--some--model/snapshots" / COMMIT / name


def answers(process: subprocess.Popen[str]) -> list[Any]:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def client(hub: StandIn, tmp_path: Path) -> Client:
    return Client(hub, tmp_path / "home")


def is_whole(answer: Any) -> bool:
    folder = Path(answer["folder"])
    return all((folder / name).read_bytes() == data for name, data in FILES.items())


# --- what is asked of the Hub ------------------------------------------------------------------------------------


def test_the_manifests_files_come_once_and_progress_is_told(hub: StandIn, client: Client) -> None:
    (answer,) = client.open("some/model")
    assert is_whole(answer)
    assert sorted(hub.served) == sorted(FILES)  # each once, and neither the card nor what the manifest does not list
    done, totals, left = zip(*answer["told"], strict=True)
    assert set(totals) == {TOTAL}
    assert done[0] == 0
    assert done[-1] == TOTAL
    assert list(done) == sorted(done)
    assert any(5000 < here < 14_000_000 for here in done)  # told within a large file too
    assert left[0] is None
    assert all((seconds > 0) == (here < TOTAL) for here, seconds in zip(done[1:], left[1:], strict=True))


def test_a_warm_cache_needs_no_hub(hub: StandIn, client: Client) -> None:
    client.open("some/model")
    hub.requests.clear()
    hub.served.clear()
    (pinned,) = client.open(PINNED)
    assert (hub.requests, pinned["told"]) == ([], [])
    (newest,) = client.open("some/model")
    assert hub.requests == ["GET /api/models/some/model"]  # which commit is the newest
    gone = client.open("some/model", PINNED, HF_ENDPOINT="http://127.0.0.1:9")
    offline = client.open("some/model", PINNED, "some/other", HF_HUB_OFFLINE="1")
    assert hub.served == []
    assert [pinned, newest, *gone, *offline[:2]] == [pinned] * 6
    assert is_whole(pinned)
    assert offline[2] == (
        "BundleError: some/other is not in the local cache and the Hub cannot be reached: "
        "go online once, or name a local folder."
    )


def test_a_cache_that_is_not_whole_is_of_no_use_offline(hub: StandIn, client: Client) -> None:
    client.open(PINNED)
    client.cached(UNET).unlink()
    (offline,) = client.open(PINNED, HF_HUB_OFFLINE="1")
    assert offline.startswith(f"BundleError: {PINNED} is not in the local cache and the Hub cannot be reached: go on")
    (again,) = client.open(PINNED)  # the Hub's client finds the content in its cache
    assert is_whole(again)


# --- faults ------------------------------------------------------------------------------------------------------


def test_each_refusal_is_one_sentence_that_says_what_to_do(hub: StandIn, client: Client) -> None:
    newer = json.loads(FILES[MANIFEST]) | {"format_version": 2}
    for name, files in {
        "newer": FILES | {MANIFEST: json.dumps(newer).encode()},
        "incomplete": {name: data for name, data in FILES.items() if name != UNET},
        "other": {"README.md": b"no bundle"},
        "gated": FILES,
        "private": FILES,
    }.items():
        hub.repos[f"some/{name}"] = dataclasses.replace(hub.repos["some/model"], commits={COMMIT: dict(files)})
    hub.repos["some/gated"].gated = hub.repos["some/private"].private = True
    said = {
        "some/missing": "BundleNotFoundError: There is no folder and no Hub repository 'some/missing' for the model; "
        "if it is private, set HF_TOKEN to a token that may read it.",
        "some/model@nope": "BundleNotFoundError: some/model has no revision 'nope': "
        "choose one that its page on the Hub lists, or leave it out for the newest.",
        "some/model--2": "BundleNotFoundError: The Hub allows no name like that of 'some/model--2': "
        "check how it is spelled on its page.",
        "some/gated": "BundleError: some/gated asks you to accept its terms: open its page on the Hub, accept, "
        "and set HF_TOKEN to your token.",
        "some/private": "BundleNotFoundError: There is no folder and no Hub repository 'some/private' for the model; "
        "if it is private, set HF_TOKEN to a token that may read it.",
        "some/newer": "BundleError: This bundle has format version 2, this program reads up to 1: "
        "update the program, or choose an older revision of the bundle.",
        "some/incomplete": "BundleDamagedError: The bundle some/incomplete is incomplete: unet/openvino_model.bin is "
        "missing. Choose another revision, or ask its owner to publish it again.",
        "some/other": "BundleNotFoundError: some/other is not a model bundle: it has no manifest.json. "
        "Name a repository made with `python -m catvton_ov publish`.",
    }
    assert dict(zip(said, client.open(*said), strict=True)) == said


def test_a_private_bundle_needs_a_token_the_hub_knows(hub: StandIn, client: Client) -> None:
    hub.repos["some/model"].private = True
    hub.tokens["hf_good"] = "read"
    (wrong,) = client.open("some/model", HF_TOKEN="hf_wrong")
    assert wrong == "BundleError: The Hub does not know the token: set HF_TOKEN to a valid one, or to none."
    (answer,) = client.open("some/model", HF_TOKEN="hf_good")
    assert is_whole(answer)


def damage_on_the_way(hub: StandIn, client: Client, name: str) -> None:
    hub.deliver[name] = flipped


def damage_in_the_cache(hub: StandIn, client: Client, name: str) -> None:
    client.open(PINNED)
    blob = client.cached(name).resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize(
    ("damage", "name"), [(damage_on_the_way, UNET), (damage_on_the_way, MANIFEST), (damage_in_the_cache, UNET)]
)
def test_what_is_damaged_is_said_removed_and_fetched_anew(
    hub: StandIn, client: Client, damage: Callable[[StandIn, Client, str], None], name: str
) -> None:
    damage(hub, client, name)
    (answer,) = client.open(PINNED)
    if name == MANIFEST:
        assert answer.startswith("BundleDamagedError: manifest.json cannot be used: ")
    else:
        assert answer == (
            f"BundleDamagedError: {PINNED} is damaged: {name} does not have the checksum of its manifest. It was "
            "removed from the cache: start again to fetch it anew; if that does not help, choose another revision."
        )
    assert not client.cached(name).is_symlink()
    hub.deliver.clear()
    fetched = set(hub.served) - {name}
    hub.served.clear()
    (answer,) = client.open(PINNED)
    assert is_whole(answer)
    assert set(hub.served) == set(FILES) - fetched


BROKEN = "BundleError: The connection broke while fetching {}: start again; files that arrived whole are kept."


def test_a_cut_connection_keeps_what_is_whole_and_restarts_the_rest(hub: StandIn, client: Client) -> None:
    hub.deliver[UNET] = cut_at_half
    (answer,) = client.open("some/model")
    assert answer == BROKEN.format("some/model")
    assert client.partials() == []
    hub.deliver.clear()
    kept = set(hub.served) - {UNET}
    assert kept >= {MANIFEST, "examples/person/Ada.png"}
    hub.served.clear()
    (answer,) = client.open("some/model")
    assert is_whole(answer)
    assert set(hub.served) == set(FILES) - kept
    here = sum(len(FILES[name]) for name in kept - {MANIFEST})
    assert answer["told"][0] == [here, TOTAL, None]  # what was there from before counts as done, not into the rate


def test_a_connection_cut_once_is_taken_up_again(hub: StandIn, client: Client) -> None:
    cuts = iter([cut_at_half])
    hub.deliver[UNET] = lambda content: next(cuts, lambda whole: [whole])(content)
    (answer,) = client.open("some/model")
    assert is_whole(answer)
    assert hub.served.count(UNET) == 2
    assert answer["told"][-1][0] == TOTAL


def test_a_xet_server_out_of_reach_is_a_broken_connection(hub: StandIn, client: Client) -> None:
    hub.xet = "http://127.0.0.1:9"
    (answer,) = client.open(PINNED, HF_HUB_DISABLE_XET="0", HF_XET_CLIENT_RETRY_MAX_ATTEMPTS="1")
    assert answer == BROKEN.format(PINNED)
    assert client.partials() == []
    assert hub.requests[-1] == "GET /api/xet-token"


# --- several processes, and killed ones --------------------------------------------------------------------------


def test_a_killed_download_leaves_nothing_that_stays(hub: StandIn, client: Client) -> None:
    stall = hub.deliver[UNET] = Stall()
    process = client.start(PINNED)
    assert stall.reached.wait(60)
    (partial,) = wait_for(lambda: [path for path in client.partials() if path.stat().st_size > 5_000_000])
    process.kill()
    process.communicate()
    stall.go.set()
    assert partial.is_file()
    kept = set(hub.served) - {UNET}
    hub.served.clear()
    (answer,) = client.open(PINNED)
    assert is_whole(answer)
    assert client.partials() == []
    assert set(hub.served) == set(FILES) - kept


def test_two_processes_at_once_share_the_work(hub: StandIn, client: Client) -> None:
    stall = hub.deliver[UNET] = Stall()
    first = client.start(PINNED)
    assert stall.reached.wait(60)
    second = client.start(PINNED)
    asked = f"HEAD /some/model/resolve/{COMMIT}/{UNET}"
    wait_for(lambda: hub.requests.count(asked) == 2)
    time.sleep(0.5)  # the second one now waits for the first one's file, and has left its partial file alone
    assert len(client.partials()) == 1
    stall.go.set()
    both = answers(first) + answers(second)
    assert all(map(is_whole, both))
    assert sorted(hub.served) == sorted(FILES)


def wait_for(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 60
    while not (met := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return met


# --- a full disk -------------------------------------------------------------------------------------------------

NO_ROOM = (
    f"BundleError: There is not enough room on the disk for {PINNED}: "
    "make some, or set HF_HOME to a folder on a larger disk."
)


def test_a_disk_that_takes_no_more_is_said_and_half_a_file_is_removed(client: Client) -> None:
    (answer,) = client.open(PINNED, limit=5_000_000)  # of a file: the kernel refuses what goes beyond
    assert answer == NO_ROOM
    assert client.partials() == []
    (answer,) = client.open(PINNED)
    assert is_whole(answer)


def test_a_disk_that_is_too_small_is_said_before_and_while_it_fills(hub: StandIn, small_disk: Path) -> None:
    client = Client(hub, small_disk)
    filling = small_disk / "filling"
    filling.write_bytes(b"\0" * 8_000_000)
    (answer,) = client.open(PINNED)
    assert (answer, hub.served) == (NO_ROOM, [MANIFEST])
    filling.unlink()

    stall = hub.deliver[UNET] = Stall()
    process = client.start(PINNED)
    assert stall.reached.wait(60)
    wait_for(lambda: [path for path in client.partials() if path.stat().st_size > 5_000_000])
    fill(filling)
    stall.go.set()
    assert answers(process) == [NO_ROOM]
    assert client.partials() == []
    filling.unlink()
    (answer,) = client.open(PINNED)
    assert is_whole(answer)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"\0" * 100_000)


def test_a_cache_that_cannot_be_written_is_said(hub: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (answer,) = Client(hub, tmp_path / "file").open(PINNED)
    assert answer == (
        f"BundleError: {PINNED} could not be kept on this disk (Not a directory): "
        "set HF_HOME to a folder that can be written to."
    )
