"""The pictures of a shard on this machine until the shard is published."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from negguide import formats
from negguide.batch.addresses import cache_folder
from negguide.batch.export import add_sample
from negguide.batch.store import Record


class Spool:
    """A file of this worker's, of a line of JSON and the picture's bytes for each picture; those of killed workers are used, too.

    The files stay open, so that what is here stays readable when another worker of this machine publishes the shard and clears it.
    """

    def __init__(self, url: str, shard: str) -> None:
        self.folder = cache_folder(url, "spool") / shard
        self._own: BinaryIO | None = None
        self._streams: list[BinaryIO] = []
        self._there: dict[str, tuple[BinaryIO, int, Record]] = {}
        for file in sorted(self.folder.glob("*.spool")):
            stream = file.open("rb")
            self._streams.append(stream)
            for start, record in _whole(stream):
                self._there[record["key"]] = (stream, start, record)

    def has(self, key: str) -> bool:
        """Whether a picture is here, as it was kept."""
        return key in self._there

    def keep(self, record: Mapping[str, Any], data: bytes) -> None:
        """Keep a picture."""
        kept = {**record, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        line = json.dumps(formats.stamped(kept), ensure_ascii=False).encode() + b"\n"
        if self._own is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._own = (self.folder / f"{secrets.token_hex(6)}.spool").open("w+b")
            self._streams.append(self._own)
        start = self._own.seek(0, 2) + len(line)
        self._own.write(line + data)
        self._own.flush()
        self._there[kept["key"]] = (self._own, start, kept)

    def pack(self, keys: Iterable[str]) -> tuple[Path, list[Record]]:
        """A tar of these pictures, and their records; the same bytes whoever made them."""
        rows = []
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{secrets.token_hex(6)}.tar"
        with tarfile.open(file, "w", format=tarfile.USTAR_FORMAT) as tar:
            for key in keys:
                stream, start, record = self._there[key]
                stream.seek(start)
                add_sample(tar, record, stream.read(record["bytes"]))
                rows.append(record)
        return file, rows

    def close(self) -> None:
        """Let go of the files; what is in them stays."""
        for stream in self._streams:
            stream.close()

    def clear(self) -> None:
        """The shard is published."""
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def _whole(stream: BinaryIO) -> Iterator[tuple[int, Record]]:
    """Where each whole picture of a file begins, and its record; a crash may have cut the file off."""
    while line := stream.readline():
        try:
            record = json.loads(line)
            record.pop(formats.KEY, None)
            start = stream.tell()
            data = stream.read(record["bytes"])
            if hashlib.sha256(data).hexdigest() != record["sha256"]:
                return
        except (ValueError, KeyError):
            return
        yield start, record
        stream.seek(start + len(data))
