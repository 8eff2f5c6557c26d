"""The models a page may offer, and the one that is in memory."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from catvton_ov.bundle import Bundle
from catvton_ov.errors import OptionsError
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions, available_devices
from catvton_ov.sources import open_bundle

log = logging.getLogger(__name__)


class Engine:
    """Opens bundles once and keeps one pipeline; choosing another model or device frees it.

    For one job at a time: the page queues everything that calls it.
    """

    def __init__(self, sources: Sequence[str], device: str = "CPU", cache_dir: Path | None = None) -> None:
        """Raises OptionsError for an unknown device; bundles are opened when first asked for."""
        self.sources = tuple(dict.fromkeys(sources))
        self.devices = tuple(available_devices())
        Runtime(RuntimeOptions(device=device))  # only to refuse an unknown device at once
        self.device = device
        self._cache_dir = cache_dir
        self._bundles: dict[str, Bundle] = {}
        self._pipeline: TryOnPipeline | None = None
        self._loaded: tuple[str, str] | None = None

    def bundle(self, source: str) -> Bundle:
        """The bundle of one of the offered sources; raises BundleError, and OptionsError for any other source."""
        if source not in self.sources:
            raise OptionsError(f"This page does not offer the model {source!r}; it offers {', '.join(self.sources)}.")
        if source not in self._bundles:
            self._bundles[source] = open_bundle(source)
        return self._bundles[source]

    def pipeline(self, source: str, device: str) -> TryOnPipeline:
        """The pipeline for a source on a device; the one of any other choice is freed first."""
        if self._pipeline is None or self._loaded != (source, device):
            bundle = self.bundle(source)
            runtime = Runtime(RuntimeOptions(device=device, cache_dir=self._cache_dir))
            self._pipeline = None
            self._pipeline = TryOnPipeline(bundle, runtime)
            self._loaded = (source, device)
            log.info("using %s on %s", source, device)
        return self._pipeline
