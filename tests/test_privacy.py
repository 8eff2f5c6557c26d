"""Nothing phones home and nothing is left lying about: watched from inside, by Python's audit hooks."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image

from tests.hub_standin import files_of, serve

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden" / "tryon"

# Python imports a module of this name when it starts: child processes that are Python are watched as well, also those
# with an environment of their own, as the one that decodes pictures (but not the janitor, which imports nothing).
WATCHER = r"""
import json, os, socket, sys

with open(os.path.join(os.path.dirname(__file__), "watcher.json")) as file:
    settings = json.load(file)
report = os.open(settings["report"], os.O_WRONLY | os.O_APPEND)
allowed = tuple(settings["allowed"])
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def is_local(host):
    host = host.decode() if isinstance(host, bytes) else host
    return host in (None, "", "localhost", "::1", "::") or host.startswith(("127.", "0.0.0.0"))


def fault(event, args):
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if isinstance(address, tuple) and not is_local(address[0]):
            return f"{address[0]}:{address[1]}"
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "http.client.connect"):
        host = args[1] if event == "http.client.connect" else args[0]
        if not is_local(host):
            return str(host)
    elif event == "open" and isinstance(args[0], (str, bytes)) and (args[2] or 0) & WRITING:
        return outside(args[0])
    elif event in ("os.mkdir", "os.truncate"):
        return outside(args[0])
    elif event in ("os.rename", "os.link", "os.symlink"):
        return outside(args[1])
    return None


def outside(path):
    path = os.path.realpath(os.fsdecode(path))
    return None if path.startswith((*allowed, "/dev/", "/proc/")) else path


def watch(event, args):
    try:
        what = fault(event, args)
    except Exception as error:
        what = f"the watcher failed: {error!r}"
    if what is not None:
        os.write(report, (json.dumps([event, what]) + "\n").encode())


sys.addaudithook(watch)
"""

EVERYTHING = """
import importlib, pkgutil, sys, time
import catvton_ov
for module in pkgutil.walk_packages(catvton_ov.__path__, "catvton_ov."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import nncf
from catvton_ov.cli import main

golden, out = sys.argv[1:]
checkpoints = ("--base", golden + "/stable-diffusion-inpainting", "--vae", golden + "/sd-vae-ft-mse",
               "--catvton", golden + "/CatVTON", "--checkpoint", "mix")
assert main(["export", *checkpoints, "--out", out + "/bundle", "--size", "64x128",
             "--parts", "tryon", "--calibration-runs", "1", "--calibration-steps", "1"]) == 0
pictures = [word for name in ("person", "garment", "mask") for word in ("--" + name, f"{golden}/{name}.png")]
assert main(["try-on", "--model", out + "/bundle", *pictures, "--out", out + "/result.png", "--steps", "2"]) == 0
time.sleep(2)  # whatever might send something from a thread of its own
"""


@dataclass
class Watched:
    folder: Path  # holds home/, tmp/, out/ and work/, where the program runs

    def run(self, code: str, *arguments: str, **env: str) -> list[list[str]]:
        """Run Python code under the watcher, in an environment without CI; returns [event, what] of every fault."""
        report = self.folder / "report"
        report.touch()
        allowed = [f"{self.folder}/{name}/" for name in ("out", "tmp", "home/.cache")]
        allowed += [name.rstrip("/") for name in allowed if not name.startswith(f"{self.folder}/home")]
        settings = {
            "HOME": str(self.folder / "home"), "TMPDIR": str(self.folder / "tmp"), "PATH": "/usr/bin:/bin",
            "PYTHONPATH": f"{self.folder / 'watcher'}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1",
            **env,
        }  # fmt: skip
        watching = {"report": str(report), "allowed": [*allowed, f"{self.folder}/home/.cache"]}
        (self.folder / "watcher" / "watcher.json").write_text(json.dumps(watching))
        command = [sys.executable, "-c", code, *arguments]
        run = subprocess.run(
            command, capture_output=True, encoding="utf-8", env=settings, cwd=self.folder / "work", timeout=300
        )
        assert run.returncode == 0, run.stderr
        return [json.loads(line) for line in report.read_text().splitlines()]

    def left_behind(self) -> list[str]:
        """Files in the home and working folders, whoever wrote them: code that is not Python escapes the watcher."""
        places = (self.folder / "home", self.folder / "work")
        paths = [path.relative_to(self.folder) for place in places for path in place.rglob("*") if path.is_file()]
        return sorted(str(path) for path in paths if path.parts[:2] != ("home", ".cache"))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    for name in ("home", "tmp", "out", "work", "watcher"):
        (tmp_path / name).mkdir()
    (tmp_path / "watcher" / "sitecustomize.py").write_text(WATCHER)
    return Watched(tmp_path)


def test_a_try_on_and_an_export_contact_nobody_and_write_only_their_output(watched: Watched) -> None:
    out = watched.folder / "out"
    assert watched.run(EVERYTHING, str(GOLDEN), str(out)) == []
    assert watched.left_behind() == []
    assert sorted(path.name for path in out.iterdir()) == ["bundle", "result.png"]
    assert Image.open(out / "result.png").size == Image.open(GOLDEN / "person.png").size


PAGE = """
import socket, sys, threading, time
import app
from gradio_client import Client, handle_file

with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = str(probe.getsockname()[1])
sys.argv = ["app.py", "--port", port]
threading.Thread(target=app.main, daemon=True).start()
for _ in range(300):
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", int(port))) == 0:
            break
    time.sleep(0.2)
examples, downloads = sys.argv_of_test
client = Client(f"http://127.0.0.1:{port}", verbose=False, download_files=downloads, httpx_kwargs={"timeout": 120})
pictures = {"person": "person/Ada", "garment": "garment/upper-plain", "mask": "mask/Ada-upper"}
files = {name: handle_file(f"{examples}/{path}.png") for name, path in pictures.items()}
image, seed, timings = client.predict(**files, steps=1, seed=3, api_name="/try_on")
assert seed == 3
time.sleep(2)  # whatever might send something from a thread of its own
"""


def test_a_try_on_on_the_page_contacts_nobody_and_writes_only_to_the_temporary_folder(watched: Watched) -> None:
    examples = ROOT / "assets" / "paper_doll" / "examples"
    code = "import sys; sys.argv_of_test = sys.argv[1:]" + PAGE
    assert watched.run(code, str(examples), str(watched.folder / "out")) == []
    assert watched.left_behind() == []


def test_the_watcher_would_see_a_word_sent_and_a_file_written(watched: Watched) -> None:
    code = """
import os, pathlib, socket, subprocess, sys, tempfile, urllib.request
def attempt(act, *arguments):
    try:
        act(*arguments)
    except OSError:
        pass
attempt(socket.getaddrinfo, "telemetry.invalid", 443)
attempt(urllib.request.urlopen, "http://192.0.2.1:9/", None, 0.1)
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
    attempt(datagrams.sendto, b"x", ("192.0.2.2", 9))
pathlib.Path.home().joinpath("consent").write_text("yes")
subprocess.run([sys.executable, "-c", "open('child', 'w')"], check=True)
os.mkdir("folder")
# What is allowed:
with socket.create_server(("127.0.0.1", 0)) as server:
    socket.create_connection(server.getsockname()).close()
    socket.create_connection(("localhost", server.getsockname()[1])).close()
tempfile.TemporaryFile().close()
pathlib.Path.home().joinpath(".cache/some").mkdir(parents=True)
pathlib.Path.home().joinpath(".cache/some/model").write_text("fine")
pathlib.Path(sys.argv[1], "result").write_text("fine")
"""
    faults = watched.run(code, str(watched.folder / "out"))
    folder = watched.folder
    assert {(event, what) for event, what in faults} >= {
        ("socket.getaddrinfo", "telemetry.invalid"),
        ("http.client.connect", "192.0.2.1"),
        ("socket.connect", "192.0.2.1:9"),
        ("socket.sendto", "192.0.2.2:9"),
        ("open", f"{folder}/home/consent"),
        ("open", f"{folder}/work/child"),
        ("os.mkdir", f"{folder}/work/folder"),
    }
    assert not [what for _, what in faults if "127.0.0.1" in what or "fine" in what or "/.cache" in what]
    assert watched.left_behind() == ["home/consent", "work/child"]


def test_openvino_imported_without_our_switches_would_be_seen(watched: Watched) -> None:
    """What the switches in `catvton_ov.privacy` are for; if this fails, they may have become superfluous."""
    faults = watched.run("import openvino, time; time.sleep(3)")
    assert {event for event, _ in faults} & {"http.client.connect", "socket.getaddrinfo", "socket.connect"}
    assert watched.left_behind()


def test_a_model_from_the_hub_is_fetched_from_there_and_nowhere_else(golden_bundle: Path, watched: Watched) -> None:
    files = files_of(golden_bundle)
    code = "import sys; from catvton_ov.pipeline import TryOnPipeline; TryOnPipeline.load(sys.argv[1])"
    with serve({"some/model": ("0123456789abcdef0123456789abcdef01234567", files)}) as hub:
        faults = watched.run(code, "some/model", HF_ENDPOINT=hub.url, HF_HUB_DISABLE_XET="1")
        assert hub.served
    assert faults == []
    assert watched.left_behind() == []
