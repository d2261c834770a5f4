"""How a guard's defaults were chosen: variants on watched cases and seeds that nothing is reported on.

python -m lab.bench.choose_guard                       all variants, one line each; a few minutes each
python -m lab.bench.choose_guard "nag 5, 0.95" chosen
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from lab.bench.run import models
from negguide.engine import attach
from negguide.methods import NAG, AdaptiveNegatives
from negguide.toybox.load import PIPELINES

FIRST_SEED, EACH = 9_000_000, 24
OFTEN = (
    ("a pet on snow", "cat"),
    ("a vehicle at night", "car"),
    ("a fruit in a room", "apple"),
    ("a face with a hat on snow", "glasses"),
    ("a building on sand", "house"),
)
NEVER = (
    ("a dog on snow", "cat"),
    ("a rabbit at night", "cat"),
    ("a bus at night", "car"),
    ("a castle on sand", "house"),
    ("a tree in a room", "flower"),
    ("a banana in a room", "apple"),
    ("a face with a scarf on snow", "glasses"),
)
"""(prompt, what is watched for): near misses but for the last."""
CASES = OFTEN + NEVER
LATE = (0.24, 0.36, 0.6)
_EARLY = {"kind": "signed", "looks": (0.12, 0.36, 0.6)}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "signed, every sighting": {**_EARLY, "min_confidence": 0.0},
    "signed, 0.75": {**_EARLY, "min_confidence": 0.75},
    "signed, late, 0.97": {"kind": "signed", "looks": LATE, "min_confidence": 0.97},
    "nag 5, 0.95": {"kind": lambda n: NAG([n], scale=5, alpha=0.5), "looks": LATE, "min_confidence": 0.95},
    "nag 5 alpha 1, 0.95": {"kind": lambda n: NAG([n], scale=5, alpha=1), "looks": LATE, "min_confidence": 0.95},
    "recommended, 0.9": {"kind": "recommended", "looks": LATE, "min_confidence": 0.9},
    "recommended, 0.95": {"kind": "recommended", "looks": LATE, "min_confidence": 0.95},
    "recommended, 0.97, four looks": {
        "kind": "recommended",
        "looks": (0.2, 0.28, 0.36, 0.6),
        "min_confidence": 0.97,
    },
    "chosen": {"kind": "recommended", "looks": LATE, "min_confidence": 0.97},
}


def pictures(place: int, options: Mapping[str, Any] | None) -> np.ndarray:
    """The pictures (EACH, H, W, 3) uint8 of a case, watched with these options or, with None, plain."""
    pipe, _ = models("sd")
    usual, (text, thing) = PIPELINES["sd"], CASES[place]
    methods = () if options is None else (AdaptiveNegatives("toybox", "guard", watch=[thing], **options),)
    with attach(pipe, *methods):
        made = pipe(
            [text] * EACH,
            num_inference_steps=usual.steps,
            guidance_scale=usual.guidance_scale,
            generator=[torch.Generator().manual_seed(FIRST_SEED + 100 * place + seed) for seed in range(EACH)],
            output_type="np",
            **usual.more,
        ).images
    return (made * 255).round().astype(np.uint8)


def counts(place: int, plain: np.ndarray, guarded: np.ndarray) -> np.ndarray:
    """(had it, gone of these, prompt met of these, clean, clean and not touched) of a case.

    Not touched: nearly equal, since pictures of a batch that others share differ by rounding; a negative changes far more.
    """
    text, thing = CASES[place]
    oracle = models("sd")[1]
    was, there, met = (
        oracle.judge(plain).has(thing),
        oracle.judge(guarded).has(thing),
        oracle.judge(guarded).matches(text),
    )
    away = np.abs(plain.astype(int) - guarded.astype(int)).reshape(len(plain), -1).max(axis=1)
    same = away <= 3
    return np.array([was.sum(), (was & ~there).sum(), (was & met).sum(), (~was).sum(), (~was & same).sum()])


def line(name: str, found: np.ndarray) -> str:
    """A line of the table: removed, prompt met where it was there, untouched where it was not; percent."""
    had, gone, met, clean, same = (int(value) for value in found)
    return f"| {name} | {100 * gone / had:.0f} | {100 * met / had:.0f} | {100 * same / clean:.1f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    before = [pictures(place, None) for place in range(len(CASES))]
    for name in sys.argv[1:] or VARIANTS:
        every = [counts(place, before[place], pictures(place, VARIANTS[name])) for place in range(len(CASES))]
        print(line(name, np.sum(every, axis=0)), flush=True)
