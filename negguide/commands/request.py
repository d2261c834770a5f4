"""What `compare` and `pairs` are asked for, read and checked before a model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from negguide.experiment.inputs import Inputs
    from negguide.experiment.tasks import Request


def read_request(
    model: str,
    methods: str,
    out: Path,
    prompts: Sequence[str] | None,
    prompts_file: Path | None,
    negatives: Sequence[str] | None,
    seeds: str,
    weight: float = 1.0,
    steps: int | None = None,
    guidance: float | None = None,
    size: str | None = None,
    batch: int | None = None,
    takeover: bool = False,
    inputs: Inputs | None = None,
) -> Request:
    """Options of the command line -> a request; what is left out is what the model is used with.

    Raises:
        ValueError: for a text or a combination that cannot be read.
    """
    from negguide.experiment.arms import parse_arms
    from negguide.experiment.defaults import defaults_of
    from negguide.experiment.inputs import NOTHING
    from negguide.experiment.tasks import Request, make_tasks, parse_seeds, parse_size, read_prompts

    defaults = defaults_of(model)
    texts = [*(prompts or ()), *(read_prompts(prompts_file) if prompts_file else ())]
    return Request(
        tasks=make_tasks(texts, negatives or (), weight),
        arms=parse_arms(methods, defaults.watcher),
        seeds=parse_seeds(seeds),
        out=out,
        steps=defaults.steps if steps is None else steps,
        guidance_scale=defaults.guidance_scale if guidance is None else guidance,
        size=parse_size(size),
        batch=defaults.batch if batch is None else batch,
        takeover=takeover,
        inputs=inputs or NOTHING,
    )
