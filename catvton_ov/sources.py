"""Where bundles come from: a folder, the one shipped with this repository, or a Hub repository."""

from __future__ import annotations

from pathlib import Path

from catvton_ov.bundle import MANIFEST, Bundle, read_manifest
from catvton_ov.errors import BundleError, BundleNotFoundError
from catvton_ov.hub import HubId, existing_folder, snapshot

BUNDLED = "paper_doll"


def open_bundle(source: str | Path) -> Bundle:
    """Open the bundle at `source`.

    Args:
        source: tried in this order: an existing folder, the name of the bundled model ("paper_doll"),
            a Hub repository "owner/name" or "owner/name@revision".

    Raises:
        BundleNotFoundError: nothing there; the message lists what would be accepted.
        BundleError: the Hub refused or could not be reached; or the bundle is damaged.
    """
    folder = existing_folder(source)
    if folder is not None:
        return Bundle.open(folder)
    if str(source) == BUNDLED:
        return Bundle.open(bundled_folder())
    hub_id = HubId.parse(str(source))
    if hub_id is None:
        raise BundleNotFoundError(
            f"There is no model at {str(source)!r}: expected an existing folder, {BUNDLED!r}, "
            "or a Hub repository as owner/name or owner/name@revision."
        )
    return _from_hub(hub_id)


def bundled_folder() -> Path:
    return Path(__file__).resolve().parent.parent / "assets" / BUNDLED


def _from_hub(hub_id: HubId) -> Bundle:
    """Fetch what the manifest lists, from the Hub's cache when it is whole there, and verify every file."""
    folder = snapshot(hub_id, [MANIFEST], absent=BundleNotFoundError, failed=BundleError)
    if not (folder / MANIFEST).is_file():
        raise BundleNotFoundError(f"{hub_id} is not a model bundle: it has no {MANIFEST}.")
    pinned = HubId(hub_id.repo, folder.name)
    files = read_manifest(folder).files
    bundle = Bundle.open(snapshot(pinned, [MANIFEST, *files], absent=BundleNotFoundError, failed=BundleError))
    for name in files:
        bundle.verify(name)
    return bundle
