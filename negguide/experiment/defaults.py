"""What holds for a model where nobody says otherwise: steps, guidance scale, pictures per call, watcher."""

from __future__ import annotations

import dataclasses

from negguide.names import bundled_model

STEPS = 25
"""Steps of sampling where neither the user nor the model says otherwise."""


@dataclasses.dataclass(frozen=True)
class ModelDefaults:
    """How a model is used. `guidance_scale`: None leaves it to the pipeline; `watcher`: the bundle whose own watcher answers."""

    steps: int = STEPS
    guidance_scale: float | None = None
    batch: int = 1
    watcher: str | None = None


def defaults_of(model: str) -> ModelDefaults:
    """Of a model by its name; a bundled one says itself how it is meant to be called, and is small enough for 8 a call."""
    bundled = bundled_model(model)
    if bundled is None:
        return ModelDefaults()
    watcher = bundled.bundle.name if bundled.bundle.watcher else None
    return ModelDefaults(bundled.sampling.steps, bundled.sampling.guidance_scale, 8, watcher)
