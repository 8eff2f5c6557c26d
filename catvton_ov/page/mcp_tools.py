"""The endpoints as tools for agents, at `/mcp` (Model Context Protocol, streamable HTTP). Needs requirements-mcp.txt.

A tool asks the page's own HTTP API, within the process and in the name of whoever called it: what holds for other
visitors (bounds, login, the queue, what is no picture, nothing fetched) holds for agents, at one place.
"""

from __future__ import annotations

import base64
import inspect
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx2
from mcp.server.fastmcp import Context, FastMCP
from mcp.server.fastmcp.exceptions import ToolError
from mcp.types import ImageContent, TextContent
from pydantic import Field
from starlette.requests import Request
from starlette.routing import Route

from catvton_ov.options import GarmentCategory
from catvton_ov.page import words
from catvton_ov.page.bounds import client_of
from catvton_ov.presets import PresetName
from catvton_ov.samplers import SamplerName

log = logging.getLogger(__name__)

PATH = "/mcp"
API = "gradio_api"
INSTRUCTIONS = (
    "Puts the garment of one photo on the person of another. Hand a photo in with "
    "`curl --form files=@photo.jpg ADDRESS/gradio_api/upload`, which answers with a list of one path; give the tools "
    "that path. Small pictures (together below 700 kB) may be given as data: URLs instead; web addresses are not "
    "fetched. The path PATH of a result is at ADDRESS/gradio_api/file=PATH until it is deleted, after an hour unless "
    "the owner says otherwise. Ask for everybody's consent whose photo you hand in."
)
Picture = Annotated[str, Field(description="the path that an upload has answered with, or a data: URL")]
Category = Annotated[GarmentCategory, Field(description="what the garment covers; decides which clothes are masked")]
PersonNumber = Annotated[int, Field(description="of several persons, whose clothes are masked: the largest is 1")]
Percent = Annotated[float, Field(description="to extend the mask this way, in percent of the body's height")]
Content = list[ImageContent | TextContent]


def agent_tools(host: str) -> dict[str, Any]:
    """What serves the tools: the routes and the lifespan of an application.

    Args:
        host: where the page listens; on a loopback address, requests that name another host are refused.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s")  # else the server sets it, for all there is
    logging.getLogger("mcp").setLevel(logging.ERROR)  # what fails is told to the caller
    server = FastMCP(
        words.TITLE,
        INSTRUCTIONS,
        host=host,
        streamable_http_path=PATH,
        stateless_http=True,
    )
    for tool in (try_on, mask, presets):
        server.add_tool(tool, description=inspect.getdoc(tool), structured_output=False)

    @asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with server.session_manager.run():
            yield

    endpoint = next(route.endpoint for route in server.streamable_http_app().routes if isinstance(route, Route))
    routes = [Route(PATH, endpoint, methods=["POST"])]  # a GET would open a stream that carries nothing
    return {"routes": routes, "lifespan": lifespan}


async def try_on(
    context: Context[Any, Any, Request],
    person: Picture,
    garment: Picture,
    mask: Annotated[
        str | None,
        Field(description="white where the person is repainted, of the person photo's size; left out, it is found"),
    ] = None,
    category: Category = "upper",
    preset: Annotated[PresetName | None, Field(description="speed against quality, see the tool presets")] = None,
    steps: Annotated[int | None, Field(description="denoising steps instead of the preset's")] = None,
    guidance_scale: Annotated[float | None, Field(description="how closely to follow the garment, 0 to 20")] = None,
    sampler: Annotated[SamplerName | None, Field(description="instead of the preset's")] = None,
    seed: Annotated[int | None, Field(description="0 to 4294967295; left out, one is drawn and told")] = None,
    size: Annotated[str | None, Field(description="one of those that the tool presets names, as 384x512")] = None,
    person_number: PersonNumber = 1,
    worn: Annotated[bool, Field(description="the garment photo shows somebody who wears it: cut it out")] = False,
) -> Content:
    """Put a garment on a person: the picture (PNG), and as JSON its seed, the seconds it took and its path.

    The picture has the person photo's size, and says in its metadata that AI made it. Takes seconds to minutes, and
    waits for its turn.
    """
    async with _page(context) as page:
        files = [await _file(page, given) for given in (person, garment, mask)]
        data = [*files, category, steps, guidance_scale, sampler, seed, preset, size, person_number, worn]
        picture, used_seed, seconds = await _call(page, "try_on", data)
        return await _shown(page, picture, seed=used_seed, seconds=seconds)


async def mask(
    context: Context[Any, Any, Request],
    person: Picture,
    category: Category = "upper",
    grow: Annotated[float, Field(description="in percent of the body's height; negative shrinks")] = 0,
    up: Percent = 0,
    down: Percent = 0,
    left: Percent = 0,
    right: Percent = 0,
    person_number: PersonNumber = 1,
) -> Content:
    """Find the clothes on a photo of a person: the mask (PNG), white where they are, and as JSON its path.

    try_on takes that path as its mask.
    """
    async with _page(context) as page:
        reach = (grow, up, down, left, right)
        (picture,) = await _call(page, "mask", [await _file(page, person), category, *reach, person_number])
        return await _shown(page, picture)


async def presets(context: Context[Any, Any, Request]) -> Content:
    """The presets of try_on as JSON: options, seconds a picture takes on this machine if known, and the default."""
    async with _page(context) as page:
        (told,) = await _call(page, "presets", [])
        return [_json(told)]


@asynccontextmanager
async def _page(context: Context[Any, Any, Request]) -> AsyncIterator[httpx2.AsyncClient]:
    """The page's HTTP API, as whoever called the tool would reach it; what fails unexpectedly is one sentence."""
    request = context.request_context.request
    assert request is not None
    transport = httpx2.ASGITransport(app=request.app, client=(client_of(request.scope), 0), raise_app_exceptions=False)
    headers = {"cookie": request.headers["cookie"]} if "cookie" in request.headers else {}  # a login's
    async with httpx2.AsyncClient(
        transport=transport, base_url="http://127.0.0.1", headers=headers, timeout=None
    ) as page:
        try:
            yield page
        except ToolError:
            raise
        except Exception as error:
            log.error("a tool failed: %s", type(error).__name__)  # not what it carried
            raise ToolError(words.UNEXPECTED) from None


async def _file(page: httpx2.AsyncClient, given: str | None) -> dict[str, Any] | None:
    """What the API calls a picture; one in a data: URL is handed in first."""
    if given is None:
        return None
    if given.startswith("data:"):
        try:
            content = base64.b64decode(given.partition(",")[2], validate=True)
        except ValueError:
            raise ToolError("A data: URL holds a picture in base64; this one does not.") from None
        answer = await page.post(f"{API}/upload", files={"files": ("picture", content)})
        (given,) = _checked(answer)
    return {"path": given, "meta": {"_type": "gradio.FileData"}}


async def _call(page: httpx2.AsyncClient, endpoint: str, data: list[Any]) -> list[Any]:
    """An endpoint's outputs, when its turn has come; if the caller's line is dropped meanwhile, so is the job."""
    event = _checked(await page.post(f"{API}/call/{endpoint}", json={"data": data}))["event_id"]
    told = await page.get(f"{API}/call/{endpoint}/{event}")
    name, _, content = told.text.strip().rpartition("\n\n")[2].partition("\ndata: ")
    outputs: Any = json.loads(content)
    if name != "event: complete":
        raise ToolError((isinstance(outputs, dict) and outputs.get("error")) or words.UNEXPECTED)
    return list(outputs)


def _checked(answer: httpx2.Response) -> Any:
    """What the page answered; raises ToolError with its reason if it refused."""
    if answer.status_code == 401:
        raise ToolError("This page asks visitors to log in: send the cookie of a login with the request.")
    if answer.status_code != 200:
        raise ToolError(str(answer.json()["detail"]))
    return answer.json()


async def _shown(page: httpx2.AsyncClient, picture: dict[str, Any], **told: Any) -> Content:
    """A picture of the page's, and what else is told of it."""
    path = picture["path"]
    answer = (await page.get(f"{API}/file={path}")).raise_for_status()
    image = ImageContent(type="image", data=base64.b64encode(answer.content).decode(), mimeType="image/png")
    return [image, _json({"path": path, **told})]


def _json(value: Any) -> TextContent:
    return TextContent(type="text", text=json.dumps(value))
