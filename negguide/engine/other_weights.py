"""Predictions by other weights: an adapter that is at work in these alone, or another denoiser."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from negguide.methods.base import Method
from negguide.methods.step import OtherWeights
from negguide.pipeline.intercept import base_class
from negguide.types import PipelineLike


@contextmanager
def at_rest(pipe: PipelineLike, methods: Sequence[Method]) -> Iterator[None]:
    """Within the block no part of the pipeline uses the adapters that methods want in single predictions only.

    Raises:
        ValueError: an adapter that the denoiser does not have; those that it has are named.
    """
    asked = [condition.weights for method in methods for condition in method.prompts()]
    names = {weights.adapter for weights in asked if weights is not None and weights.adapter is not None}
    with ExitStack() as stack:
        if names:
            parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
            adapters_there = {name for part in parts for layer in _layers(part) for name in _loaded(layer)}
            if missing := sorted(names - adapters_there):
                there = (
                    f"loaded: {', '.join(sorted(adapters_there))}"
                    if adapters_there
                    else "none is loaded (pipe.load_lora_weights)"
                )
                raise ValueError(f"the pipeline has no adapter {missing[0]!r}; {there}")
            for part in parts:
                for layer in _layers(part):
                    stack.enter_context(_with(layer, [name for name in _active(layer) if name not in names]))
        yield


@contextmanager
def at_work(module: torch.nn.Module, weights: OtherWeights) -> Iterator[None]:
    """Within the block a denoiser has the adapter beside those that it has anyway."""
    with ExitStack() as stack:
        for layer in _layers(module):
            if weights.adapter in _loaded(layer):
                stack.enter_context(_with(layer, [*_active(layer), weights.adapter], weights))
        yield


def model_for(weights: OtherWeights, denoiser: torch.nn.Module, name: str) -> torch.nn.Module:
    """The other denoiser; one that is named is read at its first use, to the device and dtype of the pipeline's.

    Args:
        weights: with `model`.
        denoiser: the pipeline's.
        name: which of its parts that is, "unet" for instance.
    """
    if isinstance(weights.model, torch.nn.Module):
        return weights.model
    like = next(denoiser.parameters())
    return loaded(str(weights.model), base_class(denoiser), name, like.dtype, like.device)


@lru_cache(maxsize=4)
def loaded(source: str, kind: Any, name: str, dtype: torch.dtype, device: torch.device) -> torch.nn.Module:
    """A denoiser from its folder or hub id, or from those of a pipeline that has it."""
    inside = (Path(source) / "model_index.json").is_file() or not Path(source).exists()
    try:
        model = kind.from_pretrained(source, subfolder=name, torch_dtype=dtype) if inside else None
    except OSError:
        model = None
    model = kind.from_pretrained(source, torch_dtype=dtype) if model is None else model
    denoiser: torch.nn.Module = model.to(device).eval()
    return denoiser


def _layers(module: torch.nn.Module) -> Iterator[object]:
    """The layers of a module that adapters act in."""
    return (layer for layer in module.modules() if hasattr(layer, "_active_adapter") and hasattr(layer, "scaling"))


def _active(layer: Any) -> list[str]:
    active = layer._active_adapter
    return [] if getattr(layer, "_disable_adapters", False) else [active] if isinstance(active, str) else list(active)


def _loaded(layer: Any) -> list[str]:
    return list(layer.scaling)


@contextmanager
def _with(layer: Any, names: list[str], weights: OtherWeights | None = None) -> Iterator[None]:
    """Within the block an adapter layer uses these adapters, that of `weights` as strong as they say."""
    if merged := getattr(layer, "merged_adapters", []):
        raise ValueError(f"the adapter {merged[0]!r} is fused into the model: call pipe.unfuse_lora() first")
    active, disabled = layer._active_adapter, getattr(layer, "_disable_adapters", False)
    scaling = dict(layer.scaling)
    try:
        layer._active_adapter, layer._disable_adapters = names, False
        if weights is not None:
            layer.scaling[weights.adapter] = scaling[weights.adapter or ""] * weights.weight
        yield
    finally:
        layer._active_adapter, layer._disable_adapters = active, disabled
        layer.scaling.update(scaling)
