"""Gradio's own parts, held to the page's bounds: what is handed to the editor, and what an event is called with."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.image_editor import AcceptBlobs, EditorDataBlobs

from catvton_ov.errors import ImageError, TryOnError
from catvton_ov.images import check_file
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds


class GuardedBlocks(gr.Blocks):
    """A page whose events refuse in words what their components cannot make sense of, before it is decoded."""

    def __init__(self, bounds: Bounds, **settings: Any) -> None:
        super().__init__(**settings)
        self.bounds = bounds

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *rest: Any, **more: Any) -> list[Any]:
        """Gradio's, for which any failure is one sentence that tells nothing about the server."""
        try:
            for block, value in zip(block_fn.inputs, inputs, strict=False):
                if isinstance(block, gr.ImageEditor) and isinstance(value, dict):
                    self._check_editor(block, value)
            prepared: list[Any] = await super().preprocess_data(block_fn, inputs, *rest, **more)
            return prepared
        except gr.Error:
            raise
        except TryOnError as error:
            raise gr.Error(words.sentence(error), title=words.REFUSED, print_exception=False) from None
        except Exception:
            raise gr.Error(words.UNREADABLE, title=words.REFUSED, print_exception=False) from None

    def _check_editor(self, editor: gr.ImageEditor, value: dict[str, Any]) -> None:
        """Raise ImageError unless what the editor holds may be decoded; only headers are read."""
        draft = editor.blob_storage.get(str(value.get("id")))
        if draft is not None:
            parts = [draft.background, *(draft.layers or ()), draft.composite]
        else:
            files = [value.get("background"), *(value.get("layers") or ()), value.get("composite")]
            parts = [file.get("path") for file in files if isinstance(file, dict)]
        if len(parts) > self.bounds.editor_layers + 2:
            raise ImageError(f"At most {self.bounds.editor_layers} layers can be painted on.")
        for part in parts:
            if isinstance(part, bytes):
                check_file(BytesIO(part), "photo of the person", self.bounds.editor_pixels)
            elif isinstance(part, str) and _is_file_within(part, editor.GRADIO_CACHE):  # Gradio refuses any other
                check_file(part, "photo of the person", self.bounds.editor_pixels)


def bound_editor(editor: gr.ImageEditor, bounds: Bounds) -> None:
    """Let an editor take only so much from visitors' browsers before an event uses it; the oldest drafts give way."""
    accept = editor.accept_blobs

    def accept_blobs(data: AcceptBlobs) -> None:
        index = str(data.data.get("index") or "null")  # of a layer; what a browser sends is text
        if index != "null" and not 0 <= int(index) < bounds.editor_layers:
            raise ImageError(f"At most {bounds.editor_layers} layers can be painted on.")
        if data.data["type"] not in ("background", "layer", "composite") or len(data.data["id"]) > 64:
            raise ImageError(words.UNREADABLE)
        accept(data)
        sizes = {key: _draft_bytes(draft) for key, draft in list(editor.blob_storage.items())}
        surplus = sum(sizes.values()) - bounds.drafts_bytes
        for key, size in sizes.items():
            if surplus <= 0:
                break
            editor.blob_storage.pop(key, None)
            surplus -= size

    accept_blobs._is_server_fn = True  # type: ignore[attr-defined]  # as Gradio marks what browsers may call
    editor.accept_blobs = accept_blobs


def _draft_bytes(draft: EditorDataBlobs) -> int:
    parts = (draft.background, *(draft.layers or ()), draft.composite)
    return 1000 + sum(len(part) for part in parts if isinstance(part, bytes))


def _is_file_within(path: str, folder: str) -> bool:
    return Path(path).resolve().is_relative_to(Path(folder).resolve()) and Path(path).is_file()
