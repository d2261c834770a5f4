"""A negative model by a name that only tests know: the pipeline's own denoiser, spoilt, of whatever family."""

from __future__ import annotations

from typing import Any

import torch

from negguide.engine import other_weights

SPOILT = "a spoilt twin"

_known: dict[int, tuple[torch.nn.Module, torch.nn.Module]] = {}
_stock = other_weights.model_for


def _model_for(weights: Any, denoiser: torch.nn.Module, name: str) -> torch.nn.Module:
    if weights.model != SPOILT:
        return _stock(weights, denoiser, name)
    if id(denoiser) not in _known:
        twin: Any = type(denoiser).from_config(denoiser.config)  # type: ignore[attr-defined]
        twin.load_state_dict({key: 0.9 * value for key, value in denoiser.state_dict().items()})
        like = next(denoiser.parameters())
        _known[id(denoiser)] = denoiser, twin.to(like.device, like.dtype).eval()
    return _known[id(denoiser)][1]


if other_weights.model_for.__name__ == "model_for":
    other_weights.model_for = _model_for
