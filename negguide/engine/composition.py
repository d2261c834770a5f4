"""What `attach` is given: methods as they act on the pipeline at hand, and whether all of it goes together."""

from __future__ import annotations

import math
from collections.abc import Sequence

from negguide.methods.base import Method
from negguide.pipeline.families import Family, rules_of
from negguide.pipeline.intercept import base_class


def composed(methods: Sequence[Method], pipe: object, family: Family) -> tuple[Method, ...]:
    """Methods as they act on a pipeline.

    Args:
        methods: in the order in which they act.
        pipe: the pipeline; the attention layers that are known are those of its own denoisers.
        family: of the pipeline.

    Raises:
        TypeError: something is no method.
        ValueError: two of them exclude each other.
    """
    wrong = [method for method in methods if not isinstance(method, Method)]
    if wrong:
        hint = " (an instance is meant, not the class)" if isinstance(wrong[0], type) else ""
        if isinstance(wrong[0], list | tuple):
            hint = "; give the methods one by one: attach(pipe, *methods)"
        raise TypeError(f"attach takes methods such as PerpNeg(['hat']), got {wrong[0]!r}{hint}")
    parts = [getattr(pipe, name, None) for name in family.denoisers]
    denoisers = [getattr(part, "_orig_mod", part) for part in parts if part is not None]
    kinds = {rule.kind for denoiser in denoisers for rule in rules_of(base_class(denoiser).__name__)}
    chosen = tuple(method.for_layers(kinds) for method in methods)
    for method in chosen:
        method.check_beside([other for other in chosen if other is not method])
    return chosen


def check_takeover(takeover: bool | None, guidance_scale: float | None) -> None:
    """`ValueError`, with the remedy, for a takeover and a scale (see `attach`) that do not go together."""
    if guidance_scale is not None and not math.isfinite(guidance_scale):
        raise ValueError(f"guidance_scale={guidance_scale} is not finite")
    if takeover and guidance_scale is None:
        raise ValueError(
            "takeover=True switches the pipeline's own guidance off: give attach the guidance_scale to use"
        )
    if takeover is False and guidance_scale is not None:
        raise ValueError("guidance_scale= is for takeover; with takeover=False give the scale to the call: pipe(...)")
