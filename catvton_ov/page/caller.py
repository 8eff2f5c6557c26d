"""Whether anybody waits for what runs now. Gradio stops an event by itself only where it yields."""

from __future__ import annotations

from gradio.context import LocalContext


def is_awaited() -> bool:
    """False once the connection of whoever asked for the event that runs here was dropped; true outside of events."""
    page, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    event = page._queue.event_ids_to_events.get(event_id) if page is not None and event_id is not None else None
    return event is None or event.alive
