"""An address as a folder of this machine: what measures and reports read, and what they write goes back."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from negguide import formats
from negguide.batch.addresses import cache_folder
from negguide.batch.read import PLAN_FILE
from negguide.batch.sharded.store import STATES, Shards
from negguide.batch.store import RECORDS, Record
from negguide.experiment.files import write

MEASURED = ("measures.json", "measures.parquet")
RESULTS = (
    *MEASURED,
    "summary.md",
    "summary.csv",
    "summary.tex",
    "summary-by-tag.csv",
    "report.html",
)
"""What `send_results` puts beside the pictures, of what is there."""


def mirror(url: str) -> Path:
    """Bring the pictures of an address here that are not here yet; a batch's folder, in NEGGUIDE_CACHE or `~/.cache/negguide`.

    What was measured there comes, too. `ValueError` if there is no batch.
    """
    shards, root = Shards(url), cache_folder(url, "mirror")
    _bring_plan(shards, url, root)
    for name in MEASURED:
        with contextlib.suppress(FileNotFoundError):
            shards.address.get(name, root / name)
    there: set[str] = set()
    for state in STATES:
        for name in sorted(shards.names(state)):
            stamp = shards.marker(name, state).get("sha256", "")
            there.add(file := f"{name}-{stamp[:16]}.jsonl")
            if not (root / RECORDS / file).exists():
                _unpack(shards, name, root, file)
    for old in (root / RECORDS).glob("*.jsonl"):
        if old.name not in there:
            old.unlink()
    return root


def records_of(url: str) -> tuple[Path, dict[str, str]]:
    """A folder like that of `mirror` without any picture, and the shard of each picture by its key."""
    shards, root = Shards(url), cache_folder(url, "records")
    shutil.rmtree(root / RECORDS, ignore_errors=True)
    _bring_plan(shards, url, root)
    shard_of: dict[str, str] = {}
    for state in STATES:
        for name in sorted(shards.names(state)):
            records = shards.records(name)
            shard_of |= {record["key"]: name for record in records}
            _write_records(root, f"{name}.jsonl", records)
    return root, shard_of


def _bring_plan(shards: Shards, url: str, root: Path) -> None:
    try:
        write(root / PLAN_FILE, shards.address.read(PLAN_FILE))
    except FileNotFoundError as error:
        raise ValueError(f"there is no batch at {url!r} (no {PLAN_FILE})") from error


def _write_records(root: Path, file: str, records: Iterable[Record]) -> None:
    lines = [json.dumps(formats.stamped(record), ensure_ascii=False) + "\n" for record in records]
    write(root / RECORDS / file, "".join(lines).encode())


def _unpack(shards: Shards, name: str, root: Path, file: str) -> None:
    records = {record["key"]: record for record in shards.records(name)}
    for key, data in shards.pictures(name, root):
        if key in records:
            write(root / records[key]["file"], data)
    _write_records(root, file, records.values())  # last: what it names is here


def send_results(root: Path, url: str) -> list[str]:
    """Put what was measured and reported beside the pictures at the address; the names."""
    shards = Shards(url)
    names = [name for name in RESULTS if (root / name).is_file()]
    for name in names:
        shards.address.put(root / name, name)
    return names
