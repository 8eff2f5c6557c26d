"""The example pictures of CatVTON's authors, with masks of our own, as a folder to calibrate on.

They lie in the Space of the weights' name, where the authors' app finds them:

    resource/demo/example/person/**                people
    resource/demo/example/condition/CATEGORY/**    garments; other folders of condition/ hold something else
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from PIL import Image

from catvton_ov.bundle import Bundle
from catvton_ov.errors import ExportError, ImageError, MaskError
from catvton_ov.export.calibration import KINDS, PICTURES, calibration_pictures, pictures_in
from catvton_ov.export.options import CalibrationOptions
from catvton_ov.hub import HubId, download, existing_folder, explained, list_files, resolve
from catvton_ov.masking import CATEGORIES as MASKED
from catvton_ov.masking.automask import auto_mask
from catvton_ov.masking.parsers import Parser, open_parser
from catvton_ov.pictures.reading import as_mask, read_photo
from catvton_ov.runtime import Runtime, RuntimeOptions

EXAMPLES = "resource/demo/example"
CATEGORIES = ("upper", "lower", "overall")
PERSONS = 8  # as many as fetched at most; each gives a pair for every category with garments
GARMENTS = 4  # of a category
LARGEST = 5_000_000  # bytes of a picture; larger ones are passed over

ROLE = "calibration pictures"


def with_pictures(
    plan: CalibrationOptions, catvton: str, bundle: Path, folder: Path, say: Callable[[str], None]
) -> CalibrationOptions:
    """The plan with its pictures: those it names, else the authors', put into `folder`, else the drawn figures.

    Pictures that it names without masks get those of the bundle's parser, in `folder`.

    The authors' are fetched only where CatVTON's weights came from the Hub, and only for a bundle with a parser.
    Whatever keeps them from being used is said in one line, and the drawn figures take their place.

    Args:
        catvton: where the weights came from: a folder or a Hub id.
        bundle: has the parser that makes the masks.
        folder: need not exist yet, and may be left half filled.
        say: called with a line for people before each step.

    Raises:
        BundleError, DeviceError: the parser cannot be loaded or run. OSError: `folder` cannot be written to.
        ExportError: pictures are named without masks, and there is no parser, or it finds nobody.
    """
    if plan.folder is not None:
        if pictures_in(plan.folder / "mask"):
            return plan
        if (parser := _parser(bundle)) is None:
            raise ExportError(f"{plan.folder} has no mask/: add masks, or have the parsers among the --parts.")
        persons = {path.stem: path for path in pictures_in(plan.folder / "person")}
        lay_out(persons, garments_in(plan.folder), parser, folder, say)
        return replace(plan, folder=folder, origin="a folder that was named, masked by the bundle's parser")
    because = ""
    if existing_folder(catvton) is None and (hub_id := HubId.parse(catvton)) is not None:
        parser = _parser(bundle)
        try:
            if parser is None:
                raise ExportError("The authors' pictures need masks, and so the parsers among the --parts.")
            return replace(plan, folder=folder, origin=authors_pictures(hub_id.repo, parser, folder, say))
        except ExportError as error:
            because = str(error)
    pictures = calibration_pictures(bundle, plan, say, because)
    return replace(plan, folder=pictures.folder, origin=pictures.origin)


def authors_pictures(repo: str, parser: Parser, folder: Path, say: Callable[[str], None]) -> str:
    """Fetch a choice of the example pictures and lay them out in `folder`, see `lay_out`.

    Args:
        repo: "owner/name" of the Space.
        say: called with a line for people before each step.

    Returns:
        Where they came from: "spaces/owner/name@commit".

    Raises:
        ExportError: they cannot be had, or cannot be used.
        OSError: `folder` cannot be written to.
    """
    space = HubId(repo, None, "space")
    say(f"Fetching example pictures from {space}")
    with explained(space, absent=ExportError, failed=ExportError, role=ROLE):
        pinned = resolve(space)
        listed = list_files(pinned, EXAMPLES)
        persons = choose(listed, "person", PERSONS)
        garments = {category: choose(listed, f"condition/{category}", GARMENTS) for category in CATEGORIES}
        if not persons or not any(garments.values()):
            raise ExportError(f"{pinned} has no pictures of persons and garments in {EXAMPLES}.")

        def fetched(chosen: Mapping[str, str]) -> dict[str, Path]:
            return {name: download(pinned, path) for name, path in chosen.items()}

        person_files, garment_files = fetched(persons), {name: fetched(chosen) for name, chosen in garments.items()}
    lay_out(person_files, garment_files, parser, folder, say)
    return str(pinned)


def garments_in(folder: Path) -> dict[str, dict[str, Path]]:
    """Category -> name -> file, of garment/CATEGORY-NAME.*."""
    found: dict[str, dict[str, Path]] = {}
    for path in pictures_in(folder / "garment"):
        category, _, name = path.stem.partition("-")
        if category in MASKED:
            found.setdefault(category, {})[name] = path
    return found


def choose(listed: Mapping[str, int], kind: str, most: int) -> dict[str, str]:
    """Up to `most` pictures of a kind, from all over their list, none too large.

    Args:
        listed: path -> bytes, see `list_files`.
        kind: a folder of the examples.

    Returns:
        Name -> path; person/men/Ada.jpg is "men_Ada".
    """
    found = {}
    for path, size in sorted(listed.items()):
        place = PurePosixPath(path)
        if place.is_relative_to(f"{EXAMPLES}/{kind}") and place.suffix.lower() in PICTURES and size <= LARGEST:
            found["_".join(place.relative_to(f"{EXAMPLES}/{kind}").with_suffix("").parts)] = path
    names = list(found)
    count = min(most, len(names))
    chosen = (names[number * len(names) // count] for number in range(count))
    return {name: found[name] for name in chosen}


def lay_out(
    persons: Mapping[str, Path],
    garments: Mapping[str, Mapping[str, Path]],
    parser: Parser,
    folder: Path,
    say: Callable[[str], None],
) -> None:
    """Write pictures and masks for them into `folder`: person/, garment/ and mask/, as `find_pairs` reads them.

    Pictures that cannot be read are left out, and so is everybody whom the parser does not find.

    Args:
        persons: name -> file.
        garments: category -> name -> file.
        folder: is made.

    Raises:
        ExportError: no person is left that a garment is there for.
        BundleDamagedError, DeviceError: the parser cannot be loaded or run.
    """
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    worn = []
    for category, files in garments.items():
        usable = {name: file for name, file in files.items() if _photo(file) is not None}
        worn += [category] if usable else []
        for name, file in usable.items():
            shutil.copyfile(file, folder / "garment" / f"{category}-{name}{file.suffix}")
    for name, file in persons.items():
        say(f"Masking {name}")
        photo = _photo(file)
        masks = _masks(photo, parser, worn) if photo is not None else {}
        for category, mask in masks.items():
            mask.save(folder / "mask" / f"{name}-{category}.png")
        if masks:
            shutil.copyfile(file, folder / "person" / f"{name}{file.suffix}")
    if not any((folder / "mask").iterdir()):
        raise ExportError(f"The parsers found nobody on {len(persons)} pictures whom a garment is there for.")


def _masks(photo: Image.Image, parser: Parser, categories: Sequence[str]) -> dict[str, Image.Image]:
    """Category -> mask; those that would repaint nothing, or everything, are left out."""
    maps = parser(photo)
    masks = {}
    for category in categories if maps.persons else ():
        try:
            masks[category] = as_mask(auto_mask(maps, category), photo.size)
        except MaskError:
            continue
    return masks


def _parser(bundle: Path) -> Parser | None:
    return open_parser(Bundle.open(bundle), Runtime(RuntimeOptions()), frugal=False)


def _photo(file: Path) -> Image.Image | None:
    try:
        return read_photo(file)
    except ImageError:
        return None
