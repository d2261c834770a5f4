"""Where a batch lies: pictures under their keys, append-only records of who made what, one table of it all.

    OUT/plan.json                   the plan, with all prompts inside
    OUT/pictures/MODEL/PROMPT/METHOD/SEED-KEY.png
    OUT/records/WORKER.jsonl        one line per picture or failure, of each process its own file
    OUT/pictures.parquet            the pictures of the plan in its order, written when a run ends

Nothing that differs between two runs of the same plan is in a picture or its name; it is in the records.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from negguide import formats
from negguide.batch.plan import Plan
from negguide.batch.read import PLAN_FILE
from negguide.batch.units import PICTURES, Unit
from negguide.experiment.files import write

RECORDS = "records"
TABLE = "pictures.parquet"
READERS = 4

Record = dict[str, Any]


class Store:
    """A batch's folder. `worker`: the name of this process's file of records; without one, it is only read."""

    def __init__(self, root: Path, worker: str = "") -> None:
        self.root = root
        self._worker = worker
        self._torn = False
        self.records: dict[str, Record] = {}
        self.failures: dict[str, Record] = {}
        self.reload()

    def reload(self) -> None:
        """Read the records of all processes. A line that was cut off by a crash counts as not written."""
        records = sorted(_lines(self.root / RECORDS), key=lambda record: str(record.get("time", "")))
        self.records = {record["key"]: record for record in records if "key" in record}
        self.failures = {record["unit"]: record for record in records if "error" in record}

    def save_plan(self, plan: Plan) -> None:
        """Write `plan.json`."""
        text = json.dumps(formats.stamped(plan.model_dump(mode="json")), ensure_ascii=False, indent=1)
        write(self.root / PLAN_FILE, text.encode())

    def missing(self, all_units: Sequence[Unit]) -> list[Unit]:
        """Units of which a picture is not there, cut off or altered: its bytes are not those that were recorded."""
        with ThreadPoolExecutor(READERS) as pool:
            whole = pool.map(lambda unit: all(self.is_good(unit, seed) for seed in unit.seeds), all_units)
            return [unit for unit, fine in zip(all_units, whole, strict=True) if not fine]

    def is_good(self, unit: Unit, seed: int) -> bool:
        """Whether the picture of a seed is there as it was recorded, under whatever label it was made."""
        record = self.records.get(unit.key(seed))
        if record is None:
            return False
        try:
            data = (self.root / record["file"]).read_bytes()
        except OSError:
            return False
        return hashlib.sha256(data).hexdigest() == record["sha256"]

    def put(self, unit: Unit, seed: int, data: bytes) -> Record:
        """Write a picture so that it is either there as a whole or not at all; what to record of it."""
        file = unit.file(seed)
        write(self.root / file, data, sync=True)
        return {"key": unit.key(seed), "file": file, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}

    def record(self, records: Iterable[Mapping[str, object]]) -> None:
        """Append lines to this process's file, and see them on the disk."""
        text = "".join(json.dumps(formats.stamped(record), ensure_ascii=False) + "\n" for record in records)
        file = self.root / RECORDS / f"{self._worker}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("ab") as stream:
            begin = b"\n" if self._torn else b""
            self._torn = True  # until all of it is written
            stream.write(begin + text.encode())
            stream.flush()
            os.fsync(stream.fileno())
            self._torn = False

    def merge(self, all_units: Sequence[Unit]) -> Path:
        """Write the table of a plan's pictures, in the plan's order, from all records."""
        import pyarrow
        import pyarrow.parquet

        self.reload()
        rows = list(self.rows(all_units))
        names = list(dict.fromkeys(name for row in rows for name in row))
        table = pyarrow.table({name: [plain(row.get(name)) for row in rows] for name in names})
        buffer = pyarrow.BufferOutputStream()
        pyarrow.parquet.write_table(table, buffer)
        return write(self.root / TABLE, buffer.getvalue().to_pybytes())

    def rows(self, all_units: Sequence[Unit]) -> Iterator[Record]:
        """The records of a plan's pictures, with the labels and places that they have in this plan."""
        for unit in all_units:
            for seed in unit.seeds:
                if record := self.records.get(unit.key(seed)):
                    yield {**record, **labels(unit, seed)}

    def tidy(self) -> None:
        """Remove what killed processes left half written. Only when nobody else is at work here."""
        for file in (self.root / PICTURES).rglob(".*.tmp"):
            with contextlib.suppress(OSError):
                file.unlink()


def labels(unit: Unit, seed: int) -> Record:
    """How a picture is called in its plan."""
    return {
        "model": unit.model.name,
        "prompt": unit.task.prompt,
        "text": unit.task.text,
        "negatives": [str(negative.prompt) for negative in unit.task.negatives],
        "label": unit.variant.label,
        "family": unit.variant.family,
        "strength": unit.variant.strength,
        "seed": seed,
        "metadata": dict(unit.prompt.metadata),
        "row": unit.place[0],
        "column": unit.place[1],
    }


def read_table(root: Path) -> list[Record]:
    """The rows of `pictures.parquet`. `ValueError` when there is none or it cannot be read."""
    import pyarrow.parquet

    try:
        rows: list[Record] = pyarrow.parquet.read_table(root / TABLE).to_pylist()
    except (OSError, pyarrow.ArrowInvalid) as error:
        raise ValueError(f"{str(root / TABLE)!r} cannot be read: {error}") from error
    return [{key: json.loads(row[key]) if key in NESTED and row[key] else row[key] for key in row} for row in rows]


NESTED = ("group", "methods", "metadata", "negatives", "size", "trace", "versions")
"""Columns whose values stand as JSON text in the table."""


def plain(value: object) -> Any:
    """A value as it stands in a table."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value


def _lines(folder: Path) -> Iterator[Record]:
    for file in sorted(folder.glob("*.jsonl")):
        with file.open("rb") as stream:  # line by line: of a million pictures the file alone is a gigabyte
            for line in stream:
                with contextlib.suppress(ValueError):
                    record = json.loads(line)
                    if isinstance(record, dict):
                        record.pop(formats.KEY, None)
                        yield record
