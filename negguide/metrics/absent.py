"""Weights that measures need and that this machine may not have: nothing is ever downloaded while measuring."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any


class Absent(ValueError):
    """A measure's library or weights are not here; the message says what to fetch."""


def require(module: str, measure: str) -> Any:
    """A library of the extra `judges`; `Absent` without it."""
    try:
        return import_module(module)
    except ImportError as error:
        name = module.partition(".")[0].replace("_", "-")
        raise Absent(f"{measure} needs {name} ({error}): pip install 'negguide[judges]'") from error


def checkpoint(url: str, measure: str) -> Path:
    """Where torch.hub keeps what lies at an address; `Absent` when it was never fetched."""
    import torch

    file = Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    if not file.is_file():
        raise Absent(f"{measure} needs the weights {url}: fetch them as {file}")
    return file
