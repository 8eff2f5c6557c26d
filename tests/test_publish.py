"""A bundle and a Space to the Hub and back: the real client and commands, against the stand-in on the loopback.

Files from 1 MB on travel by Git LFS. The real Hub prefers Xet, which the stand-in does not speak and these tests do
not exercise.
"""

from __future__ import annotations

import dataclasses
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from catvton_ov.bundle import MANIFEST, Bundle, Manifest, Source, read_manifest
from catvton_ov.export.card import model_card
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.sources import bundled_folder
from tests.hub_standin import StandIn, client_settings, serve

ROOT = Path(__file__).parent.parent
REPO, SPACE = "me/doll-openvino", "me/doll"
UNET = "unet/openvino_model.bin"
READ, WRITE = "hf_read", "hf_write"


@pytest.fixture
def hub() -> Iterator[StandIn]:
    with serve(tokens={READ: "read", WRITE: "write"}) as hub:
        yield hub


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the bundled model, examples and all, to be changed."""
    return shutil.copytree(bundled_folder(), tmp_path / "bundle")


def start(hub: StandIn, home: Path, *command: str, cwd: Path = ROOT, **env: str) -> subprocess.Popen[str]:
    settings = client_settings(hub.url, home) | {"HF_HUB_DOWNLOAD_TIMEOUT": "100", **env}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *command], encoding="utf-8", env=settings, cwd=cwd, **pipes)


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def publish(hub: StandIn, bundle: Path, *options: str, token: str = WRITE, **env: str) -> tuple[int, str, str]:
    """The command's exit code, and what it printed."""
    command = ("-m", "catvton_ov", "publish", str(bundle), "--repo", REPO, *options)
    return finish(start(hub, bundle.parent / "publisher", *command, HF_TOKEN=token, **env))


def last_line(text: str) -> str:
    return [line for line in text.splitlines() if line.strip()][-1]


def header(readme: bytes) -> dict[str, Any]:
    return dict(yaml.safe_load(readme.decode().split("---\n")[1]))


# --- there and back ----------------------------------------------------------------------------------------------

TRY_ON = """
import sys
from PIL import Image
from catvton_ov.options import TryOnOptions
from catvton_ov.pipeline import TryOnPipeline
pipeline = TryOnPipeline.load(sys.argv[1])
examples = {kind: pipeline.bundle.examples(kind) for kind in ("person", "garment", "mask")}
assert [len(paths) for paths in examples.values()] == [8, 12, 24]
person, garment, mask = (Image.open(pipeline.bundle.folder / "examples" / name) for name in sys.argv[3:])
pipeline(person, garment, mask, TryOnOptions(steps=2, seed=1)).picture.save(sys.argv[2])
"""
EXAMPLES = ("person/Ada.png", "garment/upper-stripes.png", "mask/Ada-upper.png")


@pytest.fixture(scope="module")
def local_result() -> Image.Image:
    pictures = [Image.open(bundled_folder() / "examples" / name) for name in EXAMPLES]
    return TryOnPipeline.load(bundled_folder())(*pictures, TryOnOptions(steps=2, seed=1)).picture


def test_what_is_pulled_gives_the_picture_of_what_was_published(
    hub: StandIn, bundle: Path, tmp_path: Path, local_result: Image.Image
) -> None:
    code, out, err = publish(hub, bundle)
    assert code == 0, err
    repo = hub.repos[REPO]
    initial, commit = repo.commits  # the empty repository, and one commit for everything
    assert out == f"{REPO}@{commit}\n"
    assert f"CATVTON_OV_MODEL={REPO}@{commit} python app.py" in err
    files = repo.commits[commit]
    manifest = read_manifest(bundle)
    assert set(files) - set(repo.commits[initial]) == {MANIFEST, "README.md", *manifest.files}
    assert all(files[name] == (bundle / name).read_bytes() for name in (MANIFEST, *manifest.files))
    assert f"PUT /store/{manifest.files[UNET].sha256}/2" in hub.requests  # large, in two parts, not in the commit

    run = start(hub, tmp_path / "user", "-c", TRY_ON, f"{REPO}@{commit}", str(tmp_path / "result.png"), *EXAMPLES)
    code, _, err = finish(run)
    assert code == 0, err
    assert Image.open(tmp_path / "result.png").tobytes() == local_result.tobytes()
    assert "README.md" not in hub.served


def test_publishing_again_commits_what_is_new_and_nothing_else(hub: StandIn, bundle: Path) -> None:
    _, first, _ = publish(hub, bundle)
    hub.requests.clear()
    assert publish(hub, bundle)[:2] == (0, first)
    assert not [request for request in hub.requests if "/store/" in request or "/commit/" in request]

    (bundle / "report.md").write_text("| MB | int8 |\n| --- | --- |\n| unet | 13.6 |\n")
    (bundle / "report.json").write_text('{"kind": "quick"}')
    (bundle / "README.md").write_text("A card of one's own does not damage a bundle, and is not published.")
    code, second, _ = publish(hub, bundle)
    assert (code, second != first) == (0, True)
    files = hub.repos[REPO].commits[second.strip().partition("@")[2]]
    assert (
        "## Quality, size and speed\n\n| MB | int8 |\n| --- | --- |\n| unet | 13.6 |\n" in files["README.md"].decode()
    )
    assert files["report.json"] == (bundle / "report.json").read_bytes()
    assert Bundle.open(bundle).manifest == read_manifest(bundled_folder())
    assert not [request for request in hub.requests if "/store/" in request]

    (bundle / "report.md").write_text("not for everybody\n")
    code, _, err = publish(hub, bundle, "--private")
    assert (code, last_line(err)) == (
        1,
        f"error: {REPO} exists and is public: make it private in its settings on the Hub, choose another name, "
        "or leave out --private.",
    )
    assert hub.repos[REPO].main == second.strip().partition("@")[2]


# --- the Space ---------------------------------------------------------------------------------------------------

PRELOAD = """
import sys
from huggingface_hub import hf_hub_download
for item in sys.argv[1:]:
    repo, files, commit = item.split()
    for name in files.split(","):
        hf_hub_download(repo, name, revision=commit)
"""

CALL = """
import sys
from gradio_client import Client, handle_file
url, result, *pictures = sys.argv[1:]
client = Client(url, verbose=False, download_files=result, httpx_kwargs={"timeout": 120})
files = dict(zip(("person", "garment", "mask"), map(handle_file, pictures)))
image, seed, timings = client.predict(**files, preset="reference", steps=2, seed=1, api_name="/try_on")
print(image if isinstance(image, str) else image["path"])
"""


def test_a_published_space_serves_the_pinned_bundle_without_asking_the_hub(
    hub: StandIn, bundle: Path, tmp_path: Path, local_result: Image.Image
) -> None:
    code, out, err = publish(hub, bundle, "--space", SPACE)
    assert code == 0, err
    pin, address = out.split()
    commit = hub.repos[REPO].main
    assert (pin, address) == (f"{REPO}@{commit}", f"{hub.url}/spaces/{SPACE}")
    space = hub.repos[f"spaces/{SPACE}"]
    assert space.variables == {"CATVTON_OV_MODEL": pin}
    files = dict(space.commits[space.main])
    assert {"app.py", "requirements.txt", "packages.txt", "LICENSE", "catvton_ov/page/style.css"} < set(files)
    assert not [name for name in files if name.startswith(("catvton_ov/export", "assets", "tests")) or "pyc" in name]
    settings = header(files["README.md"])
    preload = f"{REPO} {','.join((MANIFEST, *read_manifest(bundle).files))} {commit}"
    added = {"models": [REPO], "preload_from_hub": [preload], "startup_duration_timeout": "1h"}
    assert settings == header((ROOT / "README.md").read_bytes()) | added

    # What the Hub does: the Space's files in a folder, its preloaded files in the cache, its variables set.
    for name, data in files.items():
        (tmp_path / "space" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "space" / name).write_bytes(data)
    code, _, err = finish(start(hub, tmp_path / "home", "-c", PRELOAD, *settings["preload_from_hub"]))
    assert code == 0, err
    hub.requests.clear()
    with running_app(hub, tmp_path, **space.variables) as url:
        pictures = [str(bundle / "examples" / name) for name in EXAMPLES]
        quiet = {"HF_HUB_DISABLE_TELEMETRY": "1"}  # the caller's; the app is quiet of itself
        code, out, err = finish(start(hub, tmp_path, "-c", CALL, url, str(tmp_path), *pictures, **quiet))
    assert code == 0, err
    assert Image.open(out.strip()).convert("RGB").tobytes() == local_result.tobytes()
    assert hub.requests == []

    (bundle / "report.md").write_text("measured\n")
    space.commits[space.main]["catvton_ov/from_an_older_version.py"] = b""
    code, out, _ = publish(hub, bundle, "--space", SPACE)
    assert (code, space.variables["CATVTON_OV_MODEL"]) == (0, out.split()[0])
    assert space.variables["CATVTON_OV_MODEL"] != pin
    assert set(space.commits[space.main]) == set(files)


@contextmanager
def running_app(hub: StandIn, folder: Path, **env: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    temporary = {"GRADIO_TEMP_DIR": str(folder / "gradio"), "HOME": str(folder)}
    process = start(hub, folder / "home", "app.py", "--port", str(port), cwd=folder / "space", **temporary, **env)
    try:
        deadline = time.monotonic() + 120
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_private_bundle_and_space_are_served_with_a_token(hub: StandIn, bundle: Path, tmp_path: Path) -> None:
    code, out, err = publish(hub, bundle, "--space", SPACE, "--private")
    assert code == 0, err
    assert last_line(err) == "The model is private: give the Space a secret HF_TOKEN, a token that may read it."
    space = hub.repos[f"spaces/{SPACE}"]
    assert (hub.repos[REPO].private, space.private) == (True, True)
    assert "preload_from_hub" not in header(space.commits[space.main]["README.md"])  # the Hub cannot, for private ones
    load = "import sys; from catvton_ov.sources import open_bundle; print(len(open_bundle(sys.argv[1]).manifest.files))"
    pin = out.split()[0]
    code, _, err = finish(start(hub, tmp_path / "stranger", "-c", load, pin))
    assert (code, last_line(err).endswith("if it is private, set HF_TOKEN to a token that may read it.")) == (1, True)
    code, out, err = finish(start(hub, tmp_path / "space", "-c", load, pin, HF_TOKEN=READ))
    assert (code, out) == (0, f"{len(read_manifest(bundle).files)}\n"), err


# --- faults ------------------------------------------------------------------------------------------------------


def test_a_space_that_cannot_be_finished_is_said_to_be_half_new(hub: StandIn, bundle: Path) -> None:
    hub.commits_fail = f"spaces/{SPACE}"
    code, _, err = publish(hub, bundle, "--space", SPACE)
    assert code == 1
    assert f"Publishing the Space {SPACE} failed (Out of order) and it may be half new: try again later." in err
    assert MANIFEST in hub.repos[REPO].commits[hub.repos[REPO].main]
    hub.commits_fail = ""
    code, _, err = publish(hub, bundle, "--space", SPACE)
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "token", "env", "fault"),
    [
        ([], "", {}, f"Publishing {REPO} needs a token that may write there: set HF_TOKEN"),
        ([], "hf_unknown", {}, f"Publishing {REPO} needs a token that may write there: set HF_TOKEN"),
        ([], READ, {}, f"The Hub does not let this token publish {REPO} (You don't have the rights to do this): use"),
        ([], WRITE, {"HF_HUB_OFFLINE": "1"}, f"{REPO} cannot be published offline: unset HF_HUB_OFFLINE."),
        ([], WRITE, {"HF_ENDPOINT": "http://127.0.0.1:9"}, f"Publishing {REPO} was cut off (ConnectError)"),
        (["--repo", "doll"], WRITE, {}, "--repo must be OWNER/NAME; got 'doll'."),
        (["--repo", "me/doll--2"], WRITE, {}, "The Hub allows no name like that of me/doll--2: use letters, digits"),
        (["--space", "me/doll@main"], WRITE, {}, "--space must be OWNER/NAME; got 'me/doll@main'."),
    ],
)
def test_what_is_refused_is_one_sentence(
    hub: StandIn, tmp_path: Path, options: list[str], token: str, env: dict[str, str], fault: str
) -> None:
    command = ("-m", "catvton_ov", "publish", str(bundled_folder()), "--repo", REPO, *options)
    code, out, err = finish(start(hub, tmp_path, *command, **{"HF_TOKEN": token, **env}))
    assert (code, out) == (1, "")
    assert last_line(err).startswith(f"error: {fault}")
    assert "Traceback" not in err
    assert hub.repos == {}


def test_a_damaged_bundle_is_not_published(hub: StandIn, bundle: Path) -> None:
    weights = bytearray((bundle / UNET).read_bytes())
    weights[-1] ^= 1
    (bundle / UNET).write_bytes(weights)
    code, _, err = publish(hub, bundle)
    assert (code, "unet/openvino_model.bin does not have the checksum of its manifest" in last_line(err)) == (1, True)
    assert hub.requests == []


def test_an_upload_that_fails_or_is_killed_publishes_nothing_and_is_taken_up_again(hub: StandIn, bundle: Path) -> None:
    unet = read_manifest(bundle).files[UNET].sha256
    hub.receive = lambda path: 403 if path.endswith(f"{unet}/2") else 200
    code, out, err = publish(hub, bundle)
    assert (code, out) == (1, "")
    said = f"error: The Hub does not let this token publish {REPO} (Request has expired): use one that may write there."
    assert said in err.splitlines()  # among the client's bars
    assert len(hub.repos[REPO].commits) == 1  # the empty repository

    reached, go = threading.Event(), threading.Event()

    def stall(path: str) -> int:
        if path.endswith(f"{unet}/2"):
            reached.set()
            go.wait(60)
        return 200

    hub.receive = stall
    command = ("-m", "catvton_ov", "publish", str(bundle), "--repo", REPO)
    process = start(hub, bundle.parent / "publisher", *command, HF_TOKEN=WRITE)
    assert reached.wait(60)
    process.kill()
    process.communicate()
    go.set()
    assert len(hub.repos[REPO].commits) == 1

    hub.receive = lambda path: 200
    hub.requests.clear()
    code, out, err = publish(hub, bundle)
    assert code == 0, err
    assert out == f"{REPO}@{hub.repos[REPO].main}\n"
    assert {request.split("/")[2] for request in hub.requests if "/store/" in request} == {unet}  # the rest is there


# --- the card ----------------------------------------------------------------------------------------------------


def quantized_catvton() -> Manifest:
    """A manifest as `export --precision int8` makes it, with the mask parsers."""
    published = {
        "base": ("booksforcharlie/stable-diffusion-inpainting", "CreativeML OpenRAIL-M"),
        "vae": ("stabilityai/sd-vae-ft-mse", "MIT"),
        "catvton": ("zhengchong/CatVTON", "CC BY-NC-SA 4.0"),
    }
    return dataclasses.replace(
        read_manifest(bundled_folder()),
        precision="int8",
        licence="CC BY-NC-SA 4.0, with the use restrictions of CreativeML OpenRAIL-M",
        sources=tuple(Source(role, repo, "a" * 40, licence) for role, (repo, licence) in published.items()),
        parts={"unet": "u.xml", "densepose_head": "d.xml", "schp_lip": "s.xml"},
        quantization={"recipe": "hybrid", "calibration": {"runs": 6, "sizes": [[384, 512]]}},
    )


def test_the_card_says_what_the_manifest_knows() -> None:
    card = model_card(quantized_catvton(), "me/catvton-openvino-int8", "| MB | int8 |\n| --- | --- |\n")
    assert header(card.encode()) == {
        "base_model": [
            "booksforcharlie/stable-diffusion-inpainting",
            "stabilityai/sd-vae-ft-mse",
            "zhengchong/CatVTON",
        ],
        "base_model_relation": "quantized",
        "library_name": "openvino",
        "license": "cc-by-nc-sa-4.0",
        "pipeline_tag": "image-to-image",
        "tags": ["openvino", "nncf", "virtual-try-on", "catvton"],
    }
    for part in (
        "# catvton-openvino-int8\n",
        "CATVTON_OV_MODEL=me/catvton-openvino-int8 python app.py",
        "**no commercial use**",
        "CreativeML OpenRAIL-M",
        "(https://creativecommons.org/licenses/by-sa/3.0/)",  # DensePose
        "(https://arxiv.org/abs/1910.09777)): MIT.",  # SCHP
        f"| vae | [stabilityai/sd-vae-ft-mse](https://huggingface.co/stabilityai/sd-vae-ft-mse) | {'a' * 40} | MIT |",
        "| recipe | hybrid |\n| calibration.runs | 6 |\n| calibration.sizes | [[384, 512]] |",
        "## Quality, size and speed\n\n| MB | int8 |",
    ):
        assert part in card


def test_the_card_says_no_more_than_that() -> None:
    manifest = dataclasses.replace(read_manifest(bundled_folder()), precision="fp16", quantization=None)
    card = model_card(manifest, "me/doll")
    assert header(card.encode()) == {
        "library_name": "openvino",
        "license": "apache-2.0",
        "pipeline_tag": "image-to-image",
        "tags": ["openvino", "virtual-try-on", "catvton"],
    }
    for word in ("NC", "OpenRAIL", "detectron2", "SCHP", "## Quantization", "## Quality"):
        assert word not in card


def test_weights_from_folders_are_credited_to_those_they_stand_for() -> None:
    manifest = quantized_catvton()
    local = dataclasses.replace(
        manifest,
        licence="Some Licence 2",
        sources=tuple(Source(source.role, "folder", "local", source.licence) for source in manifest.sources),
    )
    settings = header(model_card(local, "me/doll").encode())
    assert settings["base_model"] == [source.repo for source in manifest.sources]
    assert (settings["license"], settings["license_name"]) == ("other", "some-licence-2")
