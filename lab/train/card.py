"""Model cards: a README beside each checkpoint, written from the settings and the measured scores."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lab.train.common import Settings


@dataclass(frozen=True)
class Stage:
    """One training: its settings, its wall time, on what, and a remark where something about it is not exact."""

    settings: Settings
    minutes: float
    hardware: str
    remark: str = ""


Scores = Mapping[str, Mapping[str, float]]
"""One column of a table each: what was measured, and on what."""


def hardware() -> str:
    """The GPU, or the processor."""
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    return f"{os.cpu_count()} cores of {names[0] if names else platform.machine()}"


RECORD = "training.json"
"""Beside the weights: how long each stage took, so that a card can be written again where the training states are gone."""


def stages_of(work: Path, settings: Mapping[str, Settings], folder: Path) -> dict[str, Stage]:
    """The stages whose states lie in folders of their names in `work`; recorded in `folder`, or else read from there.

    A remark in the record stays as long as it is the same training.
    """
    states = {name: work / name / "state.pt" for name in settings}
    record = folder / RECORD
    found: dict[str, Any] = json.loads(record.read_text()) if record.exists() else {}
    for name, state in states.items():
        if state.exists():
            seconds = round(torch.load(state, map_location="cpu", weights_only=True)["seconds"])
            entry = {"minutes": round(seconds / 60, 1), "hardware": hardware()}
            known = found.get(name, {})
            found[name] = {**known, **entry} if known.get("minutes") == entry["minutes"] else entry
    record.write_text(json.dumps(found, indent=1) + "\n")
    return {name: Stage(settings[name], **found[name]) for name in settings if name in found}


def table(scores: Scores) -> str:
    """A Markdown table: a row per quantity, a column per set of pictures."""
    columns = list(scores)
    rows = list(dict.fromkeys(name for column in scores.values() for name in column))
    lines = [f"| % | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    for row in rows:
        lines.append(f"| {row} | {' | '.join(str(scores[column].get(row, '')) for column in columns)} |")
    return "\n".join(lines)


def write_card(
    folder: Path,
    title: str,
    about: str,
    facts: Mapping[str, Any],
    stages: Mapping[str, Stage],
    tables: Mapping[str, tuple[str, Scores]],
) -> None:
    """Write `README.md` into `folder`.

    Args:
        about: paragraphs of Markdown: what it is, how it is loaded, how it was trained.
        facts: single values (parameters, files).
        stages: what was trained, one after the other.
        tables: for each heading a sentence that says what was measured, and the scores in percent.
    """
    parts = [f"# {title}", about.strip(), "## Facts", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    parts += [
        "## Training",
        f"torch {torch.__version__}, bf16 autocast, AdamW, averaged weights. Wall times include whatever else the machine "
        "did meanwhile.",
    ]
    for name, stage in stages.items():
        chosen = ", ".join(f"{key} {value}" for key, value in asdict(stage.settings).items() if key != "save_every_s")
        remark = f" ({stage.remark})" * bool(stage.remark)
        parts.append(f"- {name}: {chosen}; wall time {stage.minutes} minutes{remark} on {stage.hardware}")
    for heading, (sentence, scores) in tables.items():
        parts += [f"## {heading}", sentence.strip(), table(scores)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")
