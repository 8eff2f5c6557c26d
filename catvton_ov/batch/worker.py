"""One try-on of a batch, with what it shares with others remembered."""

from __future__ import annotations

import hashlib
import importlib.metadata
import io
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from catvton_ov.batch.plan import Setting
from catvton_ov.bundle import MANIFEST, Bundle, sha256
from catvton_ov.errors import BatchError, ImageError, MaskError, TryOnError
from catvton_ov.marking import marked, to_png
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.labels import LabelMaps
from catvton_ov.masking.parsers import open_parser
from catvton_ov.options import MaskAdjustment, TryOnOptions, TryOnResult
from catvton_ov.pictures.reading import read_mask, read_photo
from catvton_ov.pipeline import TryOnPipeline
from catvton_ov.runtime import Runtime, RuntimeOptions
from catvton_ov.sources import open_bundle

Array = npt.NDArray[np.float32]
Key = tuple[str, ...]
REMEMBERED = 256_000_000  # bytes of latents, labels and masks a worker keeps


@dataclass(frozen=True)
class Order:
    """A try-on, in the bytes of its files: whoever makes it needs no access to them."""

    person: bytes
    garment: bytes
    mask: bytes | None
    category: str
    adjustment: MaskAdjustment  # of a mask that is found
    options: TryOnOptions


@dataclass(frozen=True)
class Made:
    png: bytes  # of the person photo's size, RGB, with the mark of a result and no other metadata
    seconds: Mapping[str, float]  # by stage, see TryOnResult


class Remembered:
    """What was computed, by key: arrays or bytes; the least recently used are let go beyond `budget` bytes."""

    def __init__(self, budget: int = REMEMBERED) -> None:
        self._budget = budget
        self._held = 0
        self._values: OrderedDict[Key, Array | bytes] = OrderedDict()

    def array(self, key: Key, compute: Callable[[], Array]) -> Array:
        value = self._get(key, compute)
        assert isinstance(value, np.ndarray)
        return value

    def data(self, key: Key, compute: Callable[[], bytes]) -> bytes:
        value = self._get(key, compute)
        assert isinstance(value, bytes)
        return value

    def _get(self, key: Key, compute: Callable[[], Array | bytes]) -> Array | bytes:
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key]
        value = self._values[key] = compute()
        self._held += _size(value)
        while self._held > self._budget and len(self._values) > 1:
            _, oldest = self._values.popitem(last=False)
            self._held -= _size(oldest)
        return value


class Worker:
    """A pipeline and a parser that remember. For one thread at a time."""

    def __init__(self, source: str, setting: Setting, memory: Remembered | None = None) -> None:
        """The bundle's files are verified; nothing is compiled yet.

        Args:
            source: of the bundle, see `open_bundle`.
            setting: what the results are to be made with.

        Raises:
            BundleError, OptionsError: the bundle or the device cannot be used.
            BatchError: the bundle found here, or OpenVINO, is another one than the setting's.
        """
        bundle = open_bundle(source)
        for part in bundle.manifest.parts:
            bundle.part(part)
        found = setting_of(bundle, setting.device, setting.threads)
        if found != setting:
            raise BatchError(
                f"A worker has another model or another OpenVINO than this run (OpenVINO {found.openvino} and model "
                f"{found.bundle[:12]}, not {setting.openvino} and {setting.bundle[:12]}): its pictures would differ."
            )
        runtime = Runtime(RuntimeOptions(device=setting.device, threads=setting.threads))
        self.pipeline = TryOnPipeline(bundle, runtime)
        self.parser = open_parser(bundle, runtime)
        self.memory = memory or Remembered()

    def __call__(self, order: Order) -> Made | str:
        """The result, or a sentence saying why this order cannot be made."""
        try:
            person = read_photo(_file(order.person, "photo of the person"), "photo of the person")
            mask = self._mask(person, order) if order.mask is None else read_mask(_file(order.mask, "mask"))
            garment = read_photo(_file(order.garment, "photo of the garment"), "photo of the garment")
            *_, result = self.pipeline.steps(person, garment, mask, order.options, encode=self._encode)
            assert isinstance(result, TryOnResult)
            return Made(to_png(marked(result.picture)), dict(result.seconds))
        except TryOnError as error:
            return str(error)
        except MemoryError:
            return "There is too little memory for it."

    def _encode(self, picture: Array) -> Array:
        key = ("latent", str(picture.shape), _digest(np.ascontiguousarray(picture).data))
        return self.memory.array(key, lambda: self.pipeline.encode(picture))

    def _mask(self, person: Image.Image, order: Order) -> Image.Image:
        """The auto-mask; label maps and masks are remembered as PNG, which is small for them."""
        photo = _digest(order.person)

        def labels() -> bytes:
            if self.parser is None:
                raise MaskError("The model brings no parser to find the clothes: a mask is needed.")
            maps = self.parser(person)
            layers = np.dstack([maps.densepose, maps.lip, maps.atr])
            return to_png(Image.fromarray(layers))

        def mask() -> bytes:
            layers = np.asarray(_decode(self.memory.data(("labels", photo), labels)))
            densepose, lip, atr = (np.ascontiguousarray(layers[..., index]) for index in range(3))
            return to_png(auto_mask(LabelMaps(densepose, lip, atr), order.category, order.adjustment))

        return _decode(self.memory.data(("mask", photo, order.category, str(order.adjustment)), mask))


def setting_of(bundle: Bundle, device: str, threads: int) -> Setting:
    """What results that are made with this bundle here depend on."""
    return Setting(sha256(bundle.folder / MANIFEST), device, threads, importlib.metadata.version("openvino"))


def _decode(png: bytes) -> Image.Image:
    """A PNG of our own."""
    return Image.open(io.BytesIO(png), formats=("PNG",))


def _file(data: bytes, what: str) -> io.BytesIO:
    if not data:
        raise ImageError(f"The {what} is an empty file.")
    return io.BytesIO(data)


def _digest(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def _size(value: Array | bytes) -> int:
    return value.nbytes if isinstance(value, np.ndarray) else len(value)
