"""What lies at an address.

    ADDRESS/plan.json                  the plan, with all prompts inside
    ADDRESS/pictures/SHARD.tar         a WebDataset shard: KEY.png, KEY.txt, KEY.json of each picture, in the plan's order
    ADDRESS/records/SHARD.parquet      who made them and how, a row per picture
    ADDRESS/done/SHARD.json            written last: the shard is whole (its pictures and their hash)
    ADDRESS/failed/SHARD.json          instead of it: some could not be made, with the reasons
    ADDRESS/begun/SHARD.json           instead of it: its worker was asked to end before all were made

A shard without any of the last three is not there, whatever else lies under its name.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from negguide import formats
from negguide.batch.addresses import Address
from negguide.batch.plan import Plan
from negguide.batch.read import PLAN_FILE
from negguide.batch.sharded.spool import Spool
from negguide.batch.store import NESTED, Record, plain

State = Literal["done", "failed", "begun"]
STATES: tuple[State, ...] = ("done", "failed", "begun")
TEXTS = [
    "key",
    "file",
    "sha256",
    "model",
    "prompt",
    "text",
    "negatives",
    "label",
    "family",
    "strength",
    "metadata",
    "group",
    "methods",
    "size",
    "dtype",
    "device",
    "hardware",
    "trace",
    "versions",
    "time",
    "worker",
]
WHOLES = ["bytes", "seed", "row", "column", "steps", "threads", "calls", "rank"]
NUMBERS = ["guidance", "passes", "seconds"]
"""Columns of the records, by what they hold."""


class Shards:
    """The shards at an address."""

    def __init__(self, url: str) -> None:
        self.address = Address(url)

    def save_plan(self, plan: Plan) -> None:
        """Write `plan.json`."""
        text = json.dumps(formats.stamped(plan.model_dump(mode="json")), ensure_ascii=False, indent=1)
        self.address.write(PLAN_FILE, text.encode())

    def names(self, state: State) -> set[str]:
        """Shards that are in a state; one listing, nothing is opened."""
        return {name.removesuffix(".json") for name in self.address.names(state)}

    def marker(self, shard: str, state: State) -> Record:
        """What is told of a shard in a state."""
        marker: Record = json.loads(self.address.read(f"{state}/{shard}.json"))
        return marker

    def records(self, shard: str) -> list[Record]:
        """The records of a shard's pictures."""
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(io.BytesIO(self.address.read(f"records/{shard}.parquet")))
        return [
            {key: json.loads(value) if key in NESTED and value else value for key, value in row.items()}
            for row in table.to_pylist()
        ]

    def pictures(self, shard: str, folder: Path) -> Iterator[tuple[str, bytes]]:
        """Key and file of each picture of a shard; the shard lies in `folder` meanwhile."""
        file = folder / f"{shard}.tar"
        self.address.get(f"pictures/{shard}.tar", file)
        try:
            with tarfile.open(file) as tar:
                for member in tar:
                    stream = tar.extractfile(member)
                    if member.name.endswith(".png") and stream is not None:
                        yield member.name.removesuffix(".png"), stream.read()
        finally:
            file.unlink(missing_ok=True)

    def is_whole(self, shard: str) -> bool:
        """Whether a done shard has the bytes that it was published with."""
        try:
            marker = self.marker(shard, "done")
            return hashlib.sha256(self.address.read(f"pictures/{shard}.tar")).hexdigest() == marker["sha256"]
        except (FileNotFoundError, ValueError, KeyError):
            return False

    def forget(self, shard: str) -> None:
        """Take a shard for not made."""
        for state in STATES:
            self.address.remove(f"{state}/{shard}.json")

    def publish(self, shard: str, spool: Spool, keys: Iterable[str], about: Mapping[str, object], state: State) -> None:
        """Put a shard there: its pictures in the order of `keys`, then its records, then what makes it count."""
        tar, rows = spool.pack(keys)
        for other in STATES if state != "done" else ("failed", "begun"):
            self.address.remove(f"{other}/{shard}.json")  # what it says of the old files is no longer true
        self.address.put(tar, f"pictures/{shard}.tar")
        self.address.write(f"records/{shard}.parquet", _table(rows))
        with tar.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256") if hasattr(hashlib, "file_digest") else _digest(stream)
        size = tar.stat().st_size
        tar.unlink()
        marker = {"pictures": len(rows), "sha256": digest.hexdigest(), "bytes": size, **about}
        self.address.write(f"{state}/{shard}.json", json.dumps(formats.stamped(marker), ensure_ascii=False).encode())


def _digest(stream: Any) -> Any:
    digest = hashlib.sha256()
    while part := stream.read(2**20):
        digest.update(part)
    return digest


def _table(rows: list[Record]) -> bytes:
    """Records as Parquet, of the same columns for every shard, so that all of them can be read as one."""
    import pyarrow
    import pyarrow.parquet

    types = {name: pyarrow.string() for name in TEXTS} | {name: pyarrow.int64() for name in WHOLES}
    types |= {name: pyarrow.float64() for name in NUMBERS} | {"takeover": pyarrow.bool_()}
    columns = {name: [plain(row.get(name)) for row in rows] for name in types}
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns, pyarrow.schema(list(types.items()))), buffer)
    return buffer.getvalue()
