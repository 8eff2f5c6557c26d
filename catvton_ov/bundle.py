"""A model bundle: a folder with a `manifest.json` and the files it lists.

    manifest.json
    unet/openvino_model.{xml,bin}          (B, 2C+1, 2h, w) and timestep -> noise (B, C, 2h, w)
    vae_encoder/openvino_model.{xml,bin}   picture (B, 3, H, W) in [-1, 1] -> scaled latent (B, C, h, w)
    vae_decoder/openvino_model.{xml,bin}   scaled latent -> picture
    examples/{person,garment,mask}/        optional pictures for the page
    report.json, report.md                 optional, what was measured; the manifest does not list them

Optional parts: safety_checker (see safety.py), and what finds the clothes on a photo (see masking/parsers.py):
schp_lip, schp_atr, densepose_backbone, densepose_box_head and densepose_head, or parser.

h = H / downsample, w = W / downsample. The parts apply the latent scaling themselves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pydantic import TypeAdapter, ValidationError

from catvton_ov.errors import BundleDamagedError, BundleError, BundleNotFoundError, OptionsError
from catvton_ov.memory import Memory
from catvton_ov.samplers import NoiseSchedule

FORMAT_VERSION = 1
MOST_SIDE = 2048  # pixels a model works at
MANIFEST = "manifest.json"
EXAMPLES = "examples/"  # where a bundle's example pictures lie
PARTS = ("unet", "vae_encoder", "vae_decoder")
REMEMBERED_FROM = 2**24  # bytes; smaller files are hashed in no time


@dataclass(frozen=True)
class Latent:
    """The space the UNet works in."""

    channels: int  # C: 4 for Stable Diffusion's VAE
    downsample: int  # picture pixels per latent pixel: 8 for Stable Diffusion's VAE
    scaling: float  # what the encoder multiplied by; already inside the parts, recorded for readers


@dataclass(frozen=True)
class FileRecord:
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Source:
    """Where weights came from."""

    role: str  # "base", "vae", "catvton", "recipe"
    repo: str
    revision: str
    licence: str


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says."""

    format_version: int
    name: str
    family: str  # "catvton-sd15" or "paper-doll"
    notice: str  # one sentence for people: what this model is (not) for
    precision: str  # of the stored weights: "fp32", "fp16", "int8"
    sizes: tuple[tuple[int, int], ...]  # (width, height) the model was trained for; the first is the default
    size_multiple: int  # any other width and height must be multiples of this
    latent: Latent
    schedule: NoiseSchedule
    mask_blur: int  # pixels at model size: how softly the result is pasted back
    parts: Mapping[str, str]  # part -> path of its .xml
    files: Mapping[str, FileRecord]  # every file but the manifest, by POSIX path within the bundle
    sources: tuple[Source, ...]
    licence: str  # of the bundle as a whole
    quantization: Mapping[str, object] | None = None  # how an int8 bundle came about, for readers

    def to_json(self) -> bytes:
        return TypeAdapter(Manifest).dump_json(self, indent=2) + b"\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Parse and check; raises BundleDamagedError with the field that is wrong."""
        try:
            version = TypeAdapter(dict[str, object]).validate_json(text).get("format_version")
            if isinstance(version, int) and version > FORMAT_VERSION:
                raise BundleError(
                    f"This bundle has format version {version}, this program reads up to {FORMAT_VERSION}: "
                    "update the program, or choose an older revision of the bundle."
                )
            manifest = TypeAdapter(Manifest).validate_json(text, strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"]) or "the file"
            raise BundleDamagedError(f"{MANIFEST} cannot be used: {where}: {first['msg']}.") from None
        manifest._check()
        return manifest

    def _check(self) -> None:
        for name, value, least in (
            ("format_version", self.format_version, 1),
            ("mask_blur", self.mask_blur, 0),
            ("schedule.num_train_timesteps", self.schedule.num_train_timesteps, 3),
            ("latent.channels", self.latent.channels, 1),
            ("latent.downsample", self.latent.downsample, 1),
        ):
            if value < least:
                raise BundleDamagedError(f"{MANIFEST}: {name} must be at least {least}; got {value}.")
        for name in (*self.files, *self.parts.values()):
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or "\\" in name or not name:
                raise BundleDamagedError(f"{MANIFEST} names a file outside the bundle: {name!r}.")
        for part in PARTS:
            if part not in self.parts:
                raise BundleDamagedError(f"{MANIFEST} lacks the part {part!r}.")
        for part, xml in self.parts.items():
            for name in _ir_files(xml):
                if name not in self.files:
                    raise BundleDamagedError(f"{MANIFEST} lists no {name!r}, which part {part!r} needs.")
        if not self.sizes:
            raise BundleDamagedError(f"{MANIFEST} must give at least one size.")
        if self.size_multiple < 1 or self.size_multiple % self.latent.downsample:
            raise BundleDamagedError(f"{MANIFEST}: size_multiple must be a multiple of {self.latent.downsample}.")
        for size in self.sizes:
            if not self.fits(size):
                raise BundleDamagedError(f"{MANIFEST}: {size} is not in multiples of {self.size_multiple} pixels.")

    def work_size(self, size: tuple[int, int] | None) -> tuple[int, int]:
        """The size (width, height) to work at: the one asked for, or the first; raises OptionsError if it cannot be."""
        size = size or self.sizes[0]
        if not self.fits(size) or max(size) > MOST_SIDE:
            raise OptionsError(
                f"The model's size must be multiples of {self.size_multiple} up to {MOST_SIDE} pixels; "
                f"got {size[0]}x{size[1]}."
            )
        return size

    def fits(self, size: tuple[int, int]) -> bool:
        """Whether the parts can run at `size` (width, height)."""
        return min(size) > 0 and all(side % self.size_multiple == 0 for side in size)


@dataclass
class Bundle:
    """A folder whose manifest was read and whose files are all there with the right number of bytes.

    Hashes are checked when a part is first asked for (and, for downloads, on arrival); a large file that has not
    changed since it was checked is not read again where there is a memory.
    """

    folder: Path
    manifest: Manifest
    memory: Memory | None = None  # of large files verified before: not read again while they look the same
    _verified: set[str] = field(default_factory=set, repr=False)
    _altered: dict[str, str] = field(default_factory=dict, repr=False)  # file -> how it looked when it was found so

    @classmethod
    def open(cls, folder: Path, memory: Memory | None = None) -> Bundle:
        """Read and check the manifest and the presence of every file.

        Args:
            memory: where it is kept which large files were verified; None verifies them in every process.

        Raises:
            BundleNotFoundError: no manifest there.
            BundleDamagedError: an unusable manifest, a missing file, or one with the wrong number of bytes.
        """
        bundle = cls(folder, read_manifest(folder), memory)
        bundle.check_presence()
        return bundle

    def check_presence(self) -> None:
        """Raise BundleError unless every file is there, has the right number of bytes, and was not found altered."""
        for name, record in self.manifest.files.items():
            path = self.folder / name
            try:
                found = path.stat()
                if self._altered.get(name) == _stamp(path, record.sha256):
                    raise self._alteration(name)
            except OSError as error:
                raise _unreadable(self.folder, name, error) from None
            if found.st_size != record.bytes:
                raise BundleDamagedError(
                    f"The bundle {self.folder.name} is damaged: {name} has {found.st_size} bytes "
                    f"instead of {record.bytes}. Fetch or export it again."
                )

    def part(self, name: str) -> Path:
        """The path of a part's `.xml`, its files verified against their sha256 (once per Bundle)."""
        xml = self.manifest.parts[name]
        for file in _ir_files(xml):
            self.verify(file)
        return self.folder / xml

    def verify(self, name: str) -> None:
        """Raise BundleError unless file `name` can be read and has the sha256 of the manifest (BundleDamagedError)."""
        if name in self._verified:
            return
        path, expected = self.folder / name, self.manifest.files[name].sha256
        try:
            before = _stamp(path, expected)
            memory = self.memory if path.stat().st_size >= REMEMBERED_FROM else None
            if memory is not None and memory.get(f"verified {path.absolute()}") == before:
                self._verified.add(name)
                return
            if sha256(path) != expected:
                raise self._alteration(name)
            self._verified.add(name)
            if memory is not None and _stamp(path, expected) == before:
                memory.put(f"verified {path.absolute()}", before)
        except OSError as error:
            raise _unreadable(self.folder, name, error) from None

    def read(self, name: str) -> bytes:
        """What file `name` holds, a small one; raises what `verify` raises."""
        try:
            content = (self.folder / name).read_bytes()
        except OSError as error:
            raise _unreadable(self.folder, name, error) from None
        if hashlib.sha256(content).hexdigest() != self.manifest.files[name].sha256:
            raise self._alteration(name)
        return content

    def _alteration(self, name: str) -> BundleDamagedError:
        """What is said of a file that was altered, and remembered for as long as it looks the same."""
        self._altered[name] = _stamp(self.folder / name, self.manifest.files[name].sha256)
        return BundleDamagedError(
            f"The bundle {self.folder.name} is damaged: {name} does not have the checksum of its manifest. "
            "Fetch or export it again."
        )

    def examples(self, kind: str) -> list[Path]:
        """The bundle's example pictures of a kind: "person", "garment" or "mask", by name."""
        prefix = f"{EXAMPLES}{kind}/"
        return [self.folder / name for name in sorted(self.manifest.files) if name.startswith(prefix)]


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the bundle in `folder`, checked by itself; raises what `Bundle.open` raises."""
    try:
        text = (folder / MANIFEST).read_bytes()
    except PermissionError as error:
        raise _unreadable(folder, MANIFEST, error) from None
    except OSError:
        raise BundleNotFoundError(
            f"{folder} is not a model bundle: it has no {MANIFEST}. "
            "Make one with `python -m catvton_ov export`. The page and `try-on` also take published ones: owner/name."
        ) from None
    return Manifest.from_json(text)


def record_files(folder: Path) -> dict[str, FileRecord]:
    """The `files` of a manifest: every file below `folder` but the manifest itself."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): FileRecord(sha256(path), path.stat().st_size)
        for path in paths
        if path != folder / MANIFEST
    }


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _unreadable(folder: Path, name: str, error: OSError) -> BundleError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return BundleDamagedError(f"The bundle {folder.name} is incomplete: {name} is missing.")
    return BundleError(
        f"The bundle {folder.name} cannot be read: {name} ({error.strerror}). "
        "The user that runs this program needs the right to read it."
    )


def _stamp(path: Path, expected: str) -> str:
    """What a file looks like from outside; writing to it changes that."""
    status = path.stat()
    return f"{expected} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}"


def _ir_files(xml: str) -> tuple[str, str]:
    return xml, xml.removesuffix(".xml") + ".bin"
