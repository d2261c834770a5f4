"""Negation as a constraint on the update (NEGATE, arXiv:2603.06533) beside Perp-Neg, on the pairs of `lab.bench.choose`.

    python -m lab.bench.one_sided                     all variants, one line each; about a minute each
    python -m lab.bench.one_sided "one-sided 1" plain

What guidance adds must not lean towards the negative: `<d_+, u> <= 0` for `u = d_i / |d_i|`. The nearest direction that keeps to it
is `d_+ - max(0, <d_+, u>) u`; nothing changes where it is kept already. Perp-Neg does the opposite: it leaves `d_+` as it is and
subtracts what is perpendicular to it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence

import torch

from lab.bench.choose import BLOCK, Make, line, rows
from lab.bench.pairs import pairs
from negguide import maths
from negguide.methods import Guidance, Negative, PerpNeg, Window
from negguide.methods.negative import Concept, difference, start_from
from negguide.methods.state import RunState

ROUNDS = 8
"""Projections onto the half-spaces of several negatives in turn, which converge to a direction that keeps to all."""


@dataclasses.dataclass(frozen=True)
class OneSided(PerpNeg):
    """`eps_0 + w P(d_+)`, P the projection onto the half-spaces `<d, d_i> <= 0`, `weight` times as far; per sample."""

    def _edit(self, guidance: Guidance, concepts: Sequence[Concept], state: RunState) -> None:
        eps_0 = maths.widen(start_from(guidance, self._origin))
        direction = maths.widen(guidance.direction)
        for _ in range(ROUNDS if len(concepts) > 1 else 1):
            for concept in concepts:
                direction = direction - concept.weight_in(direction) * leaning(
                    direction, difference(guidance, concept, eps_0)
                )
        guidance.direction = direction.to(guidance.cond.dtype)


def leaning(direction: torch.Tensor, towards: torch.Tensor) -> torch.Tensor:
    """The part of `direction` along `towards`, (B, ...) each, per sample; 0 where it points away."""
    return torch.where(maths.dot(direction, towards) > 0, maths.projection(direction, towards), 0.0)


def _subjects() -> Mapping[str, str]:
    """Negative -> what it is a sort of, in the pairs where there is something to remove."""
    return {pair.negative: pair.subject for pair in pairs() if pair.split == "hard"}


def _one_sided(weight: float, until: float = 1.0, anchored: bool = False) -> Make:
    def make(texts: tuple[str, ...]) -> tuple[PerpNeg, ...]:
        anchors = tuple(_subjects()[text] for text in texts) if anchored else None
        return (OneSided([Negative(texts, weight, Window(0, until), instead_of=anchors)]),)

    return make


def _perp_neg(weight: float) -> Make:
    return lambda texts: (PerpNeg([Negative(texts, weight)]),)


VARIANTS: Mapping[str, Make] = {
    "plain": lambda texts: (),
    "perp_neg 1": _perp_neg(1),
    "perp_neg 2": _perp_neg(2),
    "one-sided 0.5": _one_sided(0.5),
    "one-sided 1": _one_sided(1),
    "one-sided 1 until 0.4": _one_sided(1, 0.4),
    "one-sided 1, anchored": _one_sided(1, anchored=True),
    "one-sided 2, anchored": _one_sided(2, anchored=True),
}
"""What is compared; anchored: the negative is counted from its subject, `eps_cat - eps_pet`."""


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"pairs of block {BLOCK}\n| variant | gone and kept | unharmed |\n|---|---:|---:|", flush=True)
    for name in sys.argv[1:] or VARIANTS:
        print(line(name, rows("sd", VARIANTS[name])), flush=True)
