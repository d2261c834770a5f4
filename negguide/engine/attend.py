"""A cross-attention layer asked what it says to the same image tokens with another text.

The layer's own processor and projections answer, on a stand-in for the module that differs in two things: the queries are
those that the running forward has computed already, and the output projection is left to that forward. So another text costs
its keys and values and one more attention, and LoRA, IP-Adapters, norms and attention back ends stay at work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor


@dataclass
class LayerCall:
    """A running forward of an attention module, as hooks have seen it so far."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queries: Tensor | None = None
    """What `to_q` gave, for all rows; None where it has not been called yet or never is (fused projections)."""
    heard: bool = False
    """Whether the attention's output has come by."""


def attend(
    module: torch.nn.Module, call: LayerCall, text: Tensor, rows: slice, mask: Tensor | None, projected: bool
) -> Tensor:
    """The output of a cross-attention module for some of its rows, with another text.

    Args:
        module: the layer whose forward is running.
        call: that forward.
        text: (B, L, C) as the layer takes it; the images of an IP-Adapter or an image-to-video model stay beside it.
        rows: which of the forward's rows.
        mask: attention bias of the text, (B, 1, L), or None.
        projected: whether the output projection is applied.
    """
    owner: Any = getattr(module, "_orig_mod", module)
    cls: Any = type(owner)
    named = {**_signature(cls).bind(owner, *call.args, **call.kwargs).arguments}
    named.pop("self", None)
    named |= named.pop("kwargs", {}) | named.pop("cross_attention_kwargs", {})
    count = named["hidden_states"].shape[0]

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows] if value.ndim > 1 and value.shape[0] == count else value
        return type(value)(cut(item) for item in value) if type(value) in (list, tuple) else value

    before = named["encoder_hidden_states"]
    arguments = {name: cut(value) for name, value in named.items() if value is not None}
    text = text.to(arguments["hidden_states"])
    if isinstance(before, tuple):
        arguments["encoder_hidden_states"] = (text, *cut(before[1:]))
    elif getattr(owner, "add_k_proj", None) is not None and before.shape[1] > text.shape[1]:
        # An image stands before the text (Wan, image to video).
        arguments["encoder_hidden_states"] = torch.cat([cut(before)[:, : before.shape[1] - text.shape[1]], text], dim=1)
    else:
        arguments["encoder_hidden_states"] = text
    arguments["attention_mask"] = mask
    queries = None if call.queries is None else call.queries[rows]
    parts: dict[str, Any] = {} if queries is None else {"to_q": _constant(queries)}
    if not projected:
        parts["to_out"] = behind_attention(owner, _unchanged, dropped=True)
    twin, processor = stand_in(owner, parts), getattr(owner, "processor", None)
    if processor is not None:
        # The module's own forward only hands on what its processor takes, which it looks up anew at each call.
        kind: Any = type(processor)
        taken = _parameters(kind)
        output = processor(twin, **{name: value for name, value in arguments.items() if name in taken})
    else:
        output = cls.forward(twin, **arguments)
    result: Tensor = output[0] if isinstance(output, tuple) else output
    return result


def output_projection(module: torch.nn.Module) -> torch.nn.Module | None:
    """The module through which what attention gives becomes the layer's output, None where a layer has none."""
    owner = getattr(module, "_orig_mod", module)
    projection = getattr(owner, "to_out", None) or getattr(owner, "out_layer", None)
    if isinstance(projection, (torch.nn.ModuleList, torch.nn.Sequential)):
        projection = projection[0] if len(projection) else None
    return projection if isinstance(projection, torch.nn.Module) else None


@cache
def _signature(cls: Any) -> inspect.Signature:
    return inspect.signature(cls.forward)


@cache
def _parameters(cls: Any) -> frozenset[str]:
    return frozenset(inspect.signature(cls.__call__).parameters)


def stand_in(module: Any, parts: Mapping[str, Any]) -> Any:
    """A module that shares everything with `module` but the named `parts`, for which callables may stand."""
    twin = object.__new__(type(module))
    twin.__dict__.update(module.__dict__)
    twin.__dict__["_modules"] = dict(module._modules) | {
        name: part for name, part in parts.items() if name in module._modules
    }
    twin.__dict__.update({name: part for name, part in parts.items() if name not in module._modules})
    return twin


def behind_attention(module: Any, first: Callable[..., Tensor], dropped: bool = False) -> Any:
    """What may stand for a module's `to_out`: `first` in the place of the projection, the rest as it is or `dropped`."""
    projection = module._modules["to_out"]
    if isinstance(projection, torch.nn.Linear):
        return first
    return (first, *(_unchanged if dropped else part for part in projection[1:]))


def _constant(value: Tensor) -> Callable[..., Tensor]:
    def given(*args: Any, **kwargs: Any) -> Tensor:
        return value

    return given


def _unchanged(value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return value
