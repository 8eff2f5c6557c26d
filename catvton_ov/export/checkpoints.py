"""Tensors out of checkpoint files: read without running anything, compared by name and shape."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from catvton_ov.errors import ExportError

Tensors = dict[str, Tensor]
Shape = tuple[int, ...]


def read_tensors(path: Path) -> Tensors:
    """Every tensor of a checkpoint, by name, mapped from the file where its format allows it.

    `.safetensors` cannot hold code. `.bin` and `.pth`, torch pickles, are read with `weights_only=True`: an
    unpickler that builds tensors and plain containers and refuses everything else. The tensors of a `.pth` are
    those under "state_dict", beside which the state of a training run may lie.

    Raises:
        ExportError: another kind of file, a damaged one, or one that holds something else than named tensors.
    """
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ExportError(f"{path} cannot be read as safetensors: {_first_line(error)}.") from error
    if path.suffix in (".bin", ".pth"):
        return _read_pickle(path)
    raise ExportError(f"{path} is neither .safetensors nor .bin nor .pth; no other kind of checkpoint is read.")


def _read_pickle(path: Path) -> Tensors:
    try:
        # Zip files, the format of torch.save since 1.6, can be mapped; older ones must be read.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except Exception as error:  # a damaged or hostile pickle can raise anything
        raise ExportError(
            f"{path} was refused: it is damaged or holds something else than tensors ({_first_line(error)})."
        ) from error
    if path.suffix == ".pth":
        if not isinstance(loaded, dict) or "state_dict" not in loaded:
            raise ExportError(f'{path} must hold a dict with the tensors under "state_dict"; it does not.')
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict):
        raise ExportError(f"{path} must hold a dict of tensors; it holds a {type(loaded).__name__}.")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ExportError(
                f"{path} must hold nothing but named tensors; {str(name)[:80]!r} is a {type(value).__name__}."
            )
    return loaded


def shapes_of(module: nn.Module) -> dict[str, Shape]:
    """The name and shape of each tensor in a module's state."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Shape], place: str | Path) -> None:
    """Raise ExportError naming what is missing, extra, misshapen or not of a floating-point type."""
    missing = sorted(expected.keys() - tensors.keys())
    extra = sorted(tensors.keys() - expected.keys())
    misshapen = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in sorted(expected.items())
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    wrong_type = [
        f"{name} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in sorted(tensors.items())
        if name in expected and not (tensor.is_floating_point() and tensor.layout == torch.strided)
    ]
    faults = {"missing": missing, "unexpected": extra, "misshapen": misshapen, "not floating-point": wrong_type}
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {shorten(names)}" for fault, names in faults.items() if names)
        raise ExportError(f"{place} does not hold the tensors of this architecture. {listed[0].upper()}{listed[1:]}.")


def load_exactly(module: nn.Module, tensors: Mapping[str, Tensor], place: str | Path) -> None:
    """Give a module, built on torch's "meta" device, its weights: all of them, as float32, none made up.

    Raises:
        ExportError: tensors and module differ, or the module keeps something that no checkpoint gives.
    """
    check_tensors(tensors, shapes_of(module), place)
    module.load_state_dict({name: tensor.float().contiguous() for name, tensor in tensors.items()}, assign=True)
    module.requires_grad_(False).eval()
    left = [name for name, tensor in (*module.named_parameters(), *module.named_buffers()) if tensor.is_meta]
    if left:
        raise ExportError(f"{place} cannot fill this architecture; without a value: {shorten(left)}.")


def shorten(names: Iterable[str], most: int = 4) -> str:
    """A list for people: the first few, and how many more there are."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def _first_line(error: Exception) -> str:
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text[:200].rstrip(".")
