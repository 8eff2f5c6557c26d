"""A bundle that is being opened in the background, perhaps downloaded, while anybody may watch."""

from __future__ import annotations

import logging
import threading

from catvton_ov.bundle import EXAMPLES, Bundle
from catvton_ov.errors import BundleError, TryOnError
from catvton_ov.sources import Download, open_bundle

log = logging.getLogger(__name__)


class Opening:
    """Begins at once. One for all visitors of a page: a model is fetched once, however many wait for it."""

    def __init__(self, source: str) -> None:
        self.download: Download | None = None  # how far it is, while files come from the Hub
        self._source = source
        self._bundle: Bundle | None = None
        self._error: TryOnError | None = None
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
        """Wait for the bundle; raises what `open_bundle` raised, BundleError for what it does not explain."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._bundle is not None
        return self._bundle

    def _open(self) -> None:
        try:
            bundle = open_bundle(self._source, self._watch)
            for name in bundle.manifest.files:
                if name.startswith(EXAMPLES):  # they are shown at once, and small; parts are verified when first used
                    bundle.verify(name)
            self._bundle = bundle
        except TryOnError as error:  # told to whoever waits, in their thread
            self._error = error
        except Exception as error:
            log.exception("%s could not be opened", self._source)
            self._error = BundleError(
                f"{self._source} could not be opened ({type(error).__name__}); the page's log says more."
            )

    def _watch(self, download: Download) -> None:
        self.download = download
