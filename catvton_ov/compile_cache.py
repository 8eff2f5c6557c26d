"""Compiled models that are kept between starts: each in a file that is written whole and checked before it is used.

OpenVINO's own cache writes its files in place, believes what it finds, and tells models apart by their graph and the
device's name alone: two processes at once, a damaged disk, another precision or another processor can crash it or
change the picture. So it never sees the shared folder. Every compile gets a private folder, with copies of the kept
files that are whole and were made for this very case; what OpenVINO adds there is put into the shared folder under
its final name only once it is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import filelock
import openvino as ov

from catvton_ov.files import PART_NAME, is_private_folder, seal, unseal
from catvton_ov.machine import cores, processor

SCRATCH_PREFIX = "catvton-ov-compile-"
MAX_WAIT_SECONDS = 120.0  # for another process that compiles the same; then both do
STALE_SECONDS = 24 * 3600.0  # no compile takes that long: what is older was left by a process that was killed
log = logging.getLogger(__name__)


class CompileCache:
    """A folder of compiled models; processes, threads and machines may share it. Without it only time is lost."""

    def __init__(self, folder: Path) -> None:
        """Nothing is read or made yet."""
        self._folder = folder
        self._has_warned = False

    def compile(
        self, core: ov.Core, model: ov.Model, device: str, config: Mapping[str, Any], weights: Path
    ) -> ov.CompiledModel:
        """Load the model as it was compiled before for this machine and this config; or else compile and keep it.

        Args:
            weights: the model's `.bin`: kept files hold no weights of their own.

        Raises:
            RuntimeError: the device cannot run the model, or not with a cache.
        """
        key = _key(core, model, device, config)
        with ExitStack() as stack:
            try:
                scratch = Path(
                    stack.enter_context(tempfile.TemporaryDirectory(prefix=SCRATCH_PREFIX, ignore_cleanup_errors=True))
                )
                self._folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                self._warn(error)
                return core.compile_model(model, device, dict(config))
            found = self._take(key, scratch)
            turn = stack.enter_context(ExitStack())
            if not found:
                turn.enter_context(_turn(self._folder / f"{key}.lock"))
                found = self._take(key, scratch)  # whoever had the turn before may have compiled it
                if found:
                    turn.close()
            own = {
                "CACHE_DIR": str(scratch),
                "CACHE_MODE": "OPTIMIZE_SIZE",
                "WEIGHTS_PATH": str(weights),  # without it the blob is written and never read
            }
            if device == "AUTO":
                own["ENABLE_STARTUP_FALLBACK"] = "NO"  # otherwise a GPU's blob is written after the folder is gone
            compiled = core.compile_model(model, device, {**config, **own})
            self._keep(key, scratch, found)
            return compiled

    def _take(self, key: str, scratch: Path) -> dict[str, tuple[int, int]]:
        """Copy the blobs kept under `key` to `scratch`; gives their names there with their states."""
        found = {}
        files: list[Path] = []
        with suppress(OSError):  # a folder that cannot be listed
            files.extend(self._folder.glob(f"{key}-*.blob"))
        for kept in files:
            blob = scratch / kept.name.removeprefix(f"{key}-")
            try:
                is_whole = unseal(kept, blob)
            except OSError as error:  # not readable, deleted meanwhile, or no room for the copy
                log.info("the compiled model %s cannot be read: %s", kept, error)
                blob.unlink(missing_ok=True)
                continue
            if is_whole:
                found[blob.name] = _state(blob)
                continue
            log.warning("The compiled model %s is damaged: the model is compiled anew.", kept)
            blob.unlink(missing_ok=True)
            with suppress(OSError):  # a read-only folder: it is compiled anew at every start
                kept.unlink()
        return found

    def _keep(self, key: str, scratch: Path, found: Mapping[str, tuple[int, int]]) -> None:
        """Put the blobs that were not `found` into the folder, if that can be done."""
        try:
            new = [blob for blob in scratch.glob("*.blob") if found.get(blob.name) != _state(blob)]
            if new:
                _delete_stale(self._folder)
                self._folder.mkdir(parents=True, exist_ok=True)  # it may have been deleted meanwhile
            for blob in new:
                seal(blob, self._folder / f"{key}-{blob.name}")
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        """One line for all parts: they fail for the same reason."""
        if not self._has_warned:
            log.warning(
                "The cache in %s is not usable: %s. Models are compiled at every start; make room or choose another "
                "folder to keep them.",
                self._folder,
                error,
            )
        self._has_warned = True


def _key(core: ov.Core, model: ov.Model, device: str, config: Mapping[str, Any]) -> str:
    """What a compiled model depends on, besides what OpenVINO's own name for it covers: every weight and attribute.

    The operations and their shapes are in it only so that few blobs have to be copied to find the right one.
    """
    devices = {name: str(core.get_property(name, "FULL_DEVICE_NAME")) for name in core.available_devices}
    facts = [ov.get_version(), device, devices, {name: str(value) for name, value in config.items()}]
    digest = hashlib.sha256(json.dumps([*facts, processor(), cores()], sort_keys=True).encode())
    for node in model.get_ordered_ops():
        shapes = [str(port.get_partial_shape()) for port in node.outputs()]
        digest.update(f"{node.get_type_name()}{shapes}".encode())
    return digest.hexdigest()[:32]


def _state(blob: Path) -> tuple[int, int]:
    """Changes when OpenVINO refuses a blob and writes its own instead."""
    status = blob.stat()
    return status.st_ino, status.st_mtime_ns


@contextmanager
def _turn(path: Path) -> Iterator[None]:
    """One process at a time. Where the lock cannot be had, or not in time, both compile: that costs only time."""
    lock = filelock.FileLock(path, fallback_to_soft=False)
    try:
        lock.acquire(timeout=MAX_WAIT_SECONDS)
    except (OSError, NotImplementedError) as error:
        log.info("compiling without the lock %s: %s", path, error)
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # those who wait see that it is gone, and make it anew
            path.unlink()
        lock.release()


def _delete_stale(folder: Path) -> None:
    """Delete what killed processes have left: half-written files here, private folders among the temporary ones."""
    oldest = time.time() - STALE_SECONDS
    with suppress(OSError):
        for path in folder.glob(".*.part"):
            if re.fullmatch(PART_NAME, path.name) and path.lstat().st_mtime < oldest:
                path.unlink()
    with suppress(OSError):
        for path in Path(tempfile.gettempdir()).glob(f"{SCRATCH_PREFIX}*"):
            status = path.lstat()
            if status.st_mtime < oldest and is_private_folder(status):
                shutil.rmtree(path, ignore_errors=True)
