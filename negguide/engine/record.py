"""What happened in a run, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from negguide.methods.base import Condition


@dataclass(frozen=True)
class StepRecord:
    """What happened at one step: `passes` in units of one denoiser row per image.

    `index` starts anew in each section of a video that is made in sections.
    """

    index: int
    sigma: float
    timestep: float
    conditions: tuple[Condition, ...]
    passes: float
    methods: tuple[str, ...]
    """Names of the methods that asked for a prediction or changed one."""
    notes: tuple[Mapping[str, Any], ...] = ()
    """What methods have to tell of this step, as JSON types; see `Method`."""
