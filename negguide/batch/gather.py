"""What is to be measured: the pictures of a batch, or of any folder."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from negguide.batch.planned import of_plan
from negguide.batch.read import PLAN_FILE, PlanError, load_plan
from negguide.batch.store import TABLE, Record, Store, read_table
from negguide.experiment.pictures import ENDINGS, OTHERS
from negguide.experiment.textfile import lines_of, read_text
from negguide.methods import format_prompt, parse_prompt

SHEETS = {"grid.png": "samples", "sheet.png": "../results.json"}
"""Overviews that GenEval's layout and `compare` put beside their pictures -> what shows that they are such."""


@dataclasses.dataclass(frozen=True)
class Gathered:
    """Pictures to measure. `planned`: how many the batch's plan has, None without a plan; `notes`: what is left out, and why."""

    records: list[Record]
    planned: int | None = None
    notes: tuple[str, ...] = ()


def gather(root: Path, prompt: str | None = None, negatives: Sequence[str] = ()) -> list[Record]:
    """The records of `look_into`."""
    return look_into(root, prompt, negatives).records


def look_into(root: Path, prompt: str | None = None, negatives: Sequence[str] = ()) -> Gathered:
    """One record per picture: of a batch those that are recorded and of its plan, else all pictures in the folder.

    The records count, not `pictures.parquet`, which is as old as the end of the last run; where there are none, it does.
    A foreign picture is called by its uppermost folder (as the method) and grouped by prompt; its prompt is the given
    one, or that of its metadata, of a `.txt` beside it, or of a `metadata.jsonl` above it (GenEval); without any, its
    folder stands for the prompt. Its seed is that of its metadata or the number that its name ends in, where these tell
    the pictures of a group apart, else its place. `ValueError` if there is no picture.
    """
    batch = _batch(root)
    return batch if batch is not None else _foreign(root, prompt, negatives)


def _batch(root: Path) -> Gathered | None:
    """A batch by its records; None where there are none."""
    records = {key: record for key, record in Store(root).records.items() if "file" in record and "label" in record}
    if (root / TABLE).is_file():
        try:
            table = read_table(root)
        except ValueError:
            if not records:
                raise
            table = []
        if not records and not (root / PLAN_FILE).is_file():
            return Gathered(table)
        records = {**{row["key"]: row for row in table if row.get("key")}, **records}
        if not records:
            return Gathered(table)
    if not records and not (root / PLAN_FILE).is_file():
        return None
    if not (root / PLAN_FILE).is_file():
        return Gathered(list(records.values()))
    try:
        rows, planned = of_plan(load_plan(root), records)
    except PlanError as error:
        return Gathered(list(records.values()), notes=(f"all recorded pictures are measured: {error}",))
    if not rows:
        raise ValueError(
            f"none of the {planned} pictures of the plan in {str(root)!r} is made yet: run negguide generate"
        )
    notes = []
    if len(rows) < planned:
        notes.append(f"{len(rows)} of the {planned} pictures of the plan are made; only these are measured")
    if len(others := records.keys() - {row["key"] for row in rows}) > 0:
        notes.append(f"{len(others)} recorded pictures are not of this plan (an earlier one's) and are left out")
    return Gathered(rows, planned, tuple(notes))


def _foreign(root: Path, prompt: str | None, negatives: Sequence[str]) -> Gathered:
    every = sorted(file for file in root.rglob("*") if file.is_file())
    shown = [file for file in every if not any(part.startswith(".") for part in file.relative_to(root).parts)]
    files = [file for file in shown if file.suffix.lower() in ENDINGS and not _is_sheet(file)]
    if not files:
        raise ValueError(f"no picture is in {str(root)!r} ({', '.join(ENDINGS)}) and no {TABLE} of a batch")
    rows: dict[str, int] = {}
    records: list[Record] = []
    lost = 0
    for file in files:
        folder = file.parent.relative_to(root)
        info = _info(file)
        if info.get("lost"):  # `compare` made it while a watcher failed: it is not what its method makes
            lost += 1
            continue
        text = prompt or _prompt_of(file, root, info)
        asked, own = parse_prompt(text) if text else ("", ())
        group = text or folder.as_posix()
        every_negative = [*own, *(negative for text in negatives for negative in parse_prompt(f"--no {text}")[1])]
        records.append(
            {
                "file": file.relative_to(root).as_posix(),
                "model": "",
                "prompt": asked,
                "text": format_prompt(asked, every_negative),
                "negatives": [str(negative.prompt) for negative in every_negative],
                "label": folder.parts[0] if folder.parts else root.name,
                "row": rows.setdefault(group, len(rows)),
                "metadata": {},
                "seed": _seed_of(file, info),
            }
        )
    _number(records)
    notes = list(_left_out(every, shown))
    if lost:
        notes.append(
            f"{lost} pictures are left out: a watcher failed while they were made, so that they are not their method's"
        )
    return Gathered(records, notes=tuple(notes))


def _left_out(every: Sequence[Path], shown: Sequence[Path]) -> Iterator[str]:
    """A line for each kind of file that looks like a picture and is not measured."""
    others = Counter(file.suffix.lower() for file in shown if file.suffix.lower() in OTHERS)
    yield from (f"{number} {ending} files are left out: convert them to .png" for ending, number in others.items())
    sheets = sum(file.suffix.lower() in ENDINGS and _is_sheet(file) for file in shown)
    if sheets:
        yield f"{sheets} contact sheets ({', '.join(SHEETS)}) are left out"
    hidden = sum(file.suffix.lower() in ENDINGS for file in set(every) - set(shown))
    if hidden:
        yield f"{hidden} hidden pictures (their names, or their folders', begin with a dot) are left out"


def _is_sheet(file: Path) -> bool:
    """Whether it shows others of the folder again; a picture that is only called so is a picture."""
    return file.name in SHEETS and (file.parent / SHEETS[file.name]).exists()


def _seed_of(file: Path, info: dict[Any, Any]) -> int | None:
    """What tells this picture from the others of its prompt, in every method: its seed, or the number in its name."""
    parameters = re.search(r"\bSeed: (\d+)", info["parameters"]) if isinstance(info.get("parameters"), str) else None
    for text in (str(info.get("seed", "")), parameters and parameters[1], (re.findall(r"\d+$", file.stem) or [""])[0]):
        if text and text.isdecimal() and len(text) < 19:
            return int(text)
    return None


def _number(records: Sequence[Record]) -> None:
    """Give every picture a seed of its own in its group: as told where that tells them apart, else its place."""
    groups: dict[tuple[str, int], list[Record]] = defaultdict(list)
    for record in records:
        groups[record["label"], record["row"]].append(record)
    if not all(_tells_apart([record["seed"] for record in several]) for several in groups.values()):
        for several in groups.values():
            for place, record in enumerate(several):
                record["seed"] = place


def _tells_apart(seeds: Sequence[int | None]) -> bool:
    return None not in seeds and len(set(seeds)) == len(seeds)


def _info(file: Path) -> dict[Any, Any]:
    """The texts in a picture's file."""
    try:
        with Image.open(file) as image:
            return dict(image.info)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}


def _prompt_of(file: Path, root: Path, info: dict[object, object]) -> str | None:
    return next((text for text in _candidates(file, root, info) if text), None)


def _candidates(file: Path, root: Path, info: dict[Any, Any]) -> Iterator[str | None]:
    yield _first_line(file.with_suffix(".txt"))
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
        return lines_of(read_text(file, "the metadata"))[0].strip() or None
    except ValueError:
        return None
