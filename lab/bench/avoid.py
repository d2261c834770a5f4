"""The bench of pictures to avoid: one render of the commonest scene is given, and what comes out must not copy it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from lab.bench.means import Report
from lab.bench.run import Result, Row, models
from lab.generate import generate
from lab.score import SEED_START
from negguide.methods import SPELL, Method, NegToMe
from negguide.toybox.load import PIPELINES
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt
from negguide.toybox.world.render import render
from negguide.toybox.world.sample import sample_scene
from negguide.toybox.world.scene import Scene

SWEEPS: dict[str, tuple[Callable[[Image.Image, float], Method], tuple[float, ...], str]] = {
    "negtome": (
        lambda picture, alpha: NegToMe(picture, alpha),
        (0.9, 1.9, 3.0),
        "alpha, other options at their defaults",
    ),
    "negtome clean": (
        lambda picture, alpha: NegToMe(picture, alpha, noise="clean"),
        (1.9,),
        "alpha, the picture shown without noise",
    ),
    "negtome inverted": (
        lambda picture, alpha: NegToMe(picture, alpha, noise="inverted"),
        (1.9,),
        "alpha, the picture with its inverted noise",
    ),
    "spell": (lambda picture, radius: SPELL(radius, references=picture, within=False), (0.9, 1.2, 1.5), "radius"),
}
"""Each method: how it is made for a picture, its strengths from weak to strong, and what the strength means."""


@dataclass(frozen=True)
class Avoidance:
    """A method at one strength."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "negtome 0.9"."""
        return self.method if self.method == "plain" else f"{self.method} {self.strength:g}"

    def methods(self, picture: Image.Image) -> tuple[Method, ...]:
        """What to attach."""
        return () if self.method == "plain" else (SWEEPS[self.method][0](picture, self.strength),)


def avoidances() -> tuple[Avoidance, ...]:
    """Plain first, then each method from weak to strong."""
    return (Avoidance("plain"), *(Avoidance(name, value) for name, (_, sweep, _) in SWEEPS.items() for value in sweep))


def cases() -> tuple[tuple[str, Scene], ...]:
    """12 prompts that leave kind and colour open, each with the scene to avoid: the commonest kind in the commonest colour."""
    rng = np.random.default_rng(11)
    found = []
    for category, kinds in bias.KINDS.items():
        for place in ("grass", "room"):
            scene = sample_scene(
                rng,
                kind=next(iter(kinds)),
                colour=bias.TOP_COLOUR[category],
                background=place,
                size="large",
                position="center",
                count=1,
                accessories=(),
                view="front",
                style="clean",
            )
            found.append((prompt(category, background=place), scene))
    return tuple(found)


def run_avoidance(
    asked: Sequence[tuple[str, Scene]], seeds: int, model: str, steps: int, scale: float, arm: Avoidance
) -> Result:
    """The pictures of an arm, `seeds` for each case, (N, 64, 64, 3) uint8, and one row per case."""
    pipe, oracle = models(model)
    parts, pictures = [], [Image.fromarray(render(scene)) for _, scene in asked]
    started = time.monotonic()
    for place, ((text, _), picture) in enumerate(zip(asked, pictures, strict=True)):
        first = SEED_START + 90_000 + place * seeds
        made = generate(
            pipe,
            [text] * seeds,
            range(first, first + seeds),
            *arm.methods(picture),
            steps=steps,
            guidance_scale=scale,
            **PIPELINES[model].more,
        )
        parts.append(made)
    images = np.concatenate(parts)
    seconds = (time.monotonic() - started) / len(images)
    about = {"method": arm.method, "strength": arm.strength, "seconds": seconds}
    return images, [{**about, **row} for row in judge(oracle, images, asked, pictures)]


def judge(
    oracle: Any, images: np.ndarray, asked: Sequence[tuple[str, Scene]], pictures: Sequence[Image.Image]
) -> list[Row]:
    """One row per case: CLIP similarity to the picture, share of its kind and colour, prompt match, confidence."""
    from negguide.toybox.clip import load

    judged, each = oracle.judge(images), len(images) // len(asked)
    features = load().images([Image.fromarray(picture) for picture in images])
    avoided = load().images(list(pictures))
    rows = []
    for place, (text, scene) in enumerate(asked):
        part = slice(place * each, (place + 1) * each)
        kind, colour = judged.kind[part] == scene.kind, judged.colour[part] == scene.colour
        rows.append(
            {
                "prompt": text,
                "similarity": float((features[part] @ avoided[place]).mean()),
                "kind": float(kind.mean()),
                "colour": float(colour.mean()),
                "both": float((kind & colour).mean()),
                "match": float(judged.matches(text)[part].mean()),
                "confidence": float(judged.kind_confidence[part].mean()),
            }
        )
    return rows


REPORT = Report(
    name="avoid",
    measures={
        "similarity": "CLIP similarity to it",
        "kind": "its kind",
        "colour": "its colour",
        "both": "both",
        "match": "prompt match",
        "confidence": "oracle confidence",
    },
    meanings={name: meaning for name, (_, _, meaning) in SWEEPS.items()},
    across="match",
    upward=("similarity", "both"),
)
