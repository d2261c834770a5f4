"""The bench of views: faces from the side and from the back, which most of the world's pictures do not show."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lab.bench.means import Report
from lab.bench.run import Result, models
from lab.score import SEED_START
from negguide.methods import views
from negguide.toybox.load import PIPELINES
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

AZIMUTHS = (90.0, 180.0)
FIRST_SEED = SEED_START + 260_000


@dataclass(frozen=True)
class Looking:
    """A way to ask for views: by the prompt alone, or with the other views as negatives at a strength."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "views 1"."""
        return f"{self.method} {self.strength:g}" if self.strength else self.method


def lookings() -> tuple[Looking, ...]:
    """The prompt alone, which is called plain, then each form of the weights from weak to strong."""
    forms = [Looking(name, strength) for name in ("official", "threestudio") for strength in (0.5, 1.0, 2.0)]
    return (Looking("plain"), *forms)


def texts() -> tuple[str, ...]:
    """Of a face, alone and on every background."""
    return tuple(prompt("face", background=place) for place in (None, *bias.BACKGROUNDS))


def run_looking(seeds: int, model: str, steps: int, scale: float, arm: Looking) -> Result:
    """The pictures of an arm, (N, H, W, 3) uint8, and a row per text and view with its `seeds` pictures."""
    from negguide.engine import attach

    pipe, oracle = models(model)
    cases = [(text, azimuth) for azimuth in AZIMUTHS for text in texts()]
    wanted = [views(text, azimuth).prompts[0] for text, azimuth in cases]
    parts, started = [], time.monotonic()
    for place, (text, azimuth) in enumerate(cases):
        first = FIRST_SEED + place * seeds
        form: Any = "official" if arm.method == "plain" else arm.method
        found = views(text, azimuth, form, arm.strength)
        with ExitStack() as stack:
            if found.negatives:
                stack.enter_context(attach(pipe, found.method))
            made = pipe(
                found.prompts * seeds,
                num_inference_steps=steps,
                guidance_scale=scale,
                generator=[torch.Generator().manual_seed(seed) for seed in range(first, first + seeds)],
                output_type="np",
                **PIPELINES[model].more,
            ).images
        parts.append((made * 255).round().astype(np.uint8))
    images = np.concatenate(parts)
    seconds = (time.monotonic() - started) / len(images)
    judged = oracle.judge(images)
    rows = []
    for place, (text, _) in enumerate(cases):
        part = slice(place * seeds, (place + 1) * seeds)
        rows.append(
            {
                "method": arm.method,
                "strength": arm.strength,
                "seconds": seconds,
                "prompt": wanted[place],
                "right": float(judged.matches(wanted[place])[part].mean()),
                "view": float((judged.view[part] == wanted[place].split(", ")[-1].removesuffix(" view")).mean()),
                "front": float((judged.view[part] == "front").mean()),
                "rest": float(judged.matches(text)[part].mean()),
            }
        )
    return images, rows


REPORT = Report(
    name="views",
    measures={
        "right": "all that was asked",
        "view": "the view asked for",
        "front": "seen from the front",
        "rest": "the rest of the prompt",
    },
    meanings={
        "official": "times the weights of the authors' 3D code",
        "threestudio": "times those of threestudio",
    },
    across="rest",
    upward=("view", "right"),
    compared=("view", "front", "rest"),
)
