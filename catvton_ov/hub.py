"""The Hub, as far as this package reads it: repository ids, and snapshots with every fault in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from catvton_ov.errors import TryOnError

_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


class HubId(NamedTuple):
    """ "owner/name" or "owner/name@revision"."""

    repo: str
    revision: str | None

    def __str__(self) -> str:
        return f"{self.repo}@{self.revision}" if self.revision else self.repo

    @classmethod
    def parse(cls, text: str) -> HubId | None:
        match = _ID.fullmatch(text)
        return cls(match["repo"], match["revision"]) if match else None


def existing_folder(source: str | Path) -> Path | None:
    """The folder a user named, if there is one."""
    try:
        folder = Path(source).expanduser()
        return folder if folder.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, or in the home of nobody known here
        return None


def snapshot(
    hub_id: HubId, patterns: Sequence[str], *, absent: type[TryOnError], failed: type[TryOnError], role: str = "model"
) -> Path:
    """Download the files that match `patterns`, those that are not in the Hub's cache yet.

    Returns:
        The cache's folder of the snapshot; its name is the commit. Patterns without a file are passed over.

    Raises:
        absent: no such repository or revision. failed: access refused, or the Hub cannot be reached.
    """
    try:
        return Path(snapshot_download(hub_id.repo, revision=hub_id.revision, allow_patterns=list(patterns)))
    except GatedRepoError:
        raise failed(
            f"{hub_id.repo} asks you to accept its terms: open its page on the Hub, accept, "
            "and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise absent(f"{hub_id.repo} has no revision {hub_id.revision!r}.") from None
    except RepositoryNotFoundError:
        raise absent(
            f"There is no folder and no Hub repository '{hub_id}' for the {role}; "
            "if it is private, set HF_TOKEN to a token that may read it."
        ) from None
    except LocalEntryNotFoundError:
        raise failed(
            f"{hub_id} is not in the local cache and the Hub cannot be reached: go online once, or name a local folder."
        ) from None
    except HFValidationError:
        raise absent(f"'{hub_id}' is not a valid Hub repository name.") from None
    except (HfHubHTTPError, OSError) as error:
        raise failed(f"Fetching {hub_id} from the Hub failed ({type(error).__name__}): try again later.") from error
