"""The tools for agents, called by the Model Context Protocol's own client: the real page, with a login."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from catvton_ov.marking import MARK
from catvton_ov.pictures.reading import open_picture
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.presets import default_preset, preset
from tests import hostile
from tests.serving import ROOT, served_page
from tests.visitor import Visitor

mcp = pytest.importorskip("mcp", reason="NOT RUN: no mcp here (pip install -r requirements-mcp.txt)")
transport = pytest.importorskip("mcp.client.streamable_http")

EXAMPLES = ROOT / "assets" / "paper_doll" / "examples"
PICTURES = {name: EXAMPLES / path for name, path in {
    "person": "person/Ada.png", "garment": "garment/upper-plain.png", "mask": "mask/Ada-upper.png"
}.items()}  # fmt: skip


class Agent:
    """Logged in, unless told otherwise."""

    def __init__(self, url: str, address: str = "127.0.0.1", login: bool = True) -> None:
        self.url = url
        visitor = Visitor(url, address)
        if login:
            assert visitor.http.post("login", data={"username": "ada", "password": "secret"}).status_code == 200
        cookies = "; ".join(f"{name}={value}" for name, value in visitor.http.cookies.items())
        self.headers = {"X-Forwarded-For": address, "Cookie": cookies}
        self.visitor = visitor

    def ask(self, question: Any, patience: float = 60) -> Any:
        """What comes of a question to a session; None where that takes too long and the line is dropped."""

        async def session() -> Any:
            async with (
                httpx.AsyncClient(headers=self.headers, timeout=60) as http,
                transport.streamable_http_client(f"{self.url}mcp", http_client=http) as (read, write, _),
                mcp.ClientSession(read, write) as opened,
            ):
                await opened.initialize()
                with contextlib.suppress(TimeoutError):
                    return await asyncio.wait_for(question(opened), patience)

        return asyncio.run(session())

    def call(self, tool: str, patience: float = 60, **values: Any) -> Any:
        return self.ask(lambda session: session.call_tool(tool, values), patience)

    def refused(self, tool: str, **values: Any) -> str:
        answer = self.call(tool, **values)
        assert answer.isError
        return str(answer.content[0].text)

    def uploads(self) -> dict[str, str]:
        return {name: self.visitor.upload(path.read_bytes(), path.name)["path"] for name, path in PICTURES.items()}


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("page")
    with served_page(folder, "--mcp", "--auth", "ada:secret", CATVTON_OV_JOBS_PER_MINUTE="12") as address:
        yield address
    log = (folder / "page.log").read_text()
    assert "Traceback" not in log, log


def data_url(content: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(content).decode()


def test_three_tools_are_offered_every_parameter_with_a_type_and_words(url: str) -> None:
    tools = {tool.name: tool for tool in Agent(url, login=False).ask(lambda session: session.list_tools()).tools}
    assert set(tools) == {"try_on", "mask", "presets"}
    assert all(len(tool.description) > 50 for tool in tools.values())
    given = tools["try_on"].inputSchema
    assert given["required"] == ["person", "garment"]
    assert given["properties"]["category"]["enum"] == ["upper", "lower", "overall", "inner", "outer"]
    for tool in tools.values():
        for parameter in tool.inputSchema["properties"].values():
            assert parameter["description"]
            assert "type" in parameter or "anyOf" in parameter


def test_a_try_on_with_the_mask_that_was_found_is_the_pipelines_own_picture(url: str) -> None:
    agent = Agent(url)
    uploads = agent.uploads()
    found = agent.call("mask", person=uploads["person"], category="upper", grow=2)
    mask = Image.open(io.BytesIO(base64.b64decode(found.content[0].data)))
    garment = data_url(PICTURES["garment"].read_bytes())
    path = json.loads(found.content[1].text)["path"]
    answer = agent.call("try_on", person=uploads["person"], garment=garment, mask=path, steps=2, seed=7)
    picture = Image.open(io.BytesIO(base64.b64decode(answer.content[0].data)))
    person, flat = (open_picture(PICTURES[name]) for name in ("person", "garment"))
    expected = TryOnPipeline.load("paper_doll")(
        person, flat, mask, preset(default_preset("CPU"), steps=2, seed=7)
    ).picture
    assert np.array_equal(np.asarray(picture), np.asarray(expected))
    assert picture.info["Description"] == MARK["Description"]
    told = json.loads(answer.content[1].text)
    assert told["seed"] == 7
    assert "denoise" in told["seconds"]
    assert agent.visitor.http.get(f"gradio_api/file={told['path']}").content[:4] == b"\x89PNG"
    beyond = agent.refused("mask", person=uploads["person"], person_number=2)
    assert "no person number 2, the largest being the first; found: 1" in beyond
    assert "fast" in json.loads(agent.call("presets").content[0].text)["presets"]


def test_agents_are_refused_what_other_visitors_are(url: str, tmp_path: Path) -> None:
    agent = Agent(url, "203.0.113.8")
    garment = agent.uploads()["garment"]
    (tmp_path / "mine.png").write_bytes(PICTURES["person"].read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        address = f"http://127.0.0.1:{elsewhere.getsockname()[1]}/x.png"
        for place in (address, " " + address.upper(), "file:///etc/passwd"):
            assert "Addresses are not fetched" in agent.refused("try_on", person=place, garment=garment)
        time.sleep(0.5)
        with pytest.raises(BlockingIOError):
            elsewhere.accept()
    for place in ("/etc/passwd", str(tmp_path / "mine.png"), garment + "/../../../../../../etc/passwd", "", "photo"):
        assert "could not be read" in agent.refused("mask", person=place)
    _, bomb = hostile.bombs()["PNG that promises 60,000 squared"]
    assert "megapixels" in agent.refused("mask", person=data_url(bomb))
    tiff = data_url(hostile.leaking_tiff(64, 96))
    assert "format known here" in agent.refused("mask", person=tiff)
    for content in ("%", "é"):
        assert "base64" in agent.refused("mask", person=f"data:image/png;base64,{content}")
    assert httpx.get(f"{url}mcp", headers=agent.headers).status_code == 405
    assert "whole number" in agent.refused("try_on", person=garment, garment=garment, seed=-1)
    large = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "mask", "arguments": "x" * 1_100_000},
    }
    assert httpx.post(f"{url}mcp", json=large, headers=agent.headers).status_code == 413
    assert httpx.post(f"{url}mcp", json={}, headers=agent.headers | {"Host": "evil.example"}).status_code == 421


def test_calls_need_the_login_and_are_counted_by_visitor(url: str) -> None:
    assert "log in" in Agent(url, login=False).refused("presets")
    hasty = Agent(url, "203.0.113.9")
    person = hasty.uploads()["garment"]
    wrong = {"person": person, "garment": person, "steps": 0}

    async def hurry(session: Any) -> list[str]:
        return [(await session.call_tool("try_on", wrong)).content[0].text for _ in range(13)]

    *answers, last = hasty.ask(hurry)
    assert "At most 12 try-ons a minute" in last
    assert not [answer for answer in answers if "At most" in answer]
    assert "At most" not in Agent(url, "203.0.113.10").refused("try_on", **wrong)


def test_a_call_that_nobody_waits_for_any_more_frees_the_machine(url: str) -> None:
    agent = Agent(url, "203.0.113.11")
    uploads = agent.uploads()
    begun = time.monotonic()
    agent.call("try_on", **uploads, steps=20)
    whole = 5 * (time.monotonic() - begun)
    assert agent.call("try_on", patience=whole / 5, **uploads, steps=100) is None
    begun = time.monotonic()
    agent.call("try_on", **uploads, steps=1)
    assert time.monotonic() - begun < whole / 2
