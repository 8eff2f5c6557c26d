"""A bundle to a model repository on the Hub, and this app to a Space that serves it; each in one commit.

Needs a token that may write: HF_TOKEN, or the one kept by `hf auth login`. It is sent to the Hub only, and not copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

from catvton_ov.bundle import MANIFEST, Bundle, Manifest
from catvton_ov.errors import ExportError
from catvton_ov.export.card import model_card, space_card
from catvton_ov.hub import HubId, token_refused

CARD = "README.md"
REPORT, REPORT_DATA = "report.md", "report.json"  # published with the bundle where its folder holds them
MODEL_VARIABLE = "CATVTON_OV_MODEL"  # where the app reads what to serve
PACKAGE = "catvton_ov/"
NOT_SERVED = ("export/", "cli.py", "__main__.py")  # in the package, but no use to a page


@dataclass(frozen=True)
class PublishOptions:
    bundle: Path  # folder
    repo: str  # the model repository, "owner/name"
    space: str | None = None  # the Space, "owner/name"
    private: bool = False  # visible to the owner only; what exists already must be

    def __post_init__(self) -> None:
        """Raises ExportError for names that are not owner/name."""
        for option, name in (("--repo", self.repo), ("--space", self.space)):
            hub_id = HubId.parse(name) if name is not None else None
            if name is not None and (hub_id is None or hub_id.revision is not None):
                raise ExportError(f"{option} must be OWNER/NAME; got {name!r}.")


@dataclass(frozen=True)
class Published:
    """A bundle on the Hub."""

    repo: str
    commit: str  # 40 hexadecimal digits
    private: bool
    manifest: Manifest

    def __str__(self) -> str:
        return f"{self.repo}@{self.commit}"


def publish_model(options: PublishOptions, progress: Callable[[str], None]) -> Published:
    """Verify the bundle and publish it with its card: everything its manifest lists, and its report if there is one.

    What the Hub has already is not sent again, so the same bundle published twice is the same commit. If this raises,
    the repository is what it was, or is there and empty.

    Raises:
        BundleError: the folder holds no whole bundle.
        ExportError: the Hub refused, or could not be reached.
    """
    if options.space is not None:
        space_files()  # missing ones are to be known of before anything is published
    progress(f"Verifying {options.bundle}")
    bundle = Bundle.open(options.bundle)
    if CARD in bundle.manifest.files:
        raise ExportError(f"The bundle lists a {CARD}, where its card goes: export it again without one.")
    for name in bundle.manifest.files:
        bundle.verify(name)
    report = options.bundle / REPORT
    card = model_card(bundle.manifest, options.repo, report.read_text(encoding="utf-8") if report.is_file() else None)
    files = {name: options.bundle / name for name in (MANIFEST, *bundle.manifest.files, REPORT, REPORT_DATA)}
    operations = [_add(name, path) for name, path in files.items() if path.is_file()]
    progress(f"Publishing {options.repo}")
    with _explained(options.repo):
        api = HfApi()
        api.create_repo(options.repo, private=options.private or None, exist_ok=True)
        private = bool(api.model_info(options.repo).private)
        _check_hidden(options, options.repo, private)
        commit = api.create_commit(
            options.repo, [*operations, _add(CARD, card)], commit_message=f"Publish {bundle.manifest.name}"
        )
    return Published(options.repo, commit.oid, private, bundle.manifest)


def publish_space(options: PublishOptions, model: Published, progress: Callable[[str], None]) -> str:
    """Publish this app to the Space `options.space`, to serve this very commit of the model; returns its address.

    Raises:
        ExportError: the Hub refused, or could not be reached. The model stays published.
    """
    assert options.space is not None
    files = space_files()
    readme = (project_folder() / CARD).read_text(encoding="utf-8")
    card = space_card(readme, model.manifest, model.repo, model.commit, preload=not model.private)
    operations = [_add(CARD, card), *(_add(name, path) for name, path in files.items())]
    progress(f"Publishing the Space {options.space}")
    with _explained(f"the Space {options.space}", "and it may be half new"):
        api = HfApi()
        address = api.create_repo(
            options.space, repo_type="space", space_sdk="gradio", private=options.private or None, exist_ok=True
        )
        _check_hidden(options, f"The Space {options.space}", bool(api.space_info(options.space).private))
        there = api.list_repo_files(options.space, repo_type="space")
        stale = [name for name in there if name.startswith(PACKAGE) and name not in files]
        api.add_space_variable(options.space, MODEL_VARIABLE, str(model))  # before the app that reads it
        api.create_commit(
            options.space,
            [*operations, *(CommitOperationDelete(name) for name in stale)],
            repo_type="space",
            commit_message=f"Serve {model}",
        )
    return str(address)


def space_files() -> dict[str, Path]:
    """Path in the Space -> file of this project: what serving needs, and no more.

    The bundled demonstration model stays out: the Space serves the published one, and holds no large files.

    Raises:
        ExportError: this package was installed without the app around it.
    """
    root = project_folder()
    package = root / PACKAGE
    names = ["app.py", "requirements.txt", "packages.txt", "LICENSE"]
    for path in sorted(package.rglob("*")):
        name = path.relative_to(package).as_posix()
        if path.is_file() and "__pycache__" not in path.parts and not name.startswith(NOT_SERVED):
            names.append(PACKAGE + name)
    for name in [*names, CARD]:
        if not (root / name).is_file():
            raise ExportError(f"A Space is made of this project's files, and {name} is missing: use a checkout of it.")
    return {name: root / name for name in names}


def project_folder() -> Path:
    return Path(__file__).resolve().parents[2]


def _add(name: str, content: str | Path) -> CommitOperationAdd:
    return CommitOperationAdd(name, content.encode() if isinstance(content, str) else str(content))


def _check_hidden(options: PublishOptions, what: str, private: bool) -> None:
    if options.private and not private:
        raise ExportError(
            f"{what} exists and is public: make it private in its settings on the Hub, choose another name, "
            "or leave out --private."
        )


@contextmanager
def _explained(target: str, left: str = "and what it held before is unchanged") -> Iterator[None]:
    """Turn whatever goes wrong on the way to the Hub into one sentence that says what to do.

    Args:
        left: how the target is left.
    """
    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(target, error, left) from error
    except OfflineModeIsEnabled:
        raise ExportError(f"{target} cannot be published offline: unset HF_HUB_OFFLINE.") from None
    except HFValidationError:
        raise ExportError(f"The Hub allows no name like that of {target}: use letters, digits, single - . _") from None
    except (httpx2.HTTPError, OSError, RuntimeError, ValueError) as error:
        # The client wraps what goes wrong with a large file in a RuntimeError; a ValueError is a faulty answer.
        cause = error.__cause__ if isinstance(error, RuntimeError) else None
        if isinstance(cause, HfHubHTTPError):
            raise _refused(target, cause, left) from error
        raise ExportError(
            f"Publishing {target} was cut off ({type(cause or error).__name__}) {left}: "
            "run the command again; what has arrived is not sent twice."
        ) from error


def _refused(target: str, error: HfHubHTTPError, left: str) -> ExportError:
    status = error.response.status_code
    if token_refused(error) or status == 401:
        return ExportError(
            f"Publishing {target} needs a token that may write there: "
            "set HF_TOKEN to one from your settings on the Hub, or run `hf auth login`."
        )
    said = error.server_message or f"status {status}"
    if status in (402, 403):
        return ExportError(f"The Hub does not let this token publish {target} ({said}): use one that may write there.")
    return ExportError(f"Publishing {target} failed ({said}) {left}: try again later.")
