"""What is to be measured: the pictures of a batch, or of any folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from negguide.batch.store import TABLE, Record, read_table
from negguide.methods import format_prompt, parse_prompt

ENDINGS = (".png", ".jpg", ".jpeg", ".webp", ".bmp")


def gather(root: Path, prompt: str | None = None, negatives: Sequence[str] = ()) -> list[Record]:
    """One record per picture: of `pictures.parquet` where there is one, else of all pictures in the folder.

    A foreign picture is called by its uppermost folder (as the method) and grouped by prompt; its prompt is the given
    one, or that of its metadata, of a `.txt` beside it, or of a `metadata.jsonl` above it (GenEval); without any, its
    folder stands for the prompt. `ValueError` if there is no picture.
    """
    if (root / TABLE).is_file():
        return read_table(root)
    files = sorted(file for file in root.rglob("*") if file.suffix.lower() in ENDINGS and not _hidden(file, root))
    if not files:
        raise ValueError(f"no picture is in {str(root)!r} ({', '.join(ENDINGS)}) and no {TABLE} of a batch")
    rows: dict[str, int] = {}
    records: list[Record] = []
    for file in files:
        folder = file.parent.relative_to(root)
        text = prompt or _prompt_of(file, root)
        asked, own = parse_prompt(text) if text else ("", ())
        group = text or folder.as_posix()
        every = [*own, *(one for text in negatives for one in parse_prompt(f"--no {text}")[1])]
        records.append(
            {
                "file": file.relative_to(root).as_posix(),
                "model": "",
                "prompt": asked,
                "text": format_prompt(asked, every),
                "negatives": [str(one.prompt) for one in every],
                "label": folder.parts[0] if folder.parts else root.name,
                "row": rows.setdefault(group, len(rows)),
                "metadata": {},
            }
        )
    counts: dict[tuple[str, int], int] = {}
    for record in records:
        place = (record["label"], record["row"])
        record["seed"] = counts[place] = counts.get(place, -1) + 1
    return records


def open_picture(file: Path) -> Image.Image | None:
    """A picture as RGB, or None if it cannot be read."""
    try:
        with Image.open(file) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _hidden(file: Path, root: Path) -> bool:
    parts = file.relative_to(root).parts
    return any(part.startswith(".") for part in parts) or file.name in ("grid.png", "sheet.png")


def _prompt_of(file: Path, root: Path) -> str | None:
    return next((text for text in _candidates(file, root) if text), None)


def _candidates(file: Path, root: Path) -> Iterator[str | None]:
    yield _first_line(file.with_suffix(".txt"))
    try:
        with Image.open(file) as image:
            info: dict[Any, Any] = dict(image.info)
    except (OSError, ValueError, SyntaxError):
        return
    for key in ("prompt", "Description"):
        if isinstance(info.get(key), str) and not info[key].lstrip().startswith("{"):
            yield info[key]
    if isinstance(info.get("parameters"), str):  # as written by A1111 and its descendants
        yield info["parameters"].split("\nNegative prompt:")[0].split("\nSteps:")[0].strip()
    for folder in file.relative_to(root).parents:
        line = _first_line(root / folder / "metadata.jsonl")
        if line is not None:
            try:
                yield str(json.loads(line).get("prompt", ""))
            except (ValueError, AttributeError):
                continue


def _first_line(file: Path) -> str | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    return lines[0].strip() if lines else None
