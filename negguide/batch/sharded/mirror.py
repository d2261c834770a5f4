"""An address as a folder of this machine: what measures and reports read, and what they write goes back."""

from __future__ import annotations

import json
from pathlib import Path

from negguide import formats
from negguide.batch.addresses import cache_folder
from negguide.batch.read import PLAN_FILE
from negguide.batch.sharded.store import STATES, Shards
from negguide.batch.store import RECORDS
from negguide.experiment.files import write

RESULTS = (
    "measures.json",
    "measures.parquet",
    "summary.md",
    "summary.csv",
    "summary.tex",
    "summary-by-tag.csv",
    "report.html",
)
"""What `send_results` puts beside the pictures, of what is there."""


def mirror(url: str) -> Path:
    """Bring the pictures of an address here that are not here yet; a batch's folder, in NEGGUIDE_CACHE or `~/.cache/negguide`.

    `ValueError` if there is no batch.
    """
    shards, root = Shards(url), cache_folder(url, "mirror")
    try:
        write(root / PLAN_FILE, shards.address.read(PLAN_FILE))
    except FileNotFoundError as error:
        raise ValueError(f"there is no batch at {url!r} (no {PLAN_FILE})") from error
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


def _unpack(shards: Shards, name: str, root: Path, file: str) -> None:
    records = {record["key"]: record for record in shards.records(name)}
    for key, data in shards.pictures(name, root):
        if key in records:
            write(root / records[key]["file"], data)
    lines = [json.dumps(formats.stamped(record), ensure_ascii=False) + "\n" for record in records.values()]
    write(root / RECORDS / file, "".join(lines).encode())  # last: what it names is here


def send_results(root: Path, url: str) -> list[str]:
    """Put what was measured and reported beside the pictures at the address; the names."""
    shards = Shards(url)
    names = [name for name in RESULTS if (root / name).is_file()]
    for name in names:
        shards.address.put(root / name, name)
    return names
