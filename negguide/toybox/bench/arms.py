"""What the bench compares: every method over a sweep of strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from negguide.methods import ContrastiveNegative, DynamicNegative, Method, Negative, NegativePrompt, PerpNeg

Texts = tuple[str, ...]


def _negative(texts: Texts, weight: float) -> Method:
    return NegativePrompt([Negative(texts, weight)])


def _signed(texts: Texts, weight: float) -> Method:
    return NegativePrompt([Negative(texts, weight)], mode="signed")


def _perp_neg(texts: Texts, weight: float) -> Method:
    return PerpNeg([Negative(texts, weight)])


def _ccfg(texts: Texts, weight: float) -> Method:
    return ContrastiveNegative([Negative(texts, weight)], tau=TAU)


def _dng(texts: Texts, prior: float) -> Method:
    return DynamicNegative([Negative(texts)], prior=prior)


TAU = 0.2
SWEEPS: dict[str, tuple[Callable[[Texts, float], Method], tuple[float, ...], str]] = {
    "negative": (
        _negative,
        (0.5, 1.0, 1.5),
        "weight where the unconditional stood (1 is the classical negative prompt)",
    ),
    "signed": (_signed, (0.25, 0.5, 1.0), "weight in units of the guidance scale (1: subtracted in full)"),
    "perp_neg": (_perp_neg, (0.5, 1.0, 2.0, 3.0), "weight of the perpendicular part"),
    "ccfg": (_ccfg, (0.5, 1.0, 2.0), f"weight, at tau {TAU}"),
    "dng": (_dng, (0.05, 0.3), "prior probability of the negative, other options at their defaults"),
}
"""Each method: how it is made, its strengths from weak to strong, and what the strength means."""


@dataclass(frozen=True)
class Arm:
    """A method at one strength."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "perp_neg 2"."""
        return self.method if self.method == "plain" else f"{self.method} {self.strength:g}"

    def make(self, texts: Texts) -> tuple[Method, ...]:
        """The methods to attach, with one negative text for each prompt of the batch."""
        return () if self.method == "plain" else (SWEEPS[self.method][0](texts, self.strength),)


def arms() -> tuple[Arm, ...]:
    """Plain first, then each method from weak to strong."""
    swept = (Arm(method, strength) for method, (_, strengths, _) in SWEEPS.items() for strength in strengths)
    return (Arm("plain"), *swept)


class Named(Protocol):
    """What is compared in a bench."""

    @property
    def name(self) -> str:
        """As in the tables."""


AnyArm = TypeVar("AnyArm", bound=Named)


def named(names: str | None, possible: Sequence[AnyArm], always: Sequence[str]) -> tuple[AnyArm, ...]:
    """The arms of a comma-separated list, and those `always` needed; all for None. `ValueError` says what is possible."""
    every = {arm.name: arm for arm in possible}
    if names is None:
        return tuple(every.values())
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in every:
            raise ValueError(f"unknown arm {name!r}; possible: {', '.join(every)}")
    return tuple(arm for name, arm in every.items() if name in wanted or name in always)
