"""What methods remember during one call of the pipeline, as objects with types of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

RunState = dict[str, Any]
"""The state of one run, made anew for each call of the pipeline. `notes` in it is a list that the step's record takes."""

Memory = TypeVar("Memory")


def memory_of(state: RunState, method: object, make: Callable[[], Memory]) -> Memory:
    """What a method remembers in this run.

    Args:
        state: as events hand it to the method.
        method: whose memory it is; another one that shares the state has its own.
        make: makes it when it is first asked for, usually a dataclass with defaults.
    """
    key = f"{type(method).__name__}@{id(method)}"
    if key not in state:
        state[key] = make()
    return cast(Memory, state[key])
