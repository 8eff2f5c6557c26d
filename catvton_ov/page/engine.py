"""The models a page may offer, and the one that is in memory."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.errors import OptionsError, TryOnError
from catvton_ov.masking.parsers import Parser, open_parser
from catvton_ov.page.opening import Opening
from catvton_ov.pictures.reading import Size
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions, available_devices
from catvton_ov.safety import SafetyChecker, notice_picture, open_checker
from catvton_ov.sources import Download

log = logging.getLogger(__name__)


class Engine:
    """Opens bundles once and keeps one pipeline; choosing another model or device frees it.

    Bundles may be asked for from any thread; pipelines are for one job at a time, and the page queues those.
    """

    def __init__(
        self,
        sources: Sequence[str],
        device: str = "CPU",
        cache_dir: Path | None = None,
        safety: bool = True,
        keep_parsers: bool = False,
    ) -> None:
        """Raises OptionsError for an unknown device; bundles are opened when first asked for."""
        self.sources = tuple(dict.fromkeys(sources))
        self.devices = tuple(available_devices())
        Runtime(RuntimeOptions(device=device))  # only to refuse an unknown device at once
        self.device = device
        self._cache_dir = cache_dir
        self._safety = safety  # whether bundles' safety checkers are used
        self._frugal = not keep_parsers
        self._openings: dict[str, Opening] = {}
        self._lock = threading.Lock()
        self._pipeline: TryOnPipeline | None = None
        self._parser: Parser | None = None
        self._checker: SafetyChecker | None = None
        self._loaded: tuple[str, str] | None = None

    def opening(self, source: str) -> Opening:
        """One of the offered sources, being opened or open already; one that failed is tried again.

        Raises OptionsError for any other source.
        """
        if source not in self.sources:
            raise OptionsError(f"This page does not offer the model {source!r}; it offers {', '.join(self.sources)}.")
        with self._lock:
            opening = self._openings.get(source)
            if opening is None or opening.failed:
                opening = self._openings[source] = Opening(source)
            return opening

    def state(self, source: str, wait: bool = False) -> tuple[str, str]:
        """How a source is, "loading", "ready" or "failed", and why it failed; nothing is begun.

        Args:
            wait: until it is no longer loading.
        """
        with self._lock:
            opening = self._openings.get(source)
        if opening is None or not (wait or opening.is_over()):
            return "loading", ""
        try:
            opening.bundle()
        except TryOnError as error:
            return "failed", str(error)
        return "ready", ""

    def bundle(self, source: str) -> Bundle:
        """The bundle of a source, when it is open; raises BundleError, and what `opening` raises."""
        return self.opening(source).bundle()

    def sizes(self, source: str) -> tuple[Size, ...]:
        """What a model works at; nothing while it is not open, and nothing is begun."""
        return self.bundle(source).manifest.sizes if self.state(source)[0] == "ready" else ()

    def watch(self, source: str, every: float = 0.5) -> Iterator[Download]:
        """How far the download is, every so many seconds, until the bundle is open; nothing for one that is here.

        Raises what `bundle` raises.
        """
        opening = self.opening(source)
        while not opening.is_over(every):
            if opening.download is not None:
                yield opening.download
        opening.bundle()

    def pipeline(self, source: str, device: str) -> TryOnPipeline:
        """The pipeline for a source on a device; the one of any other choice is freed first."""
        if self._pipeline is None or self._loaded != (source, device):
            bundle = self.bundle(source)
            runtime = Runtime(RuntimeOptions(device=device, cache_dir=self._cache_dir))
            self._pipeline = self._parser = self._checker = None
            self._pipeline = TryOnPipeline(bundle, runtime)
            self._parser = open_parser(bundle, runtime, frugal=self._frugal)
            if self._safety:  # in float32, as lower precisions move its scores by as much as its rule's margins
                exact = Runtime(RuntimeOptions(device=device, precision="f32", cache_dir=self._cache_dir))
                self._checker = open_checker(bundle, exact)
            self._loaded = (source, device)
            log.info("using %s on %s", source, device)
        return self._pipeline

    def parser(self, source: str, device: str) -> Parser | None:
        """The parser that a source's bundle brings, if any; its device is shared with the pipeline."""
        self.pipeline(source, device)
        return self._parser

    def screened(self, picture: Image.Image, mask: Image.Image) -> Image.Image:
        """A picture the pipeline made, or a notice in its place if the bundle's safety checker flags it.

        Args:
            mask: what was repainted, of the picture's size. The checker sees the middle square of what it is given,
                so it is asked about the repainted part as well.
        """
        if self._checker is not None:
            repainted = picture.crop(mask.getbbox())
            if self._checker.flagged(picture) or self._checker.flagged(repainted):
                return notice_picture(picture.size)
        return picture
