"""Places that are no folders: whatever fsspec reaches, such as `s3://bucket/x`, `gs://...`, `memory://x`, `file:///x`."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

ANCHOR = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
CACHE = "NEGGUIDE_CACHE"
"""The environment variable that names the folder for pictures on their way to an address."""


def is_address(name: str) -> bool:
    """Whether a name is an address rather than a folder."""
    return bool(ANCHOR.match(name))


def check_address(name: str) -> None:
    """`ValueError` where fsspec does not know the kind of address, or lacks the package for it."""
    import fsspec

    kind = name.partition("://")[0]
    try:
        fsspec.get_filesystem_class(kind)
    except (ImportError, ValueError) as error:
        raise ValueError(f"{name!r} cannot be written to: {error}") from error


def cache_folder(address: str, name: str) -> Path:
    """Where this machine keeps what belongs to an address: in NEGGUIDE_CACHE, else `~/.cache/negguide`."""
    root = Path(os.environ.get(CACHE) or "~/.cache/negguide").expanduser()
    return root / hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16] / name


class Address:
    """Files under an address, by their relative names. Credentials and end points are those of fsspec's configuration."""

    def __init__(self, url: str) -> None:
        import fsspec.core

        check_address(url)
        self.url = url.rstrip("/")
        self._fs, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        self._is_local = "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def read(self, name: str) -> bytes:
        """The content of a file; `FileNotFoundError` where there is none."""
        data: bytes = self._fs.cat_file(self._path(name))
        return data

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, in place of what was there."""
        self._made(name, lambda path: self._fs.pipe_file(path, data))

    def put(self, file: Path, name: str) -> None:
        """Put a local file there, in place of what was there."""
        self._made(name, lambda path: self._fs.put_file(str(file), path))

    def get(self, name: str, file: Path) -> None:
        """Bring a file here."""
        file.parent.mkdir(parents=True, exist_ok=True)
        self._fs.get_file(self._path(name), str(file))

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none where there is no such folder."""
        return sorted(self.stamps(folder))

    def stamps(self, folder: str) -> dict[str, str]:
        """Name -> what is told of each file of a folder without opening it; another text once it was written again."""
        self._fs.invalidate_cache()
        try:
            entries = self._fs.ls(self._path(folder), detail=True)
        except FileNotFoundError:
            return {}
        stamps = {info["name"].rstrip("/").rpartition("/")[2]: repr(sorted(info.items(), key=str)) for info in entries}
        return {name: stamp for name, stamp in stamps.items() if name[:1] != "."}

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _made(self, name: str, make: Any) -> None:
        """An object store shows an object when it is whole; in a folder, a temporary name sees to that."""
        path = self._path(name)
        if not self._is_local:
            make(path)
            return
        folder, _, last = path.rpartition("/")
        self._fs.makedirs(folder, exist_ok=True)
        temporary = f"{folder}/.{last}.{os.urandom(6).hex()}.tmp"
        try:
            make(temporary)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
