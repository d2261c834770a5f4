"""Pairs as files: one list for people and programs, a folder as `datasets` reads it, a tar as WebDataset does."""

from __future__ import annotations

import io
import json
import tarfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from negguide import formats
from negguide.experiment.files import write
from negguide.experiment.sampling import png
from negguide.pairs.make import Pair

LIST, REJECTED, METADATA, TAR = "pairs.jsonl", "rejected.jsonl", "metadata.jsonl", "pairs.tar"
LAYOUTS = ("webdataset", "datasets")


def check_layouts(layouts: Iterable[str]) -> None:
    """`ValueError` for a layout that `save` does not know."""
    for layout in layouts:
        if layout not in LAYOUTS:
            raise ValueError(f"unknown layout {layout!r}; possible: {', '.join(LAYOUTS)}")


def save(pairs: Iterable[Pair], out: Path, layouts: Iterable[str] = ()) -> Counter[str]:
    """Write every pair into a folder; how many there are by their reasons (`"kept"` for those that are kept).

    Args:
        pairs: they are written as they come.
        out: the folder. `pairs.jsonl` names the kept pairs, `rejected.jsonl` the others with the reason; pictures of both lie
            in `pictures/`.
        layouts: "datasets" (`metadata.jsonl` for an image folder, a row per picture with `text` and `hard_negative`),
            "webdataset" (`pairs.tar`, a sample per pair).
    """
    counts: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    for number, pair in enumerate(pairs):
        row = _put(pair, number, out)
        counts["kept" if pair.kept else pair.reason] += 1
        rows.append(row)
        with (out / (LIST if pair.kept else REJECTED)).open("a", encoding="utf-8") as file:
            file.write(json.dumps(formats.stamped(row), ensure_ascii=False) + "\n")
    kept_rows = [row for row in rows if row["kept"]]
    if "datasets" in layouts:
        lines = (json.dumps(described, ensure_ascii=False) for row in kept_rows for described in _of_pictures(row))
        write(out / METADATA, "".join(f"{line}\n" for line in lines).encode())
    if "webdataset" in layouts:
        write(out / TAR, _tar(kept_rows, out))
    return counts


def _put(pair: Pair, number: int, out: Path) -> dict[str, object]:
    """Write both pictures; the row of the list."""
    row: dict[str, object] = {"pair": number, "prompt": pair.prompt, "thing": pair.thing, "seed": pair.seed}
    captions = {"with": (pair.with_it, pair.caption_with), "without": (pair.without, pair.caption_without)}
    for name, (picture, caption) in captions.items():
        file = Path("pictures") / f"{number:06d}-{name}.png"
        write(out / file, png(picture, {"prompt": pair.prompt, "seed": str(pair.seed), "caption": caption}))
        row |= {name: file.as_posix(), f"caption_{name}": caption}
    return {**row, "kept": pair.kept, "reason": pair.reason}


def _of_pictures(row: dict[str, object]) -> list[dict[str, object]]:
    """Rows of an image folder: each picture with its caption and the other's, which is wrong for it by one word."""
    return [
        {
            "file_name": row[own],
            "text": row[f"caption_{own}"],
            "hard_negative": row[f"caption_{other}"],
            "thing": row["thing"],
            "shows": own == "with",
            "pair": row["pair"],
        }
        for own, other in (("with", "without"), ("without", "with"))
    ]


def _tar(rows: Iterable[dict[str, Any]], out: Path) -> bytes:
    """A sample per pair: two pictures and a JSON; the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for row in rows:
            about = {key: value for key, value in row.items() if key not in ("with", "without", "kept")}
            parts = [(f"{name}.png", (out / row[name]).read_bytes()) for name in ("with", "without")]
            for ending, data in (*parts, ("json", json.dumps(formats.stamped(about), ensure_ascii=False).encode())):
                info = tarfile.TarInfo(f"{row['pair']:06d}.{ending}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()
