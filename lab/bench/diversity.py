"""The diversity bench: eight pictures for each open prompt, under methods that spread them.

For "a pet on grass": how many kinds appear, how different are the pictures, and are they still what was asked?
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from lab.bench.means import Report
from lab.bench.run import Result, Row, models, watcher
from lab.score import SEED_START
from negguide.methods import CADS, SPELL, AdaptiveNegatives, Interval, Method, NegToMe, ParticleGuidance, Window
from negguide.metrics.diversity import mss, vendi
from negguide.toybox.load import PIPELINES
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

GROUP = 8
"""Pictures of each prompt."""
PROMPTS_PER_CALL = 4

ALPHA = "alpha, other options at their defaults"
WATCHED = "weight of what the Toybox's watcher names"
SWEEPS: dict[str, tuple[Callable[[float], Method], tuple[float, ...], str]] = {
    "negtome first": (lambda alpha: NegToMe("first", alpha), (0.5, 0.9, 1.9, 3.0), ALPHA),
    "negtome all": (lambda alpha: NegToMe("all", alpha), (0.5, 0.9, 1.9, 3.0), ALPHA),
    "negtome release": (
        lambda alpha: NegToMe("all", alpha, match="release"),
        (0.5, 0.9, 1.9),
        "alpha, among all, matched as the reference code does",
    ),
    "spell": (lambda radius: SPELL(radius), (0.6, 0.9, 1.2), "radius"),
    "particle_guidance": (lambda scale: ParticleGuidance(scale), (0.1, 0.2, 0.4), "scale"),
    "cads": (lambda scale: CADS(scale), (0.1, 0.25, 0.5), "scale of the noise"),
    "creative": (lambda weight: AdaptiveNegatives(watcher(), weight=weight), (1.0,), WATCHED),
    "creative early": (
        lambda weight: AdaptiveNegatives(watcher(), weight=weight, kind="perp_neg", window=Window(0, 0.4)),
        (3.0,),
        f"{WATCHED}, as Perp-Neg in the first 40 %",
    ),
    "distinct": (lambda weight: AdaptiveNegatives(watcher(), "distinct", weight=weight), (1.0,), WATCHED),
    "surplus": (lambda weight: AdaptiveNegatives(watcher(), "surplus", weight=weight), (1.0,), WATCHED),
    "surplus perp_neg": (
        lambda weight: AdaptiveNegatives(watcher(), "surplus", weight=weight, kind="perp_neg", window=Window(0, 0.5)),
        (2.0, 3.0),
        f"{WATCHED}, as Perp-Neg in the first half",
    ),
    "interval": (lambda start: Interval((start, 1.0)), (0.1, 0.2, 0.3), "fraction of sampling before guidance begins"),
}
"""Each method: how it is made, its strengths from weak to strong, and what the strength means."""


@dataclass(frozen=True)
class Spread:
    """A method at one strength, or the plain pipeline at another guidance scale."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "negtome all 0.9"."""
        return self.method if self.method == "plain" else f"{self.method} {self.strength:g}"

    def methods(self) -> tuple[Method, ...]:
        """What to attach."""
        return (SWEEPS[self.method][0](self.strength),) if self.method in SWEEPS else ()

    def scale(self, usual: float) -> float:
        """The guidance scale of its calls."""
        return self.strength if self.method == "guidance" else usual


def spreads() -> tuple[Spread, ...]:
    """Plain, lower guidance (the simplest way to more variety), then each method from weak to strong."""
    lower = [Spread("guidance", scale) for scale in (4.0, 3.0, 2.0)]
    return (
        Spread("plain"),
        *lower,
        *(Spread(name, value) for name, (_, sweep, _) in SWEEPS.items() for value in sweep),
    )


def prompts() -> tuple[str, ...]:
    """24 prompts that leave the kind open: "a pet", "a pet on grass", ..."""
    return tuple(
        prompt(category, background=place) for category in bias.CATEGORIES for place in (None, "grass", "night", "room")
    )


def run_spread(asked: Sequence[str], model: str, steps: int, scale: float, spread: Spread) -> Result:
    """The pictures of an arm, `GROUP` for each prompt, (N, 64, 64, 3) uint8, and one row per prompt."""
    from contextlib import ExitStack

    from negguide.engine import attach

    pipe, oracle = models(model)
    parts, passes = [], 0.0
    started = time.monotonic()
    with ExitStack() as stack:
        methods = spread.methods()
        attached = stack.enter_context(attach(pipe, *methods)) if methods else None
        for start in range(0, len(asked), PROMPTS_PER_CALL):
            texts = list(asked[start : start + PROMPTS_PER_CALL])
            first = SEED_START + 50_000 + start * GROUP
            generators = [torch.Generator().manual_seed(first + place) for place in range(len(texts) * GROUP)]
            made = pipe(
                texts,
                num_images_per_prompt=GROUP,
                num_inference_steps=steps,
                guidance_scale=spread.scale(scale),
                generator=generators,
                output_type="np",
                **PIPELINES[model].more,
            ).images
            parts.append((made * 255).round().astype(np.uint8))
            passes += attached.passes if attached else steps * (2 if spread.scale(scale) > 1 else 1)
    images = np.concatenate(parts)
    seconds = (time.monotonic() - started) / len(images)
    about = {"method": spread.method, "strength": spread.strength, "seconds": seconds, "passes": passes / len(parts)}
    return images, [{**about, **row} for row in judge(oracle, images, asked)]


def judge(oracle: Any, images: np.ndarray, asked: Sequence[str]) -> list[Row]:
    """One row per prompt.

    The world's dominant kind of the category, kinds, entropy (bits), Vendi score, mean pairwise similarity, how many are of the
    category at all, match and confidence.
    """
    from negguide.toybox.clip import load

    judged = oracle.judge(images)
    features = load().images([Image.fromarray(picture) for picture in images])
    rows = []
    for place, text in enumerate(asked):
        part = slice(place * GROUP, (place + 1) * GROUP)
        common = bias.KINDS[next(name for name in bias.CATEGORIES if name in text)]
        kinds = Counter(judged.kind[part])
        shares = np.array(list(kinds.values())) / GROUP
        rows.append(
            {
                "prompt": text,
                "dominant": kinds[next(iter(common))] / GROUP,
                "kinds": len(set(kinds) - {"none"}),
                "entropy": float(-(shares * np.log2(shares)).sum()),
                "vendi": vendi(features[part]),
                "mss": mss(features[part]),
                "valid": sum(kinds[kind] for kind in common) / GROUP,
                "match": float(judged.matches(text)[part].mean()),
                "confidence": float(judged.kind_confidence[part].mean()),
            }
        )
    return rows


REPORT = Report(
    name="diversity",
    measures={
        "dominant": "dominant kind",
        "kinds": "kinds of 8",
        "entropy": "kind entropy (bits)",
        "vendi": "Vendi",
        "mss": "pairwise similarity",
        "valid": "category right",
        "match": "prompt match",
        "confidence": "oracle confidence",
        "passes": "passes",
    },
    compared=("dominant", "entropy", "vendi", "match"),
    meanings={
        **{name: meaning for name, (_, _, meaning) in SWEEPS.items()},
        "guidance": "the plain pipeline at that guidance scale",
    },
    across="match",
    upward=("entropy", "vendi"),
)
