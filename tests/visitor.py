"""A visitor without a browser: the page's own HTTP, so that anything at all can be sent."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Any

import httpx


@dataclass(frozen=True)
class Answer:
    status: int  # of HTTP
    data: list[Any] | None  # the outputs, where there are any
    message: str | None  # what the visitor is told instead

    @property
    def worked(self) -> bool:
        return self.data is not None


class Visitor:
    def __init__(self, url: str, address: str = "127.0.0.1") -> None:
        """`address`: as a proxy on this machine would report it."""
        self.http = httpx.Client(base_url=url, timeout=120, headers={"X-Forwarded-For": address})
        self.session = secrets.token_hex(6)
        self._config: dict[str, Any] = {}

    def upload(self, content: bytes, name: str = "photo.png") -> dict[str, Any]:
        """Hand a file in; gives what a request calls it."""
        answer = self.http.post("gradio_api/upload", files={"files": (name, content)})
        answer.raise_for_status()
        return {"path": answer.json()[0], "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def call(self, endpoint: str, *data: Any) -> Answer:
        """Call a named endpoint and wait for what comes of it."""
        sent = self.http.post(f"gradio_api/call/{endpoint}", content=json.dumps({"data": data}), headers=JSON)
        if sent.status_code != 200:
            return Answer(sent.status_code, None, sent.text)
        told = self.http.get(f"gradio_api/call/{endpoint}/{sent.json()['event_id']}").text
        event, _, content = told.strip().split("\n\n")[-1].partition("\ndata: ")
        value = json.loads(content)
        if event == "event: complete":
            return Answer(200, value, None)
        return Answer(200, None, (value or {}).get("error"))

    def press(self, elem_id: str, **values: Any) -> Answer:
        """Press a button of the page, its inputs as the page opens with them save those given by label or id."""
        self._config = self._config or self.http.get("config").json()
        parts = {part["id"]: part for part in self._config["components"]}
        (button,) = (key for key, part in parts.items() if part["props"].get("elem_id") == elem_id)
        (event,) = (d for d in self._config["dependencies"] if [button, "click"] in map(list, d["targets"]))
        data = []
        for key in event["inputs"]:
            props = parts[key]["props"]
            name = props.get("elem_id") or props.get("label")
            data.append(values.get(name, props.get("value")))
        return self.join(event["id"], data)

    def join(self, function: Any, data: Any) -> Answer:
        """Queue one of the page's events and wait for what comes of it."""
        body = {"data": data, "fn_index": function, "session_hash": self.session}
        sent = self.http.post("gradio_api/queue/join", content=json.dumps(body), headers=JSON)
        if sent.status_code != 200:
            return Answer(sent.status_code, None, sent.text)
        told = self.http.get("gradio_api/queue/data", params={"session_hash": self.session}).text
        messages = [json.loads(line.removeprefix("data: ")) for line in told.splitlines() if line.startswith("data: ")]
        (last,) = (message for message in messages if message["msg"] == "process_completed")
        if last["success"]:
            return Answer(200, last["output"]["data"], None)
        return Answer(200, None, last["output"].get("error"))

    def blob(self, draft: str, kind: str, content: bytes, index: Any = "null") -> httpx.Response:
        """Hand in a part of what is in the editor, as the editor does."""
        self._config = self._config or self.http.get("config").json()
        (editor,) = (p["id"] for p in self._config["components"] if p["props"].get("elem_id") == "person")
        fields = {"id": draft, "type": kind, "index": str(index), "fn_name": "accept_blobs"}
        fields |= {"component_id": str(editor), "session_hash": self.session}
        return self.http.post("gradio_api/component_server", data=fields, files={"file": ("part.png", content)})


JSON = {"Content-Type": "application/json"}
