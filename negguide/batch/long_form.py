"""What was measured on every picture: `measures.parquet`, a row per picture and measure, whatever the prompts negate."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from negguide.batch.groups import COSTS
from negguide.batch.store import Record
from negguide.experiment.files import write

MEASURED = "measures.parquet"
SHOWS, NOTE = "shows_negative", "note"
ROWS = 100_000
"""Rows that are put into the file at a time."""


def save_pictures(root: Path, records: Sequence[Record]) -> Path:
    """Write `measures.parquet`: picture, model, method, prompt, tag, seed, measure, value; a judge's words as `note`.

    `shows_negative` (0 or 1), `passes` and `seconds` are measures too. A picture without any has one row, `note`.
    """
    import pyarrow
    import pyarrow.parquet

    words = ("picture", "model", "method", "prompt", "tag", "measure", "note")
    types = {name: pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) for name in words}
    schema = pyarrow.schema([*types.items(), ("seed", pyarrow.int64()), ("value", pyarrow.float64())])
    buffer = io.BytesIO()
    with pyarrow.parquet.ParquetWriter(buffer, schema) as file:
        part: list[dict[str, object]] = []
        for record in records:
            part += _rows(record)
            if len(part) >= ROWS:
                file.write_table(pyarrow.Table.from_pylist(part, schema))
                part = []
        file.write_table(pyarrow.Table.from_pylist(part, schema))
    return write(root / MEASURED, buffer.getvalue())


def _rows(record: Record) -> Iterator[dict[str, object]]:
    tag = (record.get("metadata") or {}).get("tag")
    about = {
        "picture": record["file"],
        "model": record["model"],
        "method": record["label"],
        "prompt": record["prompt"],
        "tag": None if tag is None else str(tag),
        "seed": record["seed"],
    }
    values: dict[str, Any] = {name: record.get(name) for name in (SHOWS, *COSTS)} | record.get("scores", {})
    yield {**about, "measure": NOTE, "note": record.get("note") or ""}
    for measure, value in values.items():
        if value is not None:
            yield {**about, "measure": measure, "value": float(value)}


def read_pictures(root: Path) -> dict[str, Record]:
    """What was measured on each picture, by its file: `note`, `shows_negative`, costs, and all else in `scores`."""
    import pyarrow.parquet

    records: dict[str, Record] = {}
    columns = ["picture", "method", "measure", "value", "note"]
    for batch in pyarrow.parquet.ParquetFile(root / MEASURED).iter_batches(columns=columns):
        for row in batch.to_pylist():
            record = records.setdefault(row["picture"], {"label": row["method"], NOTE: "", SHOWS: None, "scores": {}})
            if row["measure"] == NOTE:
                record[NOTE] = row["note"]
            elif row["measure"] == SHOWS:
                record[SHOWS] = bool(row["value"])
            elif row["measure"] in COSTS:
                record[row["measure"]] = row["value"]
            else:
                record["scores"][row["measure"]] = row["value"]
    return records
