"""Where bundles come from: a folder, the one shipped with this repository, or a Hub repository."""

from __future__ import annotations

import re
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from catvton_ov.bundle import MANIFEST, Bundle, read_manifest
from catvton_ov.errors import BundleError, BundleNotFoundError

BUNDLED = "paper_doll"
_HUB_ID = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?")


def open_bundle(source: str | Path) -> Bundle:
    """Open the bundle at `source`.

    Args:
        source: tried in this order: an existing folder, the name of the bundled model ("paper_doll"),
            a Hub repository "owner/name" or "owner/name@revision".

    Raises:
        BundleNotFoundError: nothing there; the message lists what would be accepted.
        BundleError: the Hub refused or could not be reached; or the bundle is damaged.
    """
    try:
        folder = Path(source).expanduser()
        is_folder = folder.is_dir()
    except (OSError, RuntimeError):  # too long for a path, or in the home of nobody known here
        is_folder = False
    if is_folder:
        return Bundle.open(folder)
    if str(source) == BUNDLED:
        return Bundle.open(bundled_folder())
    match = _HUB_ID.fullmatch(str(source))
    if match is None:
        raise BundleNotFoundError(
            f"There is no model at {str(source)!r}: expected an existing folder, {BUNDLED!r}, "
            "or a Hub repository as owner/name or owner/name@revision."
        )
    return _from_hub(match["repo"], match["revision"])


def bundled_folder() -> Path:
    return Path(__file__).resolve().parent.parent / "assets" / BUNDLED


def _from_hub(repo: str, revision: str | None) -> Bundle:
    """Fetch what the manifest lists, from the Hub's cache when it is whole there, and verify every file."""
    wanted = f"{repo}@{revision}" if revision else repo
    try:
        manifest = Path(hf_hub_download(repo, MANIFEST, revision=revision))
        commit = manifest.parent.name  # .../snapshots/<commit>/manifest.json
        files = read_manifest(manifest.parent).files
        folder = Path(snapshot_download(repo, revision=commit, allow_patterns=[MANIFEST, *files]))
    except GatedRepoError:
        raise BundleError(
            f"{repo} asks you to accept its terms: open its page on the Hub, accept, and set HF_TOKEN to your token."
        ) from None
    except RevisionNotFoundError:
        raise BundleNotFoundError(f"{repo} has no revision {revision!r}.") from None
    except RepositoryNotFoundError:
        raise BundleNotFoundError(
            f"There is no folder and no Hub repository {wanted!r}; "
            "if it is private, set HF_TOKEN to a token that may read it."
        ) from None
    except LocalEntryNotFoundError:
        raise BundleError(
            f"{wanted} is not in the local cache and the Hub cannot be reached: go online once, or name a local folder."
        ) from None
    except EntryNotFoundError:
        raise BundleNotFoundError(f"{wanted} is not a model bundle: it has no {MANIFEST}.") from None
    except HFValidationError:
        raise BundleNotFoundError(f"{wanted!r} is not a valid Hub repository name.") from None
    except (HfHubHTTPError, OSError) as error:
        raise BundleError(
            f"Fetching {wanted} from the Hub failed ({type(error).__name__}): try again later."
        ) from error
    bundle = Bundle.open(folder)
    for name in bundle.manifest.files:
        bundle.verify(name)
    return bundle
