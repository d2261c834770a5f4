"""Hooks on the attention layers of one forward: they show image tokens, and the values of text, to the methods that listen."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from negguide.engine.attend import LayerCall, TextProjections, attend, output_projection
from negguide.engine.attention_layers import AttentionLayer, Picture
from negguide.engine.finite import FiniteGuard
from negguide.methods.base import Method, Step
from negguide.methods.state import RunState
from negguide.methods.tokens import Label, Listen, Placement, RunContext, Slots, Tokens, Values
from negguide.pipeline.families import Unsupported


@dataclass
class Listener:
    """A method that listens at this step."""

    method: Method
    state: RunState
    listen: Listen

    @property
    def name(self) -> str:
        return self.method.name or type(self.method).__name__


class ForwardHooks:
    """The hooks of one forward. `set` for each layer before it, `remove` after it."""

    def __init__(
        self,
        step: Step,
        context: RunContext,
        slots: Slots,
        picture: Picture,
        parts: Mapping[int | None, slice],
        guard: FiniteGuard,
        thread: int,
        compiled: bool,
        proven: set[tuple[torch.nn.Module, type]],
        projections: TextProjections,
    ) -> None:
        self._step = step
        self._context = context
        self._slots = slots
        self._picture = picture
        self._parts = parts
        """Where appended texts stand."""
        self._guard = guard
        self._thread = thread
        """Another thread's forward of the same denoiser meets our hooks, and is none of ours."""
        self._kept_out = torch.compiler.disable if compiled else _as_it_is
        """Keeps a hook out of the graphs of a compiled denoiser; doing so for each of them would cost the others time."""
        self._proven = proven
        """Layers whose output projection is known to be called by them, so that what they give is heard; added to."""
        self._projections = projections
        self._asking = False
        """A layer is being asked with another text: nobody hears that."""
        self._handles: list[Any] = []

    def set(self, attention_layer: AttentionLayer, listeners: Sequence[Listener]) -> None:
        """Let methods hear a layer in the forward to come."""
        hear = [listener for listener in listeners if type(listener.method).tokens is not Method.tokens]
        inside = [listener for listener in hear if listener.listen.placement == "attention"]
        projection = output_projection(attention_layer.module) if inside and attention_layer.projects else None
        if projection is not None:
            self._hear_attention(attention_layer, projection, inside)
        behind = [listener for listener in hear if projection is None or listener not in inside]
        if behind:
            self._hear_layer(attention_layer, behind)
        weigh = [listener for listener in listeners if type(listener.method).values is not Method.values]
        if weigh and attention_layer.layer.kind != "self":
            self._hear_values(attention_layer, weigh)

    def remove(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @property
    def _deaf(self) -> bool:
        return self._asking or threading.get_ident() != self._thread

    def _hear_layer(self, attention_layer: AttentionLayer, listeners: Sequence[Listener]) -> None:
        """What the layer gives, after its output projection."""

        def hook(module: torch.nn.Module, args: tuple[Any, ...], *rest: Any) -> object:
            if self._deaf:
                return None
            kwargs, output = rest
            pair = isinstance(output, tuple)
            call = LayerCall(args, kwargs)
            result = self._tokens(attention_layer, listeners, output[0] if pair else output, call, "layer")
            if result is None:
                return None
            return (result, *output[1:]) if pair else result

        self._handles.append(attention_layer.module.register_forward_hook(self._kept_out(hook), with_kwargs=True))

    def _hear_attention(
        self, attention_layer: AttentionLayer, projection: torch.nn.Module, listeners: Sequence[Listener]
    ) -> None:
        """What attention itself gives, before the layer's output projection."""
        call = LayerCall()

        def enter(module: torch.nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
            if not self._deaf:
                call.args, call.kwargs, call.queries = args, rest[0], None

        def remember_queries(module: torch.nn.Module, args: tuple[Any, ...], output: Any) -> None:
            if not self._deaf:
                call.queries = output

        def hook(module: torch.nn.Module, args: tuple[Any, ...]) -> object:
            if self._deaf:
                return None
            call.heard = True
            result = self._tokens(attention_layer, listeners, args[0], call, "attention")
            call.args, call.kwargs, call.queries = (), {}, None
            return None if result is None else (result, *args[1:])

        def leave(module: torch.nn.Module, args: tuple[object, ...], output: object) -> None:
            if self._deaf:
                return
            if not call.heard:
                raise Unsupported(
                    f"{attention_layer.layer.name}: its attention processor "
                    f"({type(getattr(module, 'processor', None)).__name__}) does not call the output projection, so nothing "
                    'hears what attention gives; use placement="layer"'
                )
            self._proven.add(_as_it_runs(module))

        handles = self._handles
        handles.append(projection.register_forward_pre_hook(self._kept_out(hook)))
        if attention_layer.layer.reads_any_text:
            # Only such layers can be asked with another text, which needs what they were called with.
            handles.append(attention_layer.module.register_forward_pre_hook(self._kept_out(enter), with_kwargs=True))
            queries = getattr(attention_layer.module, "to_q", None)
            if isinstance(queries, torch.nn.Module):
                handles.append(queries.register_forward_hook(self._kept_out(remember_queries)))
        if _as_it_runs(attention_layer.module) not in self._proven:
            handles.append(attention_layer.module.register_forward_hook(self._kept_out(leave)))

    def _tokens(
        self,
        attention_layer: AttentionLayer,
        listeners: Sequence[Listener],
        whole: Tensor,
        call: LayerCall,
        placement: Placement,
    ) -> Tensor | None:
        """What the methods make of image tokens among `whole` (rows, N, d); None where they change nothing."""
        cut = self._picture.cut(attention_layer, whole, placement)

        def denoiser_call(text: Tensor, rows: slice, mask: Tensor | None) -> Tensor:
            self._asking = True
            try:
                projected = placement == "layer"
                return attend(attention_layer.module, call, text, rows, mask, projected, self._projections)
            finally:
                self._asking = False

        event = Tokens(
            self._step,
            attention_layer.layer,
            self._context,
            cut.tokens,
            self._slots,
            cut.grid,
            denoiser_call,
        )
        for listener in listeners:
            before = event.edits
            listener.method.tokens(event, listener.state)
            self._check(event, before, listener)
        if not event.touched:
            return None
        if placement == "attention" and cut.is_view and self._may_write(attention_layer.module):
            event.write()
            return None
        return cut.filled(event.result())

    def _check(self, event: Tokens | Values, before: Mapping[Label, Tensor], listener: Listener) -> None:
        """Whether what a method has edited is finite; `before`: what was edited before it."""
        for label, value in event.edits.items():
            if before.get(label) is not value:
                self._guard.check(value, (event.heard, *before.values()), listener.name, self._step.index)

    def _may_write(self, module: torch.nn.Module) -> bool:
        """Whether what attention gave may be written over: diffusers' own processors do not look at it again."""
        processor = getattr(module, "processor", None)
        ours = processor is not None and type(processor).__module__.startswith("diffusers.")
        return ours and self._kept_out is _as_it_is and not torch.is_grad_enabled()

    def _hear_values(self, attention_layer: AttentionLayer, listeners: Sequence[Listener]) -> None:
        """The values of the text tokens."""

        def hook(module: torch.nn.Module, args: tuple[object, ...], output: Tensor) -> Tensor | None:
            if self._deaf:
                return None
            length = output.shape[1]
            text = slice(0, length)
            if attention_layer.layer.kind == "joint" and attention_layer.values == "last":
                text = slice(0, length - self._picture.total)
            elif attention_layer.layer.kind == "joint" and attention_layer.values == "first":
                text = slice(self._picture.total, length)
            event = Values(self._step, attention_layer.layer, self._context, output[:, text], self._slots, self._parts)
            for listener in listeners:
                before = event.edits
                listener.method.values(event, listener.state)
                self._check(event, before, listener)
            if not event.touched:
                return None
            return torch.cat([output[:, : text.start], event.result(), output[:, text.stop :]], dim=1)

        self._handles.append(attention_layer.text_values().register_forward_hook(self._kept_out(hook)))


def _as_it_runs(module: torch.nn.Module) -> tuple[torch.nn.Module, type]:
    """A layer with the kind of its processor, which a callback may have replaced."""
    return module, type(getattr(module, "processor", None))


def _as_it_is(hook: object) -> Any:
    return hook
