"""From what the user named, a folder or a Hub id, to a folder that holds the files needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from catvton_ov.errors import ExportError
from catvton_ov.hub import HubId, existing_folder, snapshot

LOCAL = "local"  # the revision of a folder


@dataclass(frozen=True)
class Fetched:
    """Checkpoint files on this machine, and where they came from."""

    folder: Path
    repo: str  # the Hub id, or the name of the folder
    revision: str  # the commit, or "local"
    files: tuple[Path, ...]  # one for each file wanted, in that order


def fetch(source: str, wanted: Sequence[Sequence[str]], role: str) -> Fetched:
    """Find the wanted files at `source`, downloading them (and nothing else) from the Hub if need be.

    Args:
        source: an existing folder, else a Hub id "owner/name" or "owner/name@revision".
        wanted: for each file, the paths it may have within the source, the preferred one first.
        role: what the source is for; named in errors.

    Raises:
        ExportError: nothing there, the Hub refused or could not be reached, or a file is missing.
    """
    folder = existing_folder(source)
    if folder is not None:
        return Fetched(folder, folder.resolve().name, LOCAL, _find_all(folder, wanted, f"The {role} folder {source}"))
    hub_id = HubId.parse(source)
    if hub_id is None:
        raise ExportError(
            f"There is no {role} at {source!r}: expected an existing folder, "
            "or a Hub repository as owner/name or owner/name@revision."
        )
    folder = _download(hub_id, [paths[0] for paths in wanted], role)
    pinned = HubId(hub_id.repo, folder.name)
    for rank in range(1, max(len(paths) for paths in wanted)):
        others = [paths[rank] for paths in wanted if len(paths) > rank and _find(folder, paths) is None]
        if others:
            _download(pinned, others, role)
    return Fetched(folder, hub_id.repo, folder.name, _find_all(folder, wanted, f"The {role} repository {source}"))


def _find(folder: Path, paths: Sequence[str]) -> Path | None:
    return next((folder / path for path in paths if (folder / path).is_file()), None)


def _find_all(folder: Path, wanted: Sequence[Sequence[str]], place: str) -> tuple[Path, ...]:
    found = []
    for paths in wanted:
        path = _find(folder, paths)
        if path is None:
            raise ExportError(f"{place} has no {' or '.join(paths)}.")
        found.append(path)
    return tuple(found)


def _download(hub_id: HubId, paths: Sequence[str], role: str) -> Path:
    return snapshot(hub_id, paths, absent=ExportError, failed=ExportError, role=role)
