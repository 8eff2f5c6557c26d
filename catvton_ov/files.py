"""Files that are written whole or not at all."""

from __future__ import annotations

import errno
import secrets
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, data: bytes) -> None:
    """Write aside, then put in place; raises OSError, and leaves nothing behind then."""
    part = _aside(path)
    try:
        part.write_bytes(data)
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


def _aside(path: Path) -> Path:
    return path.with_name(f".{secrets.token_hex(8)}.part")
