"""What a session keeps of its runs: their settings, to be chosen again, and all pictures of one in a zip."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from pathlib import Path

from negguide.demo.results import Board, in_json_types
from negguide.demo.settings import Settings
from negguide.experiment.tasks import slug

REMEMBERED = 24
"""Runs of a session that can be chosen again."""


def with_run(runs: Sequence[Settings], settings: Settings) -> list[Settings]:
    """The runs with one more, the latest first; a run that is made again moves to the front."""
    return [settings, *(run for run in runs if run != settings)][:REMEMBERED]


def choices(runs: Sequence[Settings]) -> list[tuple[str, int]]:
    """(what a run is called, its place) for each run."""
    return [(_title(settings), at) for at, settings in enumerate(runs)]


def archive(board: Board, folder: Path) -> Path:
    """All pictures of a comparison and its numbers as one zip in `folder`; the settings stand inside each picture."""
    path = folder / f"negguide-{slug(board.settings.prompt, 30)}-{board.settings.seed}.zip"
    numbers = {result.label: in_json_types(result, board) for result in board.results}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:  # a PNG does not shrink
        for at, result in enumerate(board.results):
            for file in result.files:
                packed.write(file, f"{at}-{slug(result.label, 40)}/{Path(file).name}")
        packed.writestr("numbers.json", json.dumps(numbers, indent=2, ensure_ascii=False))
    return path


def _title(settings: Settings) -> str:
    unwanted = f", no {settings.negatives}" if settings.negatives.strip() else ""
    methods = ", ".join(settings.methods) or "plain"
    return f"{settings.prompt[:60]}{unwanted[:40]} · {methods[:60]} · seed {settings.seed} · {settings.model}"
