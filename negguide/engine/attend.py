"""A cross-attention layer asked what it says to the same image tokens with another text.

The layer's own processor and projections answer, on a stand-in for the module that differs in two things: the queries are
those that the running forward has computed already, and the output projection is left to that forward. So another text costs
its keys and values, the first time in a run, and one more attention, and LoRA, IP-Adapters, norms and attention back ends stay
at work.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor

from negguide.pipeline.argument_tree import is_folded


@dataclass
class LayerCall:
    """A running forward of an attention module, as hooks have seen it so far."""

    args: tuple[object, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    queries: Tensor | None = None
    """What `to_q` gave, for all rows; None where it has not been called yet or never is (fused projections)."""
    heard: bool = False
    """Whether the attention's output has come by."""


class TextProjections:
    """What `to_k` and `to_v` of the layers make of a text, kept for a run: it is the same at every step.

    Kept where the projection is a plain linear layer whose weight has not changed and the processor hands it the text itself,
    not something made of it; and up to `LIMIT` bytes in all.
    """

    LIMIT = 1 << 26

    def __init__(self) -> None:
        self._kept: dict[tuple[torch.nn.Module, int], tuple[Tensor, Tensor, int, Tensor]] = {}
        """Projection and identity of a text -> the text, the weight and its version, and what came of them; oldest first."""
        self._bytes = 0

    def stand_ins(self, owner: Any, text: Tensor, given: Tensor) -> dict[str, Callable[[Tensor], Tensor]]:
        """What may stand for the projections of a layer. `given`: `text` in the device and dtype of the layer."""
        if torch.is_grad_enabled():
            return {}
        projections = {name: owner._modules.get(name) for name in ("to_k", "to_v")}
        return {
            name: self._remembering(projection, text, given)
            for name, projection in projections.items()
            if type(projection) is torch.nn.Linear and not _is_watched(projection)
        }

    def _remembering(self, projection: torch.nn.Linear, text: Tensor, given: Tensor) -> Callable[[Tensor], Tensor]:
        weight = projection.weight

        def project(value: Tensor, *args: object, **kwargs: object) -> Tensor:
            if value is not given:
                return projection(value, *args, **kwargs)
            kept = self._kept.get((projection, id(text)))
            if kept is not None and kept[1] is weight and kept[2] == weight._version:
                return kept[3]
            if is_folded(value):
                output = projection(value[:1], *args, **kwargs)
                output = output.expand(value.shape[0], *output.shape[1:])
            else:
                output = projection(value, *args, **kwargs)
            self._keep((projection, id(text)), (text, weight, weight._version, output))
            return output

        return project

    def _keep(self, key: tuple[torch.nn.Module, int], entry: tuple[Tensor, Tensor, int, Tensor]) -> None:
        self._bytes -= 0 if key not in self._kept else _bytes(self._kept.pop(key)[3])
        size = _bytes(entry[3])
        while self._kept and self._bytes + size > self.LIMIT:
            self._bytes -= _bytes(self._kept.pop(next(iter(self._kept)))[3])
        if size <= self.LIMIT:
            self._kept[key] = entry
            self._bytes += size


def _bytes(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes()


def _is_watched(module: torch.nn.Module) -> bool:
    """Whether something else stands in the way of a module's call, or may: hooks, a replaced forward."""
    weight: Any = module.weight
    return bool(
        module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__ or weight.is_inference()
    )


def attend(
    module: torch.nn.Module,
    call: LayerCall,
    text: Tensor,
    rows: slice,
    mask: Tensor | None,
    projected: bool,
    projections: TextProjections | None = None,
) -> Tensor:
    """The output of a cross-attention module for some of its rows, with another text.

    Args:
        module: the layer whose forward is running.
        call: that forward.
        text: (B, L, C) as the layer takes it; the images of an IP-Adapter or an image-to-video model stay beside it.
        rows: which of the forward's rows.
        mask: attention bias of the text, (B, 1, L), or None.
        projected: whether the output projection is applied.
        projections: what keeps the keys and values of a text for the layer's next forward.
    """
    owner: object = getattr(module, "_orig_mod", module)
    cls: Any = type(owner)
    named = {**dict(zip(_names(cls), call.args, strict=False)), **call.kwargs}
    named |= named.pop("cross_attention_kwargs", None) or {}
    count = named["hidden_states"].shape[0]

    def cut(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value[rows] if value.ndim > 1 and value.shape[0] == count else value
        return type(value)(cut(item) for item in value) if type(value) in (list, tuple) else value

    before = named["encoder_hidden_states"]
    arguments = {name: cut(value) for name, value in named.items() if value is not None}
    given = text.to(arguments["hidden_states"])
    if isinstance(before, tuple):
        arguments["encoder_hidden_states"] = (given, *cut(before[1:]))
    elif getattr(owner, "add_k_proj", None) is not None and before.shape[1] > given.shape[1]:
        # An image stands before the text (Wan, image to video).
        image = cut(before)[:, : before.shape[1] - given.shape[1]]
        arguments["encoder_hidden_states"] = torch.cat([image, given], dim=1)
    else:
        arguments["encoder_hidden_states"] = given
    arguments["attention_mask"] = mask
    parts: dict[str, Any] = {} if projections is None else projections.stand_ins(owner, text, given)
    if call.queries is not None:
        parts["to_q"] = _constant(call.queries[rows])
    if not projected:
        parts["to_out"] = behind_attention(owner, _unchanged, dropped=True)
    twin, processor = stand_in(owner, parts), getattr(owner, "processor", None)
    if processor is not None:
        # The module's own forward only hands on what its processor takes, which it looks up anew at each call.
        kind: object = type(processor)
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
def _names(cls: Any) -> tuple[str, ...]:
    """The arguments of a layer's forward by position."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(
        name for name, parameter in inspect.signature(cls.forward).parameters.items() if parameter.kind in kinds
    )[1:]


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
    # Not a slice, which would be a new module.
    behind = tuple(projection)[1:]
    return (first, *(_unchanged if dropped else part for part in behind))


def _constant(value: Tensor) -> Callable[..., Tensor]:
    def given(*args: object, **kwargs: object) -> Tensor:
        return value

    return given


def _unchanged(value: Tensor, *args: object, **kwargs: object) -> Tensor:
    return value
