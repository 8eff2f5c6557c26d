"""Everything this package raises on purpose.

    TryOnError
    ├── InputError            something the caller passed
    │   ├── ImageError        a picture that cannot be read, or is too large
    │   ├── MaskError         a mask that is missing, empty, of another size; label maps that disagree
    │   ├── OptionsError      an option outside its range, an unknown sampler, category or device
    │   └── RefusedError      a request to the page beyond its bounds
    ├── BundleError           a model bundle that is missing, damaged, or from a newer format
    │   ├── BundleNotFoundError
    │   └── BundleDamagedError
    ├── DeviceError           OpenVINO could not compile or run a part here
    ├── BatchError            a table of pairs, a data set, a folder of results or a worker that cannot be used
    └── ExportError           published checkpoints that are not what they should be

Messages are one sentence or two, say what was expected and what came, and are fit to be shown to the
person in front of the app.
"""

from __future__ import annotations


class TryOnError(Exception):
    """The root: catch this to catch everything the package raises on purpose."""


class InputError(TryOnError):
    """Something the caller passed cannot be used."""


class ImageError(InputError):
    """A picture cannot be read, or is too large or too small."""


class MaskError(InputError):
    """A mask is missing, empty or does not fit; or label maps disagree."""


class OptionsError(InputError):
    """An option lies outside its range or names something unknown."""


class RefusedError(InputError):
    """A request to the page goes beyond its bounds."""

    def __init__(self, status: int, reason: str) -> None:
        """`status` is the HTTP status that says so."""
        super().__init__(reason)
        self.status = status


class BundleError(TryOnError):
    """A model bundle cannot be used."""


class BundleNotFoundError(BundleError):
    """There is no bundle at the given source."""


class BundleDamagedError(BundleError):
    """A bundle's manifest or one of its files is not what it should be."""


class DeviceError(TryOnError):
    """OpenVINO could not compile or run a part on the chosen device."""


class BatchError(TryOnError):
    """A table of pairs, a data set, a folder of results, or the workers of a batch run cannot be used."""


class ExportError(TryOnError):
    """Published checkpoints, or the place to write to, are not what export needs."""
