"""A batch in the layouts of others: GenEval's folders, WebDataset's tar."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
import tarfile
from collections import defaultdict
from pathlib import Path

from PIL import Image

from negguide import formats
from negguide.batch.store import Record, read_table
from negguide.experiment.files import write
from negguide.experiment.tasks import slugs

EXPORTS = ("geneval", "webdataset")


def export(root: Path, name: str) -> Path:
    """Write an export into the batch's folder; where it lies. `ValueError` for a folder without a batch."""
    records = read_table(root)
    return geneval(root, records) if name == "geneval" else webdataset(root, records)


def geneval(root: Path, records: list[Record]) -> Path:
    """`geneval/METHOD/00000/{metadata.jsonl, samples/0000.png, grid.png}`, as GenEval's evaluation reads it.

    What the prompts file said beside a prompt (tag, include, ...) is in `metadata.jsonl`. Pictures are hard links where
    the disk allows it. What is there from before is replaced.
    """
    out = root / "geneval"
    shutil.rmtree(out, ignore_errors=True)
    groups: dict[tuple[str, str, int], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["model"], record["label"], record["row"]].append(record)
    several = len({model for model, _, _ in groups}) > 1
    arms = list(dict.fromkeys((model, label) for model, label, _ in groups))
    names = slugs([f"{Path(model).name} {label}" if several else label for model, label in arms])
    for (model, label, row), records_of_model in groups.items():
        folder = out / names[arms.index((model, label))] / f"{row:05d}"
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        about = {**records_of_model[0]["metadata"], "prompt": records_of_model[0]["prompt"]}
        write(folder / "metadata.jsonl", (json.dumps(about, ensure_ascii=False) + "\n").encode())
        files = [root / record["file"] for record in records_of_model]
        for place, file in enumerate(files):
            _link(file, folder / "samples" / f"{place:04d}.png")
        write(folder / "grid.png", _grid(files))
    return out


def webdataset(root: Path, records: list[Record]) -> Path:
    """`pictures.tar`: for each picture `KEY.png`, `KEY.txt` (its prompt) and `KEY.json`; the same bytes every time.

    What has another shape for every method (`methods`, `metadata`) stands in the JSON as JSON text, so that all pictures have
    one schema, which `datasets` needs.
    """
    buffer = root / f".pictures.tar.{secrets.token_hex(6)}.tmp"
    try:
        with tarfile.open(buffer, "w", format=tarfile.USTAR_FORMAT) as tar:
            for record in records:
                add_sample(tar, record, (root / record["file"]).read_bytes())
        os.replace(buffer, root / "pictures.tar")
    finally:
        buffer.unlink(missing_ok=True)
    return root / "pictures.tar"


def add_sample(tar: tarfile.TarFile, record: Record, data: bytes) -> None:
    """Append a picture with its prompt and what it is called."""
    about = {key: record[key] for key in ("model", "label", "text", "negatives", "seed")}
    about |= {key: json.dumps(record[key], ensure_ascii=False) for key in ("methods", "metadata")}
    _add(tar, f"{record['key']}.png", data)
    _add(tar, f"{record['key']}.txt", record["prompt"].encode())
    _add(tar, f"{record['key']}.json", json.dumps(formats.stamped(about), ensure_ascii=False).encode())


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _grid(files: list[Path]) -> bytes:
    """The pictures of a prompt side by side, four in a row."""
    pictures = []
    for file in files:
        with Image.open(file) as image:
            pictures.append(image.convert("RGB"))
    width, height = pictures[0].size
    across = min(4, len(pictures))
    grid = Image.new("RGB", (width * across, height * -(-len(pictures) // across)))
    for place, picture in enumerate(pictures):
        grid.paste(picture.resize((width, height)), (place % across * width, place // across * height))
    buffer = io.BytesIO()
    grid.save(buffer, "PNG")
    return buffer.getvalue()
