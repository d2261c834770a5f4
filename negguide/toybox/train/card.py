"""Model cards: a README beside each checkpoint, written from the settings and the measured scores."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from negguide.toybox.train.common import Settings

Scores = Mapping[str, Mapping[str, float]]
"""One column of a table each: what was measured, and on what."""


def hardware() -> str:
    """The processor (or GPU) and the threads that this process computes with."""
    if torch.cuda.is_available():
        return f"one {torch.cuda.get_device_name()}"
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if (info.exists())
        else []
    )
    threads = torch.get_num_threads()
    return f"{names[0] if names else platform.machine()}, {threads} thread{'s' * (threads > 1)}"


def stages_of(work: Path, settings: Mapping[str, Settings]) -> dict[str, tuple[Settings, float]]:
    """Those stages whose state lies in a folder of their name in `work`, each with its wall time in seconds."""
    states = {name: work / name / "state.pt" for name in settings}
    return {
        name: (settings[name], float(torch.load(state, map_location="cpu", weights_only=True)["seconds"]))
        for name, state in states.items()
        if state.exists()
    }


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
    stages: Mapping[str, tuple[Settings, float]],
    tables: Mapping[str, tuple[str, Scores]],
) -> None:
    """Write `README.md` into `folder`.

    Args:
        about: paragraphs of Markdown: what it is, how it is loaded, how it was trained.
        facts: single values (parameters, files).
        stages: for each stage of training its settings and its wall time in seconds.
        tables: for each heading a sentence that says what was measured, and the scores in percent.
    """
    parts = [f"# {title}", about.strip(), "## Facts", "\n".join(f"- {name}: {value}" for name, value in facts.items())]
    parts += [
        "## Training",
        f"Hardware: {hardware()}. torch {torch.__version__}, bf16 autocast, AdamW, averaged weights. "
        "Wall times include whatever else the machine did meanwhile.",
    ]
    for name, (settings, seconds) in stages.items():
        chosen = ", ".join(f"{key} {value}" for key, value in asdict(settings).items() if key != "save_every_s")
        parts.append(f"- {name}: {chosen}; wall time {seconds / 60:.1f} minutes")
    for heading, (sentence, scores) in tables.items():
        parts += [f"## {heading}", sentence.strip(), table(scores)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n")
