"""A bundle that is being opened in the background, perhaps downloaded, while anybody may watch."""

from __future__ import annotations

import threading

from catvton_ov.bundle import Bundle
from catvton_ov.sources import Download, open_bundle


class Opening:
    """Begins at once. One for all visitors of a page: a model is fetched once, however many wait for it."""

    def __init__(self, source: str) -> None:
        self.download: Download | None = None  # how far it is, while files come from the Hub
        self._source = source
        self._bundle: Bundle | None = None
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._open, name=f"opening {source}", daemon=True)
        self._thread.start()

    def is_over(self, seconds: float = 0) -> bool:
        """Whether it has come to an end, waiting for that at most so long."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    @property
    def failed(self) -> bool:
        return self._error is not None

    def bundle(self) -> Bundle:
        """Wait for the bundle; raises what `open_bundle` raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._bundle is not None
        return self._bundle

    def _open(self) -> None:
        try:
            self._bundle = open_bundle(self._source, self._watch)
        except Exception as error:  # told to whoever waits, in their thread
            self._error = error

    def _watch(self, download: Download) -> None:
        self.download = download
