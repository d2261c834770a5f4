"""How a score is shown: its title, how it is written, which direction is good."""

from __future__ import annotations

import dataclasses
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Column:
    """One score. `good`: whether lower or higher is better, or neither. `form`: a format for one number, such as "{:.3f}"."""

    key: str
    title: str
    form: str
    good: Literal["low", "high", ""]
    help: str

    def write(self, value: float | None) -> str:
        """The value as text; a dash where there is none."""
        return "–" if value is None else self.form.format(value)
