"""What the bench compares: every method over a sweep of strengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from negguide.methods import (
    NAG,
    VSF,
    ContrastiveNegative,
    DynamicNegative,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Recommended,
    Window,
)
from negguide.toybox.load import PIPELINES

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


def _negative_early(texts: Texts, until: float) -> Method:
    return NegativePrompt([Negative(texts, window=Window(0, until))])


def _perp_neg_early(texts: Texts, weight: float) -> Method:
    return PerpNeg([Negative(texts, weight, Window(0, EARLY))])


def _nag(texts: Texts, scale: float) -> Method:
    return NAG([Negative(texts)], scale=scale)


def _nag_early(texts: Texts, scale: float) -> Method:
    return NAG([Negative(texts, window=Window(0, EARLY))], scale=scale)


def _recommended(texts: Texts, weight: float) -> Method:
    return Recommended([Negative(texts, weight)])


def _vsf(texts: Texts, scale: float) -> Method:
    (text,) = set(texts)
    return VSF([text], scale=scale)


TAU = 0.2
EARLY = 0.5
"""Until when the arms act that act early, as a fraction of sampling."""

Sweeps = dict[str, tuple[Callable[[Texts, float], Method], tuple[float, ...], str]]
SWEEPS: Sweeps = {
    "negative": (
        _negative,
        (0.5, 1.0, 1.5),
        "weight where the unconditional stood (1 is the classical negative prompt)",
    ),
    "signed": (_signed, (0.25, 0.5, 1.0), "weight in units of the guidance scale (1: subtracted in full)"),
    "perp_neg": (_perp_neg, (0.5, 1.0, 2.0, 3.0), "weight of the perpendicular part"),
    "ccfg": (_ccfg, (0.5, 1.0, 2.0), f"weight, at tau {TAU}"),
    "dng": (_dng, (0.05, 0.3), "prior probability of the negative, other options at their defaults"),
    "negative early": (_negative_early, (0.4,), "until when, as a fraction of sampling, at weight 1"),
    "perp_neg early": (_perp_neg_early, (2.0, 3.0), f"weight, in the first {EARLY:.0%} of sampling"),
    "nag": (_nag, (2.0, 3.0, 5.0), "scale, beside guidance, other options at the family's"),
    "nag early": (_nag_early, (2.0, 3.0, 4.0, 5.0), f"scale, in the first {EARLY:.0%} of sampling"),
    "recommended": (_recommended, (1.0,), "weight"),
}
"""Each method: how it is made, its strengths from weak to strong, and what the strength means."""

WITHOUT_GUIDANCE: Sweeps = {
    "nag": (_nag, (2.0, 3.0, 5.0, 8.0, 11.0), "scale, other options at their defaults"),
    "vsf": (_vsf, (0.5, 1.0, 1.5, 2.5, 4.0), "scale (1 is a negative weight of -1 as NegPiP writes it)"),
    "nag early": (_nag_early, (3.0, 5.0), f"scale, in the first {EARLY:.0%} of sampling"),
    "recommended": (_recommended, (1.0,), "weight"),
}
"""Those that need no guidance, for the few-step pipeline."""

ONE_TEXT = ("vsf",)
"""Methods that take one negative for all prompts of a call."""


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
        if self.method == "plain":
            return ()
        make, _, _ = {**SWEEPS, **WITHOUT_GUIDANCE}[self.method]
        return (make(texts, self.strength),)


def sweeps(model: str = "sd") -> Sweeps:
    """What is compared on a bundled pipeline."""
    return SWEEPS if PIPELINES[model].guidance_scale > 1 else WITHOUT_GUIDANCE


def reference(model: str = "sd") -> str:
    """The arm that the others are compared with: the classical negative prompt, or NAG as its release sets it."""
    return "negative 1" if PIPELINES[model].guidance_scale > 1 else "nag 3"


def arms(model: str = "sd") -> tuple[Arm, ...]:
    """Plain first, then each method from weak to strong."""
    swept = (Arm(method, strength) for method, (_, strengths, _) in sweeps(model).items() for strength in strengths)
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
