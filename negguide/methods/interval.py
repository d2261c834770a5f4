"""Interval guidance: guide only at middle noise levels. Choose this for more variety, and for speed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

from negguide.methods.base import Method, Step, Window
from negguide.methods.options import option
from negguide.methods.registry import register
from negguide.methods.step import as_window


@register
@dataclasses.dataclass(frozen=True)
class Interval(Method):
    """Guidance, and so every negative, acts inside `window`; outside, the prediction is the prompt's alone (scale 1).

    `window`: in fractions of sampling, or in sigma: `Window(5.42, 0.28, "sigma")` is the paper's choice for SDXL. A
    pair `(0.1, 0.8)` stands for `Window(0.1, 0.8)`. Neutral: the whole `Window()`. It rules over every other method,
    in whatever order they are attached.
    """

    name: ClassVar[str] = "interval"
    summary: ClassVar[str] = "guides only inside a window of noise levels"
    cost: ClassVar[str] = "saves a pass or more at each step outside the window"
    paper: ClassVar[str] = "arXiv:2404.07724"

    window: Window | Sequence[float] = option(
        default_factory=lambda: Window(0.1, 0.8),
        help="Where guidance acts, in fractions of sampling or in sigma (5.42-0.28sigma is the paper's for SDXL).",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "window", as_window(self.window))

    @property
    def is_neutral(self) -> bool:
        return self.window == Window()

    def guides(self, step: Step) -> bool:
        return as_window(self.window).is_open(step)
