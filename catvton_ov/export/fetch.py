"""From what the user named, a folder or a Hub id, to a folder that holds the files needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from catvton_ov.errors import ExportError

LOCAL = "local"  # the revision of a folder
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


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
    folder = Path(source).expanduser()
    if folder.is_dir():
        return Fetched(folder, folder.resolve().name, LOCAL, _find_all(folder, wanted, f"The {role} folder {source}"))
    match = _HUB_ID.fullmatch(source)
    if match is None:
        raise ExportError(
            f"There is no {role} at {source!r}: expected an existing folder, "
            "or a Hub repository as owner/name or owner/name@revision."
        )
    repo = match["repo"]
    folder = _download(repo, match["revision"], [paths[0] for paths in wanted], role)
    for rank in range(1, max(len(paths) for paths in wanted)):
        others = [paths[rank] for paths in wanted if len(paths) > rank and _find(folder, paths) is None]
        if others:
            _download(repo, folder.name, others, role)
    return Fetched(folder, repo, folder.name, _find_all(folder, wanted, f"The {role} repository {source}"))


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


def _download(repo: str, revision: str | None, patterns: list[str], role: str) -> Path:
    """The Hub cache's folder of the snapshot; its name is the commit."""
    wanted = f"{repo}@{revision}" if revision else repo
    try:
        return Path(snapshot_download(repo, revision=revision, allow_patterns=patterns))
    except GatedRepoError:
        raise ExportError(
            f"{repo} asks you to accept its terms: open its page on the Hub, accept, and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise ExportError(f"{repo} has no revision {revision!r}.") from None
    except RepositoryNotFoundError:
        raise ExportError(
            f"There is no folder and no Hub repository {wanted!r} for the {role}; "
            "if it is private, set HF_TOKEN to a token that may read it."
        ) from None
    except LocalEntryNotFoundError:
        raise ExportError(
            f"{wanted} is not in the local cache and the Hub cannot be reached: go online once, or name a local folder."
        ) from None
    except HFValidationError:
        raise ExportError(f"{wanted!r} is not a valid Hub repository name.") from None
    except (HfHubHTTPError, OSError) as error:
        raise ExportError(
            f"Fetching {wanted} from the Hub failed ({type(error).__name__}): try again later."
        ) from error
