"""A pickle of numpy arrays, read without running anything it says.

A pickle is a program: it names callables, has them called, and hands their results a state. This one gets nothing of
numpy's own, whose dtypes take a forged state for a good one and then read memory that is not theirs. What numpy
names in its pickles is played by the few functions here, which know plain numbers only.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from catvton_ov.errors import ExportError
from catvton_ov.export.checkpoints import Tensors

_NUMBERS = ("f2", "f4", "f8", "i4", "i8", "u1")  # numpy's codes of the types an array may have


def read_arrays(path: Path) -> Tensors:
    """The arrays of a detectron2 checkpoint, `{"model": {name: array}, ...}`, as tensors by name.

    Raises:
        ExportError: the file is damaged, names a callable that no array needs, or holds something else.
    """
    try:
        with path.open("rb") as file:
            # Text that Python 2 wrote is bytes; "latin1" is how detectron2 reads it, and keeps every byte.
            loaded = _Unpickler(file, encoding="latin1").load()
    except Exception as error:  # a damaged or hostile pickle can raise anything
        said = str(error).strip().rstrip(".") or type(error).__name__
        raise ExportError(f"{path} was refused: it is damaged or holds something else than arrays ({said}).") from error
    model = loaded.get("model") if isinstance(loaded, dict) else None
    if not isinstance(model, dict):
        raise ExportError(f'{path} must hold a dict with the arrays under "model"; it does not.')
    tensors: Tensors = {}
    for name, value in model.items():
        if not isinstance(name, str) or not isinstance(value, _Array) or value.array is None:
            raise ExportError(
                f"{path} must hold nothing but named arrays; {str(name)[:80]!r} is a {type(value).__name__}."
            )
        tensors[name] = torch.from_numpy(np.array(value.array, dtype=value.array.dtype.newbyteorder("=")))
    return tensors


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[module.replace("numpy._core.", "numpy.core."), name]  # since and before numpy 2
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which no array needs") from None


class _DType:
    """`numpy.dtype`, of plain numbers."""

    def __init__(self, code: str, align: bool = False, copy: bool = False) -> None:
        if code not in _NUMBERS:
            raise pickle.UnpicklingError(f"it has an array of {str(code)[:20]!r}")
        self.dtype = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])  # the rest of the state says nothing about plain numbers


class _Array:
    """What numpy makes an array of: empty, then given its state."""

    def __init__(self, *_: Any) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, is_fortran, data = state
        content = _latin1(data) if isinstance(data, str) else data
        self.array = _from_buffer(content, dtype, shape, "F" if is_fortran else "C").array


def _from_buffer(data: bytes, dtype: _DType, shape: tuple[int, ...], order: Any) -> _Array:
    """What protocol 5 makes an array with."""
    made = _Array()
    made.array = np.frombuffer(data, dtype.dtype).reshape(shape, order=order)
    return made


def _scalar(dtype: _DType, data: bytes) -> Any:
    return np.frombuffer(data, dtype.dtype)[0]


def _latin1(text: str, encoding: str = "latin1") -> bytes:
    """What protocols up to 2 make bytes with, named `_codecs.encode`."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {str(encoding)[:20]!r}")
    return text.encode("latin1")


class _Call:
    """A callable that a pickle can call and not alter."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        raise pickle.UnpicklingError("it alters what it was given to build arrays with")


_ALLOWED: Mapping[tuple[str, str], object] = {
    ("collections", "OrderedDict"): _Call(OrderedDict),
    ("_codecs", "encode"): _Call(_latin1),
    ("numpy", "dtype"): _Call(_DType),
    ("numpy", "ndarray"): "ndarray",  # named as an argument, never called
    ("numpy.core.multiarray", "_reconstruct"): _Call(_Array),
    ("numpy.core.multiarray", "scalar"): _Call(_scalar),
    ("numpy.core.numeric", "_frombuffer"): _Call(_from_buffer),
}
