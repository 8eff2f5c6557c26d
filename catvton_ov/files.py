"""Files that are written whole or not at all, and sealed ones, which show whether they still are."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PART_NAME = r"\.[0-9a-f]{16}\.part"  # of a file that is being written, as a regular expression

SEAL = b"catvton-ov sealed 1\n"  # begins every sealed file; the SHA-256 of its name and its data follows, then the data
CHUNK_BYTES = 1 << 20


def write_whole(path: Path, data: bytes) -> None:
    """Write aside, then put in place; raises OSError, and leaves nothing behind then."""
    with whole_file(path) as part:
        part.write(data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to, put in place when the block ends; whatever the block raises leaves nothing behind."""
    part = _aside(path)
    try:
        with part.open("wb") as stream:
            yield stream
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Raises OSError where `write_whole` would: before hours of work rather than after."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    with suppress(FileNotFoundError):
        path.lstat()  # its name may be too long
    part = _aside(path)
    part.touch(exist_ok=False)
    part.unlink()


def seal(source: Path, path: Path) -> None:
    """Copy a file to `path`, whole, with a digest that covers the name too: no sealed file can stand in for another.

    Raises OSError, and leaves nothing behind then.
    """
    digest = hashlib.sha256(path.name.encode())
    with source.open("rb") as stream:
        for chunk in _chunks(stream):
            digest.update(chunk)
        stream.seek(0)
        with whole_file(path) as part:
            part.write(SEAL + digest.digest())
            shutil.copyfileobj(stream, part, CHUNK_BYTES)


def unseal(path: Path, copy: Path) -> bool:
    """Copy what was sealed; whether it is whole: otherwise there may be anything in `copy`, or no such file.

    A link, pipe or folder at `path` is not opened. Raises OSError where something cannot be read or written.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        return False
    digest = hashlib.sha256(path.name.encode())
    with path.open("rb") as stream, copy.open("wb") as data:
        if stream.read(len(SEAL)) != SEAL:
            return False
        recorded = stream.read(digest.digest_size)
        for chunk in _chunks(stream):
            digest.update(chunk)
            data.write(chunk)
    return digest.digest() == recorded


def is_private_folder(status: os.stat_result) -> bool:
    """Whether that, not followed, is a folder of this user that no other user may look into."""
    is_ours = not hasattr(os, "getuid") or (status.st_uid == os.getuid() and not status.st_mode & 0o077)
    return stat.S_ISDIR(status.st_mode) and is_ours


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK_BYTES):
        yield chunk


def _aside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.part")
