"""Where bundles come from: a folder, the one shipped with this repository, or a Hub repository."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub.errors import RemoteEntryNotFoundError
from tqdm import tqdm

from catvton_ov.bundle import MANIFEST, Bundle, FileRecord, read_manifest
from catvton_ov.errors import BundleDamagedError, BundleError, BundleNotFoundError
from catvton_ov.hub import (
    HubId,
    discard,
    download,
    existing_folder,
    explained,
    no_room,
    remove_stale_partials,
    resolve,
)
from catvton_ov.memory import Memory

BUNDLED = "paper_doll"


@dataclass(frozen=True)
class Download:
    """How far the download of a bundle is."""

    done: int  # bytes that are here, those of an earlier start included
    total: int  # bytes of all its files
    seconds_left: float | None  # at the mean rate so far; None until something has arrived


Progress = Callable[[Download], None]


def open_bundle(source: str | Path, progress: Progress | None = None) -> Bundle:
    """Open the bundle at `source`.

    Args:
        source: tried in this order: an existing folder, the name of the bundled model ("paper_doll"),
            a Hub repository "owner/name" or "owner/name@revision".
        progress: called while files come from the Hub: at the start, and with every file and every 10 MB or less
            of it, from whatever thread receives them. Never called for a bundle that is here. It must not raise.

    Raises:
        BundleNotFoundError: nothing there; the message lists what would be accepted.
        BundleError: the Hub refused or could not be reached; or the bundle is damaged.
    """
    memory = Memory()
    folder = existing_folder(source)
    if folder is not None:
        return Bundle.open(folder, memory)
    if str(source) == BUNDLED:
        return Bundle.open(bundled_folder(), memory)
    hub_id = HubId.parse(str(source))
    if hub_id is None:
        raise BundleNotFoundError(
            f"There is no model at {str(source)!r}: expected an existing folder, {BUNDLED!r}, "
            "or a Hub repository as owner/name or owner/name@revision."
        )
    with explained(hub_id, absent=BundleNotFoundError, failed=BundleError):
        return _from_hub(hub_id, progress, memory)


def default_source() -> str:
    """What commands open where none is named: CATVTON_OV_MODEL, or the bundled model."""
    return os.environ.get("CATVTON_OV_MODEL") or BUNDLED


def bundled_folder() -> Path:
    return Path(__file__).resolve().parent.parent / "assets" / BUNDLED


def _from_hub(hub_id: HubId, progress: Progress | None, memory: Memory) -> Bundle:
    """Fetch the files of the manifest that the Hub's cache lacks, and verify them all.

    One file after the other: those that are whole stay in the cache whatever happens to the next one.
    """
    pinned = resolve(hub_id)
    try:
        manifest_file = download(pinned, MANIFEST)
    except RemoteEntryNotFoundError:
        raise BundleNotFoundError(
            f"{hub_id} is not a model bundle: it has no {MANIFEST}. Name a repository made with "
            "`python -m catvton_ov publish`."
        ) from None
    folder = manifest_file.parent
    try:
        manifest = read_manifest(folder)
    except BundleDamagedError:
        discard(manifest_file)
        raise
    missing = {name: record for name, record in manifest.files.items() if not (folder / name).is_file()}
    if missing:
        remove_stale_partials(folder)
        if shutil.disk_usage(folder).free < sum(record.bytes for record in missing.values()):
            raise no_room(hub_id, BundleError)
        total = sum(record.bytes for record in manifest.files.values())
        _fetch(pinned, missing, total, progress)
    bundle = Bundle(folder, manifest, memory)
    damaged = [name for name in manifest.files if not _is_whole(bundle, name)]
    for name in damaged:
        discard(folder / name)
    if damaged:
        raise BundleDamagedError(
            f"{hub_id} is damaged: {damaged[0]} does not have the checksum of its manifest. It was removed from the "
            "cache: start again to fetch it anew; if that does not help, choose another revision."
        )
    return bundle


def _fetch(pinned: HubId, missing: Mapping[str, FileRecord], total: int, progress: Progress | None) -> None:
    """Download the missing files of a bundle of `total` bytes, with a bar in the terminal, if there is one."""
    finished = total - sum(record.bytes for record in missing.values())
    partial = received = 0
    start = time.monotonic()

    def tell() -> None:
        done = min(finished + partial, total)
        bar.update(done - bar.n)
        if progress is not None:
            left = (total - done) * (time.monotonic() - start) / received if received > 0 else None
            progress(Download(done, total, left))

    def count(bytes_more: int) -> None:
        nonlocal partial, received
        partial += bytes_more
        received += bytes_more
        tell()

    with tqdm(total=total, initial=finished, unit="B", unit_scale=True, desc=pinned.repo, disable=None) as bar:
        tell()
        for name, record in missing.items():
            try:
                download(pinned, name, count)
            except RemoteEntryNotFoundError:
                raise BundleDamagedError(
                    f"The bundle {pinned.repo} is incomplete: {name} is missing. Choose another revision, "
                    "or ask its owner to publish it again."
                ) from None
            finished, partial = finished + record.bytes, 0
            tell()


def _is_whole(bundle: Bundle, name: str) -> bool:
    try:
        bundle.verify(name)
    except BundleDamagedError:
        return False
    return True
