"""What the bench compares: every method over a sweep of strengths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from negguide.methods import ContrastiveNegative, DynamicNegative, Method, Negative, NegativePrompt, PerpNeg

Texts = tuple[str, ...]


@dataclass(frozen=True)
class Arm:
    """A method at one strength; `make` takes one negative text for each prompt of the batch."""

    method: str
    strength: float
    make: Callable[[Texts], tuple[Method, ...]]

    @property
    def name(self) -> str:
        return self.method if self.method == "plain" else f"{self.method} {self.strength:g}"


def _weighted(texts: Texts, weight: float) -> list[Negative]:
    return [Negative(texts, weight=weight)]


def arms() -> tuple[Arm, ...]:
    """Plain first, then each method from weak to strong; what the strength means is said in `STRENGTHS`."""
    return (
        Arm("plain", 0.0, lambda texts: ()),
        *(Arm("negative", w, lambda t, w=w: (NegativePrompt(_weighted(t, w)),)) for w in (0.5, 1.0, 1.5)),
        *(Arm("signed", w, lambda t, w=w: (NegativePrompt(_weighted(t, w), mode="signed"),)) for w in (0.25, 0.5, 1.0)),
        *(Arm("perp_neg", w, lambda t, w=w: (PerpNeg(_weighted(t, w)),)) for w in (0.5, 1.0, 1.5, 2.0, 3.0)),
        *(Arm("ccfg", w, lambda t, w=w: (ContrastiveNegative(_weighted(t, w), tau=0.2),)) for w in (0.5, 1.0, 2.0)),
        *(Arm("dng", p, lambda t, p=p: (DynamicNegative(_weighted(t, 1.0), prior=p),)) for p in (0.05, 0.2, 0.5)),
    )


STRENGTHS = {
    "negative": "weight of the negative that stands where the unconditional stood (1 = classical)",
    "signed": "weight, in units of the guidance scale (1 = subtracted in full)",
    "perp_neg": "weight of the perpendicular part",
    "ccfg": "weight, at tau 0.2",
    "dng": "prior probability of the negative, at temperature 0.2",
}
