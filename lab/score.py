"""How good the generator is: does it draw what was asked, and does it have the biases of its world?"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.generate import generate
from lab.train.data import BENCH
from negguide.toybox.load import PIPELINES
from negguide.toybox.oracle import Oracle
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

if TYPE_CHECKING:
    from negguide.types import Pipeline

SEED_START = 7_000_000
"""Seeds of scoring start here, far from any that a test or an example uses."""


def specified(count: int, seed: int = 0) -> list[dict[str, str]]:
    """`count` full specifications of kind, colour and background, uniform over all kinds."""
    rng = np.random.default_rng([BENCH, seed])
    kinds = list(bias.CATEGORY_OF)
    return [
        {
            "kind": kinds[place % len(kinds)],
            "colour": str(rng.choice(bias.COLOURS)),
            "background": str(rng.choice(list(bias.BACKGROUNDS))),
        }
        for place in range(count)
    ]


def score_prompts(pipe: Pipeline, oracle: Oracle, count: int = 500, **call: Any) -> dict[str, float]:
    """Share of pictures with the asked kind, colour and background, for fully specified prompts."""
    asked = specified(count)
    prompts = [prompt(row["kind"], colour=row["colour"], background=row["background"]) for row in asked]
    images = generate(pipe, prompts, range(SEED_START, SEED_START + count), **call)
    judged = oracle.judge(images)
    scores: dict[str, float] = {}
    right = {
        name: np.array([row[name] for row in asked]) == np.array(getattr(judged, name))
        for name in ("kind", "colour", "background")
    }
    for name, hits in right.items():
        scores[name] = round(float(hits.mean()), 4)
    scores["all three"] = round(float(np.logical_and.reduce(list(right.values())).mean()), 4)
    return scores


def score_bias(pipe: Pipeline, oracle: Oracle, count: int = 100, **call: Any) -> dict[str, dict[str, float]]:
    """Kinds drawn for "a <category>": their shares among `count` pictures, "none" for what is not recognisable."""
    shares = {}
    for place, category in enumerate(bias.CATEGORIES):
        start = SEED_START + 100_000 * (place + 1)
        images = generate(pipe, [prompt(category)] * count, range(start, start + count), **call)
        kinds = Counter(oracle.judge(images).kind)
        shares[category] = {kind: round(number / count, 4) for kind, number in kinds.most_common()}
    return shares


def score_generator(pipe: Pipeline, oracle: Oracle, name: str = "sd", count: int = 500, **call: Any) -> dict[str, Any]:
    """Everything that the model card of a generator states.

    Args:
        count: fully specified prompts; three fifths of that are the pictures for "a <category>", of each: 300 where nothing is
            said, so that the 95 % interval of a share reaches at most 6 points to either side.
        call: instead of what is usual for the pipeline of that name.
    """
    usual = PIPELINES[name]
    settings = {"steps": usual.steps, "guidance_scale": usual.guidance_scale, **call}
    call = {**usual.more, **settings}
    shares = score_bias(pipe, oracle, 3 * count // 5, **call)
    dominant = {category: shares[category].get(next(iter(kinds)), 0.0) for category, kinds in bias.KINDS.items()}
    valid = {
        category: round(sum(row.get(kind, 0.0) for kind in bias.KINDS[category]), 4) for category, row in shares.items()
    }
    return {
        "settings": settings,
        "pictures": {"of each category": 3 * count // 5, "fully specified": count},
        "prompt match": score_prompts(pipe, oracle, count, **call),
        "dominant kind under 'a <category>'": dominant,
        "right category under 'a <category>'": valid,
        "kinds under 'a <category>'": shares,
    }
