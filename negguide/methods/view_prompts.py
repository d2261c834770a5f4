"""Prompts and negatives for views: a thing from the front, the side, the back, without the view that the model prefers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal

from negguide import maths
from negguide.methods.negative import Negative
from negguide.methods.perp_neg import PerpNeg

VIEWS = ("front", "side", "back")


@dataclasses.dataclass(frozen=True)
class Views:
    """What `views` gives: `prompts` for the call, one for each azimuth, and `negatives` with a text for each prompt."""

    prompts: list[str]
    negatives: tuple[Negative, ...]

    @property
    def method(self) -> PerpNeg:
        """What to attach; neutral where nothing is negated."""
        return PerpNeg(self.negatives or Negative(self.prompts[0], 0.0))


def views(
    text: str,
    azimuth: float | Sequence[float],
    form: Literal["official", "threestudio"] = "official",
    strength: float = 1.0,
    phrase: str = "{text}, {view} view",
) -> Views:
    """A thing seen from several sides in one call: for each azimuth a prompt, and the other views as its negatives (Perp-Neg).

    The weights are those of the paper's 3D part (`negguide.maths.view_weights`). There the prompt is a mixture of two views'
    embeddings; here it is the nearer one's text.

    Args:
        text: what is seen, "a man".
        azimuth: in degrees, 0 front, 90 side, 180 back; one or several.
        form: whose weights, the authors' or threestudio's.
        strength: times all weights; 0 is no negative at all.
        phrase: how a view is said.

    Returns:
        Prompts and method. Passes: 2 and one for each of the method's negatives, which are as few as the weights allow.

    >>> views("a man", (0, 180)).prompts
    ['a man, front view', 'a man, back view']
    """
    angles = [float(azimuth)] if isinstance(azimuth, int | float) else [float(angle) for angle in azimuth]
    if not text.strip() or not angles:
        raise ValueError(f"views need a text and at least one azimuth, not {text!r} and {azimuth!r}")
    if not (math.isfinite(strength) and strength >= 0):
        raise ValueError(f"strength is {strength}; possible: 0 (no negatives) or more")
    if "{text}" not in phrase or "{view}" not in phrase:
        raise ValueError(f"phrase is {phrase!r}; it must have {{text}} and {{view}}")
    said = {view: phrase.format(text=text, view=view) for view in VIEWS}
    prompts, negated = [], []
    for angle in angles:
        weights = maths.view_weights(angle, form)
        prompts.append(said[VIEWS[max(range(3), key=lambda place: weights[place])]])
        weight_of = {"front": -strength * weights.front_negative, "side": -strength * weights.side_negative}
        negated.append({said[view]: weight for view, weight in weight_of.items() if weight > 1e-4})
    others = [{text: w for text, w in own.items() if text != p} for own, p in zip(negated, prompts, strict=True)]
    return Views(prompts, _packed(others))


def _packed(wanted: Sequence[dict[str, float]]) -> tuple[Negative, ...]:
    """Negatives with a text for each prompt: texts of the same weight share one, since each costs a pass over all prompts."""
    packs: list[tuple[float, list[str]]] = []
    for place, own in enumerate(wanted):
        for text, weight in own.items():
            free = (
                texts
                for pack_weight, texts in packs
                if math.isclose(pack_weight, weight, rel_tol=1e-6) and not texts[place]
            )
            texts = next(free, None)
            if texts is None:
                texts = [""] * len(wanted)
                packs.append((weight, texts))
            texts[place] = text
    return tuple(Negative(tuple(texts) if len(texts) > 1 else texts[0], weight) for weight, texts in packs)
