"""The bench of negatives that watch: does a watcher drive pictures away from the commonplace, and does a guard guard?

*Creative*: open prompts ("a pet"), of which most pictures would show the dominant kind. *Guard*: a thing that some
pictures would show is watched for; the pictures that would not show it must stay as they are.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from lab.bench.means import Report
from lab.bench.run import Result, Row, models, watcher
from lab.score import SEED_START
from negguide.methods import AdaptiveNegatives, Method, Negative, NegativePrompt, Window
from negguide.methods.adaptive.policy import Held, Sight
from negguide.metrics.diversity import vendi
from negguide.metrics.novelty import total_variance
from negguide.toybox.load import PIPELINES
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

GROUP = 8
"""Pictures of each open prompt."""
BATCH = 32
SURE = 0.75
FIRST_SEED, OTHER_SEED, GUARD_SEED = SEED_START + 200_000, SEED_START + 210_000, SEED_START + 220_000


@dataclass(frozen=True)
class Trial:
    """A way to make the pictures, at one strength; `part` of the bench is "creative" or "guard"."""

    method: str
    strength: float = 0.0
    part: str = "creative"

    @property
    def name(self) -> str:
        """As in the tables: "creative 1"."""
        return f"{self.method} {self.strength:g}" if self.strength else self.method


MEANINGS: Mapping[str, str] = {
    "creative": "weight; every answer is kept, and replaces the unconditional",
    "creative perp_neg": "weight, acting as Perp-Neg",
    "static": "weight of a fixed list, the two commonest kinds",
    "replay": "weight of the lists that `creative 1` ended with for other seeds of the same prompt, from the first step on",
    "forgetful": "weight; only what is seen at the moment is negated",
    "early": "weight; negatives act in the first 40 % only",
    "guard": "weight, all other options at their defaults",
    "guard signed": "weight; signed, at the moments when the thing is seen, looks at 12, 36 and 60 %, every sighting counts",
    "guard signed sure": f"the same, and only what is seen with a confidence of at least {SURE} counts",
}
_SIGNED = {"kind": "signed", "looks": (0.12, 0.36, 0.6)}
GUARDS: Mapping[str, Mapping[str, Any]] = {
    "guard": {},
    "guard signed": {**_SIGNED, "min_confidence": 0.0},
    "guard signed sure": {**_SIGNED, "min_confidence": SURE},
}
"""What is compared as a guard -> its options."""


def trials() -> tuple[Trial, ...]:
    """Plain first, then each method from weak to strong; the guard's own two parts at the end."""
    swept = {"creative": (0.5, 1.0), "creative perp_neg": (1.0,), "static": (1.0,), "replay": (1.0,)}
    more = {"forgetful": (1.0,), "early": (1.0, 1.5, 2.0)}
    return (
        Trial("plain"),
        *(Trial(name, weight) for name, weights in (swept | more).items() for weight in weights),
        Trial("unguarded", part="guard"),
        Trial("guard", 1.0, "guard"),
        Trial("guard signed", 1.0, "guard"),
        *(Trial("guard signed sure", weight, "guard") for weight in (1.0, 1.5)),
    )


def prompts() -> tuple[str, ...]:
    """12 prompts that leave the kind open: "a pet", "a pet on grass", ..."""
    return tuple(prompt(category, background=place) for category in bias.CATEGORIES for place in (None, "grass"))


def watched() -> tuple[tuple[str, str], ...]:
    """(prompt, what is watched for) of the guard: five often there, three near misses, three rarely there."""
    return (
        ("a pet on grass", "cat"),
        ("a vehicle on snow", "car"),
        ("a fruit on sand", "apple"),
        ("a building at night", "house"),
        ("a face with a hat in a room", "glasses"),
        ("a dog on sand", "cat"),
        ("a bus on grass", "car"),
        ("a castle on snow", "house"),
        ("a face in a room", "glasses"),
        ("a face on grass", "hat"),
        ("a vehicle on sand", "watermark"),
    )


def latest(sight: Sight) -> tuple[Held, ...]:
    """The policy that forgets: what is seen now, less the prompt's words."""
    seen = {one.text for one in sight.seen}
    return (*(one for one in sight.held if one.text in seen), *sight.new)


def run_trial(seeds: int, model: str, steps: int, scale: float, trial: Trial) -> Result:
    """Pictures (N, 64, 64, 3) uint8 of a trial, and a row per open prompt, or per watched case with `seeds` pictures."""
    started = time.monotonic()
    if trial.part == "guard":
        images = _guarded(trial, seeds, model, steps, scale)
        plain = _guarded(Trial("unguarded", part="guard"), seeds, model, steps, scale)
        rows = judge_guard(images, plain, seeds)
    else:
        images, lists = _creative(trial, model, steps, scale, FIRST_SEED)
        rows = judge(images, prompts())
        rows = [row | {"lists": lists[place * GROUP :][:GROUP]} for place, row in enumerate(rows)]
    about = {"part": trial.part, "method": trial.method, "strength": trial.strength}
    seconds = (time.monotonic() - started) / len(images)
    return images, [{**about, "seconds": seconds, **row} for row in rows]


@cache
def _creative(trial: Trial, model: str, steps: int, scale: float, first: int) -> tuple[np.ndarray, list[list[str]]]:
    """The pictures of the open prompts, and the negatives that each ended with."""
    texts = [text for text in prompts() for _ in range(GROUP)]
    fixed: list[list[str]] = [[] for _ in texts]
    if trial.method == "static":
        commonest = {category: list(kinds)[:2] for category, kinds in bias.KINDS.items()}
        fixed = [next(list(kinds) for category, kinds in commonest.items() if category in text) for text in texts]
    elif trial.method == "replay":
        fixed = _creative(Trial("creative", 1.0), model, steps, scale, OTHER_SEED)[1]
    images, lists = [], []
    for start in range(0, len(texts), BATCH):
        part = slice(start, start + BATCH)
        methods = _methods(trial, fixed[part])
        made, found = _make(model, texts[part], range(first, first + len(texts))[part], methods, steps, scale)
        images.append(made)
        lists += found or fixed[part]
    return np.concatenate(images), lists


def _methods(trial: Trial, fixed: Sequence[Sequence[str]]) -> tuple[Method, ...]:
    """What to attach for a batch; `fixed`: lists of negatives of its pictures, where they do not depend on what is seen."""
    options: dict[str, dict[str, Any]] = {
        "creative": {},
        "creative perp_neg": {"kind": "perp_neg"},
        "forgetful": {"policy": latest, "kind": "replace"},
        "early": {"window": Window(0.0, 0.4)},
    }
    if trial.method == "plain":
        return ()
    if trial.method in options:
        return (AdaptiveNegatives(watcher(), weight=trial.strength, **options[trial.method]),)
    return (NegativePrompt(Negative(tuple(", ".join(texts) for texts in fixed), trial.strength)),)


def _make(
    model: str, texts: Sequence[str], seeds: Sequence[int], methods: Sequence[Method], steps: int, scale: float
) -> tuple[np.ndarray, list[list[str]]]:
    """Pictures of one call, and the last negatives of each if a watcher chose them."""
    from contextlib import ExitStack

    from negguide.engine import attach

    pipe, _ = models(model)
    lists: list[list[str]] = []
    with ExitStack() as stack:
        attached = stack.enter_context(attach(pipe, *methods)) if methods else None
        made = pipe(
            list(texts),
            num_inference_steps=steps,
            guidance_scale=scale,
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            output_type="np",
            **PIPELINES[model].more,
        ).images
        for note in (note for record in attached.trace for note in record.notes) if attached else ():
            if "error" in note:
                raise RuntimeError(
                    f"the look at step {note['looked_at']} was lost ({note['error']}); nothing is scored"
                )
            lists = [row["negatives"] for row in note["images"]]
    return (made * 255).round().astype(np.uint8), lists


@cache
def _guarded(trial: Trial, seeds: int, model: str, steps: int, scale: float) -> np.ndarray:
    """The pictures of the watched cases, without a guard for strength 0; one at a time, so that none can touch another."""
    images = []
    for place, (text, thing) in enumerate(watched()):
        methods: tuple[Method, ...] = ()
        if trial.strength:
            options = GUARDS[trial.method]
            methods = (AdaptiveNegatives(watcher(), "guard", watch=[thing], weight=trial.strength, **options),)
        for seed in range(GUARD_SEED + place * seeds, GUARD_SEED + (place + 1) * seeds):
            images.append(_make(model, [text], [seed], methods, steps, scale)[0])
    return np.concatenate(images)


def judge(images: np.ndarray, asked: Sequence[str]) -> list[Row]:
    """One row per open prompt with `GROUP` pictures each.

    `typicality`: how common the drawn kinds are in the world, relative to the dominant one (1: all are of that); over the
    pictures of the category.
    """
    from negguide.toybox.clip import load

    judged = models()[1].judge(images)
    features = load().images([Image.fromarray(picture) for picture in images])
    rows = []
    for place, text in enumerate(asked):
        part = slice(place * GROUP, (place + 1) * GROUP)
        category = next(name for name in bias.CATEGORIES if name in text)
        common = bias.KINDS[category]
        kinds = Counter(judged.kind[part])
        shares = np.array(list(kinds.values())) / GROUP
        valid = [kind for kind in judged.kind[part] if kind in common]
        rows.append(
            {
                "prompt": text,
                "dominant": kinds[next(iter(common))] / GROUP,
                "kinds": len(set(valid)),
                "entropy": float(-(shares * np.log2(shares)).sum()),
                "typicality": float(np.mean([common[kind] for kind in valid]) / max(common.values())) if valid else 0.0,
                "variance": total_variance(features[part]),
                "vendi": vendi(features[part]),
                "valid": len(valid) / GROUP,
                "confidence": float(judged.kind_confidence[part].mean()),
            }
        )
    return rows


def judge_guard(images: np.ndarray, plain: np.ndarray, seeds: int) -> list[Row]:
    """One row per picture: is the thing there, is it in the plain picture, are the two equal, is the prompt met?"""
    oracle, rows = models()[1], []
    judged, before = oracle.judge(images), oracle.judge(plain)
    for place, (text, thing) in enumerate(watched()):
        there, was, met = judged.has(thing), before.has(thing), judged.matches(text)
        for at in range(place * seeds, (place + 1) * seeds):
            same = bool((images[at] == plain[at]).all())
            rows.append(
                {
                    "case": f"{text}, {thing}",
                    "there": bool(there[at]),
                    "was": bool(was[at]),
                    "same": same,
                    "met": bool(met[at]),
                }
            )
    return rows


CREATIVE = Report(
    name="adaptive",
    measures={
        "dominant": "dominant kind",
        "kinds": "kinds of 8",
        "entropy": "kind entropy (bits)",
        "typicality": "relative typicality",
        "variance": "CLIP variance",
        "vendi": "Vendi",
        "valid": "category right",
        "confidence": "oracle confidence",
    },
    meanings=MEANINGS,
    across="valid",
    upward=("dominant", "entropy"),
)
