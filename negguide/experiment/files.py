"""Files are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def is_full(error: BaseException) -> bool:
    """Whether an error says that a disk takes nothing more: it is full, a quota is used up, or it is read-only."""
    return isinstance(error, OSError) and error.errno in FULL


def write(path: Path, data: bytes, sync: bool = False) -> Path:
    """Write a file under a temporary name and rename it. `sync`: it is on the disk before it has its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # random, since processes of several containers may have the same number
    temporary = path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        with contextlib.suppress(OSError):  # a disk that became read-only; the first error tells
            temporary.unlink(missing_ok=True)
    return path
