"""Pipelines that share parts, and other threads, for the tests of sharing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import families
from torch import Tensor

from negguide.engine import attach
from negguide.pipeline import intercept


def sibling(pipe: Any, own_scheduler: bool = True) -> Any:
    """Another pipeline on the same parts."""
    parts = dict(pipe.components)
    if own_scheduler:
        parts["scheduler"] = type(pipe.scheduler).from_config(pipe.scheduler.config)
    twin = type(pipe)(**parts, requires_safety_checker=False)
    twin.set_progress_bar_config(disable=True)
    return twin


def first() -> Any:
    return sibling(families.build("sd15"))


def run(pipe: Any, **more: Any) -> Tensor:
    return families.run("sd15", pipe, **more)


def guided(pipe: Any, method: Any, **more: Any) -> Tensor:
    with attach(pipe, method):
        return run(pipe, **more)


def untouched(pipe: Any) -> bool:
    return not any(intercept.is_intercepted(part) for part in (pipe, pipe.unet, pipe.scheduler))


def at(step: int, act: Callable[[], Any]) -> Callable[..., dict[str, Any]]:
    """A callback that does something after one step."""

    def callback(pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
        if i == step:
            act()
        return values

    return callback


class Elsewhere(threading.Thread):
    """Does something in another thread, and keeps what it gave or raised."""

    def __init__(self, act: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._act = act
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._act()
        except BaseException as error:
            self.result = error

    def get(self) -> Any:
        self.join(60)
        return self.result
