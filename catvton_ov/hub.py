"""The Hub, as far as this package reads it: repository ids, downloads to its cache, each fault in one sentence.

Settings are those of huggingface_hub: HF_TOKEN, HF_HOME (the cache), HF_HUB_OFFLINE, HF_ENDPOINT.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple

import httpx2  # huggingface_hub speaks it, and lets its connection errors through
from huggingface_hub import HfApi, RepoFile, get_token, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    RevisionResolutionError,
)
from huggingface_hub.utils import WeakFileLock  # type: ignore[attr-defined]
from huggingface_hub.utils.tqdm import tqdm as hub_tqdm

from catvton_ov.errors import TryOnError
from catvton_ov.files import NO_ROOM

_ID = re.compile(r"(?P<repo>(?![.-])[\w.-]+/(?![.-])[\w.-]+)(?:@(?P<revision>[\w./-]+))?")
_TOKEN = re.compile(r"[\w.-]+", re.ASCII)
_BAD_TOKEN = "Invalid credentials in Authorization header"  # how the Hub puts it


class HubId(NamedTuple):
    """ "owner/name" or "owner/name@revision"; a Space's begins with "spaces/" when it is printed."""

    repo: str
    revision: str | None
    kind: Literal["model", "space"] = "model"

    def __str__(self) -> str:
        name = self.repo if self.kind == "model" else f"spaces/{self.repo}"
        return f"{name}@{self.revision}" if self.revision else name

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        match = _ID.fullmatch(text)
        return cls(match["repo"], match["revision"]) if match else None


def existing_folder(source: str | Path) -> Path | None:
    """The folder a user named, if there is one."""
    try:
        folder = Path(source).expanduser()
        return folder if folder.is_dir() else None
    except PermissionError:  # whoever opens it says so
        return folder
    except (OSError, RuntimeError):  # too long for a path, or in the home of nobody known here
        return None


@contextmanager
def explained(
    hub_id: HubId, *, absent: type[TryOnError], failed: type[TryOnError], role: str = "model"
) -> Iterator[None]:
    """Turn whatever goes wrong with the Hub or its cache in this block into one sentence that says what to do.

    Raises:
        absent: no such repository or revision. failed: access refused, no connection, no room on the disk.
    """
    try:
        with _odd_token_told(failed):
            yield
    except GatedRepoError:
        raise failed(
            f"{hub_id.repo} asks you to accept its terms: open its page on the Hub, accept, "
            "and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise absent(
            f"{hub_id.repo} has no revision {hub_id.revision!r}: "
            "choose one that its page on the Hub lists, or leave it out for the newest."
        ) from None
    except RepositoryNotFoundError:
        raise absent(
            f"There is no folder and no Hub repository '{hub_id}' for the {role}; "
            "if it is private, set HF_TOKEN to a token that may read it."
        ) from None
    except (LocalEntryNotFoundError, RevisionResolutionError):
        raise failed(
            f"{hub_id} is not in the local cache and the Hub cannot be reached: go online once, or name a local folder."
        ) from None
    except HFValidationError:
        raise absent(f"The Hub allows no name like that of '{hub_id}': check how it is spelled on its page.") from None
    except HfHubHTTPError as error:
        if token_refused(error):
            raise failed("The Hub does not know the token: set HF_TOKEN to a valid one, or to none.") from None
        raise failed(f"Fetching {hub_id} from the Hub failed ({type(error).__name__}): try again later.") from error
    except (httpx2.HTTPError, OSError, RuntimeError) as error:  # a RuntimeError is how Xet fails
        if getattr(error, "errno", None) in NO_ROOM or "(os error 28)" in str(error):
            raise no_room(hub_id, failed) from error
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            raise failed(
                f"{hub_id} could not be kept on this disk ({error.strerror}): "
                "set HF_HOME to a folder that can be written to."
            ) from error
        raise failed(
            f"The connection broke while fetching {hub_id}: start again; files that arrived whole are kept."
        ) from error


@contextmanager
def _odd_token_told(failed: type[TryOnError]) -> Iterator[None]:
    """Where something goes wrong and the token cannot be one, that is the reason: libraries say it in many ways."""
    try:
        yield
    except TryOnError:
        raise
    except Exception:
        token = None
        with suppress(OSError):
            token = get_token()
        if token is None or _TOKEN.fullmatch(token):
            raise
        raise failed(
            "HF_TOKEN, or the token of `hf auth login`, is no token: one has letters, digits and underscores only. "
            "Copy it again from the Hub's settings."
        ) from None


def no_room(hub_id: HubId, failed: type[TryOnError]) -> TryOnError:
    return failed(
        f"There is not enough room on the disk for {hub_id}: make some, or set HF_HOME to a folder on a larger disk."
    )


def token_refused(error: HfHubHTTPError) -> bool:
    """Whether the Hub does not know the token it was given."""
    return error.response.headers.get("X-Error-Message") == _BAD_TOKEN


def snapshot(
    hub_id: HubId, patterns: Sequence[str], *, absent: type[TryOnError], failed: type[TryOnError], role: str = "model"
) -> Path:
    """Download the files that match `patterns`, those that are not in the Hub's cache yet.

    Returns:
        The cache's folder of the snapshot; its name is the commit. Patterns without a file are passed over.

    Raises:
        absent, failed: see `explained`.
    """
    with explained(hub_id, absent=absent, failed=failed, role=role):
        return Path(snapshot_download(hub_id.repo, revision=hub_id.revision, allow_patterns=list(patterns)))


def resolve(hub_id: HubId) -> HubId:
    """The id with its revision as a commit: asked of the Hub, or remembered from last time where it is out of reach.

    No request is made for a full commit. Raises what `explained` explains.
    """
    found = HfApi().resolve_revision(hub_id.repo, revision=hub_id.revision, repo_type=hub_id.kind)
    return hub_id._replace(revision=found.resolved)


def list_files(pinned: HubId, folder: str) -> dict[str, int]:
    """What lies below a folder of a commit: path within the repository -> bytes; nothing if there is no such folder.

    Raises what `explained` explains.
    """
    try:
        entries = HfApi().list_repo_tree(
            pinned.repo, folder, recursive=True, revision=pinned.revision, repo_type=pinned.kind
        )
        return {entry.path: entry.size for entry in entries if isinstance(entry, RepoFile)}
    except RemoteEntryNotFoundError:
        return {}


def download(pinned: HubId, name: str, on_bytes: Callable[[int], None] = lambda count: None) -> Path:
    """One file of a commit, from the cache or else from the Hub; whole, or not there at all.

    Args:
        on_bytes: called with the bytes that arrived since the last call, from whatever thread receives them; with
            fewer than none when a server makes a download start over. It must not raise.

    Returns:
        The path in the cache: `<repository>/snapshots/<commit>/<name>`. Raises what `explained` explains.
    """

    class Counter(hub_tqdm):
        """Takes the place of the bar that huggingface_hub would draw for the file."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]

        def update(self, n: float | None = 1) -> None:
            on_bytes(int(n or 0))

        def update_transfer(self, n: float | None = 1) -> None:
            """Bytes that Xet sent for the file, in its own coding: only those of the file itself are counted."""

        def set_transfer_postfix_str(self, s: str = "", refresh: bool = True) -> None:
            """The rate of the same."""

    return Path(hf_hub_download(pinned.repo, name, revision=pinned.revision, repo_type=pinned.kind, tqdm_class=Counter))


def remove_stale_partials(snapshot_folder: Path) -> None:
    """Delete what killed downloads left behind in the cache of the repository with this snapshot.

    huggingface_hub never continues such a file. One that is being written is let alone: its lock is held.
    """
    repository = snapshot_folder.parent.parent
    locks = repository.parent / ".locks" / repository.name
    for partial in (repository / "blobs").glob("*.incomplete"):
        try:
            with WeakFileLock(locks / f"{partial.name.partition('.')[0]}.lock", timeout=0.1):
                partial.unlink(missing_ok=True)
        except TimeoutError:
            continue


def discard(cached: Path) -> None:
    """Delete a file from the cache, with everything it links to."""
    while cached.is_symlink():
        target = cached.parent / cached.readlink()
        cached.unlink()
        cached = target
    cached.unlink(missing_ok=True)
