"""Methods that only listen inside denoisers: ears, weighers and spies for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from torch import Tensor

from negguide.methods import Condition, Method, Step
from negguide.methods.tokens import Layer, Listen, RunContext, Tokens, Values

ANY: Callable[[Layer], bool] = lambda layer: True  # noqa: E731
CAT = Condition("cat")


@dataclasses.dataclass(frozen=True)
class Listener(Method):
    """Hears every layer, remembers what it heard, changes what `edit` says."""

    name = "ear"
    needs_guidance = False
    edit: Callable[[Tokens], None] = lambda tokens: None
    layers: Callable[[Layer], bool] = ANY
    when: Callable[[Step], bool] = lambda step: True
    ask: dict[str, Any] = dataclasses.field(default_factory=dict)
    heard: list[Tokens] = dataclasses.field(default_factory=list)

    def companions(self) -> tuple[Condition, ...]:
        return (*self.ask.get("companions", ()), *self.ask.get("appended", ()))

    def listens(self, step: Step, context: RunContext, state: dict[str, Any]) -> Listen | None:
        return Listen(self.layers, **self.ask) if self.when(step) else None

    def tokens(self, tokens: Tokens, state: dict[str, Any]) -> None:
        self.heard.append(tokens)
        self.edit(tokens)


@dataclasses.dataclass(frozen=True)
class Weigher(Listener):
    weigh: Callable[[Values], None] = lambda values: None

    def values(self, values: Values, state: dict[str, Any]) -> None:
        self.weigh(values)


@dataclasses.dataclass(frozen=True)
class Spy(Method):
    name = "spy"
    seen: list[tuple[Tensor, Tensor]] = dataclasses.field(default_factory=list)

    def combine(self, guidance: Any, state: dict[str, Any]) -> None:
        self.seen.append((guidance.cond, guidance.plain_base))


def scaled(branch: Any) -> Callable[[Tokens], None]:
    def edit(tokens: Tokens) -> None:
        if branch in tokens:
            tokens[branch] = tokens[branch] * 1.5

    return edit


def same(tokens: Tokens) -> None:
    for branch in tokens.branches:
        tokens[branch] = tokens[branch].clone()
