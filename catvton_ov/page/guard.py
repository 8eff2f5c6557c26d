"""Gradio's own parts, held to the page's bounds: what is handed to the editor, and what an event is called with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import gradio as gr
from gradio.components.image_editor import AcceptBlobs, EditorData, EditorDataBlobs
from gradio.data_classes import FileData
from gradio.exceptions import ComponentProcessingError
from gradio.processing_utils import async_move_files_to_cache

from catvton_ov.errors import ImageError, TryOnError
from catvton_ov.page import words
from catvton_ov.page.bounds import Bounds
from catvton_ov.page.editor import EditorValue
from catvton_ov.page.private_folder import is_no_room
from catvton_ov.pictures.decoder import Kind
from catvton_ov.pictures.reader import PictureReader

PICTURES = (gr.Image, gr.ImageSlider, gr.ImageEditor)  # what Gradio would decode in this very process
PERSON = "photo of the person"


class GuardedBlocks(gr.Blocks):
    """A page whose events refuse in words what their components cannot make sense of, and decode nothing themselves.

    A handler gets the path of a picture, the two of a slider, and of an editor what the reader has made of it.
    """

    def __init__(self, bounds: Bounds, reader: PictureReader, **settings: Any) -> None:
        super().__init__(**settings)
        self.bounds = bounds
        self.reader = reader

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], state: Any, explicit_call: bool = False
    ) -> list[Any]:
        """Gradio's but for pictures; any failure is one sentence that tells nothing about the server."""
        pictures = [place for place, block in enumerate(block_fn.inputs) if isinstance(block, PICTURES)]
        try:
            others = [None if place in pictures else value for place, value in enumerate(inputs)]
            prepared: list[Any] = await super().preprocess_data(block_fn, others, state, explicit_call)
            for place in pictures:
                if inputs[place] is not None:
                    prepared[place] = await self._picture(block_fn.inputs[place], inputs[place], explicit_call)
            return prepared
        except gr.Error:
            raise
        except TryOnError as error:
            raise gr.Error(words.sentence(error), title=words.REFUSED, print_exception=False) from None
        except Exception:
            raise gr.Error(words.UNREADABLE, title=words.REFUSED, print_exception=False) from None

    async def postprocess_data(self, *given: Any, **named: Any) -> Any:
        """Gradio's; a disk that is full is one sentence."""
        try:
            return await super().postprocess_data(*given, **named)
        except Exception as error:
            cause = error.__cause__ if isinstance(error, ComponentProcessingError) else error
            if is_no_room(cause):
                raise gr.Error(words.no_folder(cause), title=words.REFUSED, print_exception=False) from None
            raise

    async def _picture(self, block: Any, value: Any, explicit_call: bool) -> Any:
        """What a handler gets for a picture component's value; raises an exception for a file that is no upload."""
        held = await async_move_files_to_cache(value, block, check_in_upload_folder=not explicit_call)
        data = block.data_model.model_validate(held, context={"validate_meta": True})
        if isinstance(block, gr.ImageEditor):
            return await anyio.to_thread.run_sync(self._editor_value, block, data, limiter=self.limiter)
        if isinstance(block, gr.ImageSlider):
            return tuple(None if each is None else each.path for each in data.root)
        return data.path

    def _editor_value(self, editor: gr.ImageEditor, data: EditorData) -> EditorValue:
        """The decoded photo and layers that are in an editor, or in what it has handed in before; raises ImageError."""
        found: EditorData | EditorDataBlobs = data
        if data.id is not None:
            found = editor.blob_storage.pop(data.id, EditorDataBlobs(background=None, layers=[], composite=None))
        layers = [layer for layer in found.layers or () if layer is not None]
        if len(layers) > self.bounds.editor_layers:
            raise ImageError(f"At most {self.bounds.editor_layers} layers can be painted on.")
        photo = None if found.background is None else self._read(found.background, "photo", PERSON)
        painted = [self._read(layer, "layer", "painted layer") for layer in layers]
        return {"background": photo, "layers": painted, "composite": None}

    def _read(self, file: FileData | bytes, kind: Kind, what: str) -> Any:
        content = file if isinstance(file, bytes) else Path(file.path)
        return self.reader.read(content, kind, what, self.bounds.editor_pixels)


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
