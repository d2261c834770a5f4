"""The Toybox's watcher: a small trained `BlipForQuestionAnswering` that says what is on a picture, a half-formed one too.

The folder is a public transformers one: `AutoModelForVisualQuestionAnswering.from_pretrained(watcher_dir())` loads it as well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from negguide.toybox.load import assets_dir
from negguide.watchers.vqa import VisualQuestionAnswering


def watcher_dir() -> Path:
    """The folder of the bundled watcher."""
    return assets_dir() / "toybox" / "watcher"


def load_watcher(folder: Path | str | None = None, **options: Any) -> VisualQuestionAnswering:
    """The watcher of a folder, by default the bundled one, which is also `as_watcher("toybox")`.

    `options`: those of `negguide.watchers.VisualQuestionAnswering`. The model itself is loaded at the first question.

    >>> load_watcher()([picture], [Question("What kind of pet is it?")])
    [[[Answer(text='cat', confidence=0.99)]]]
    """
    return VisualQuestionAnswering(str(folder) if folder is not None else "toybox", **options)
