"""Conditionings of ours that a guider holds while it samples, so that ComfyUI prepares them as its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

from .negatives import Conditioning


@contextlib.contextmanager
def lent(guider: Any, conditionings: Mapping[str, Conditioning]) -> Iterator[None]:
    """Inside, `guider.conds` has these too, under names of ours; ComfyUI gives each its `model_conds`."""
    import comfy.sampler_helpers

    for text, conditioning in conditionings.items():
        conds = comfy.sampler_helpers.convert_cond(conditioning)
        guider.conds[name_of(text)] = [{**cond, "prompt_type": "negative"} for cond in conds]
    try:
        yield
    finally:
        for text in conditionings:
            guider.conds.pop(name_of(text), None)


def name_of(text: Any) -> str:
    """The name in `guider.conds` of the conditioning that a made-up text stands for."""
    return f"negguide: {text}"
