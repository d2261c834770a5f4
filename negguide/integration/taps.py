"""Hooks on attention layers for the length of one forward: they hand image tokens to the methods that listen.

Forward hooks, never processors: IP-Adapters, LoRA, attention back ends and quantisation go on working. They are set only
for steps at which a method listens, so that all other steps run the plain modules.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from negguide.integration.attention import Picture, Site, picture, sites
from negguide.integration.compiled import refuse_deaf, whole_graphs_are_refused
from negguide.integration.families import Unsupported
from negguide.integration.finite import FiniteGuard
from negguide.integration.plan import OWN_KEY, Plan
from negguide.integration.probe import main_input
from negguide.methods.base import Condition, Method, Step
from negguide.methods.tokens import Branch, Label, Listen, Model, Slots, Tokens, Values

COND = -1
"""Key of the conditional prediction."""


@dataclass(frozen=True)
class Rides:
    """What goes along in the forwards of a step: keys of companions and of appended texts, noisy reference latents."""

    companions: tuple[int, ...] = ()
    appended: tuple[int, ...] = ()
    references: Tensor | None = None
    """(P, R, ...), already scaled for the model's input."""

    def __bool__(self) -> bool:
        return bool(self.companions or self.appended or self.references is not None)


@dataclass
class _Ear:
    """A method that listens at this step."""

    method: Method
    state: dict[str, Any]
    listen: Listen

    @property
    def name(self) -> str:
        return self.method.name or type(self.method).__name__


@dataclass
class _Forward:
    """One forward that is listened to."""

    slots: Slots
    picture: Picture
    parts: Mapping[int | None, slice] = field(default_factory=dict)


class Taps:
    """The listening of one run. `open` before the forwards of a step, `forward` around each of them."""

    def __init__(
        self, plan: Plan, methods: Sequence[Method], states: Sequence[dict[str, Any]], guard: FiniteGuard
    ) -> None:
        self.plan = plan
        self.guard = guard
        self.sites: dict[str, tuple[Site, ...]] = {}
        self.rides = Rides()
        self._methods = [
            (method, state)
            for method, state in zip(methods, states, strict=True)
            if type(method).listens is not Method.listens
        ]
        self._ears: list[_Ear] = []
        self._step: Step | None = None
        self._model: Model | None = None
        self._asking = False
        self._thread = threading.get_ident()
        """Another thread's forward of the same denoiser meets our hooks, and is none of ours."""

    def layers(self, denoiser: str) -> tuple[Site, ...]:
        """The layers of a denoiser of the plan; found once."""
        if denoiser not in self.sites:
            module = self.plan.denoisers[denoiser]
            self.sites[denoiser] = sites(module)
            refuse_deaf(module)
        return self.sites[denoiser]

    @property
    def has_listeners(self) -> bool:
        """Whether any method may listen at some step."""
        return bool(self._methods)

    def open(self, step: Step, model: Model) -> list[str]:
        """Ask the methods who listens at this step; their names. Whoever opens closes."""
        self._ears, self._step, self._model = [], step, model
        for method, state in self._methods:
            listen = method.listens(step, model, state)
            if listen is not None:
                self._ears.append(_Ear(method, state, listen))
        self.rides = self._rides()
        return [ear.name for ear in self._ears]

    def close(self) -> None:
        """Nobody listens any more."""
        self._ears, self._step, self._model, self.rides = [], None, None, Rides()

    def _rides(self) -> Rides:
        companions = dict.fromkeys(self.plan.key(c) for ear in self._ears for c in ear.listen.companions)
        appended = dict.fromkeys(self.plan.key(c) for ear in self._ears for c in ear.listen.appended)
        given = [ear for ear in self._ears if ear.listen.references is not None]
        if len(given) > 1:
            raise ValueError(
                f"{', '.join(ear.name for ear in given)} both bring reference pictures; give them all to one method"
            )
        latents = given[0].listen.references if given else None
        if latents is not None:
            assert self._step is not None
            latents = self.plan.schedule.model_input(latents, self._step.index)
        rides = Rides(tuple(companions), tuple(appended), latents)
        if rides and self.plan.caching:
            raise Unsupported(
                f"{', '.join(ear.name for ear in self._ears)} lets rows ride in the denoiser's forward, which a cache "
                "(first block, TaylorSeer, ...) would take for other rows; call disable_cache() on the denoiser first"
            )
        return rides

    @contextmanager
    def forward(
        self,
        denoiser: str,
        labels: Sequence[Label],
        named: Mapping[str, Any],
        parts: Mapping[int | None, slice] | None = None,
    ) -> Iterator[None]:
        """Hooks for one forward whose rows are `labels` (B each), then references; `parts`: lie of appended texts."""
        if not self._ears:
            yield
            return
        slots = Slots(tuple(labels), self.plan.rows, *self._names(), self.plan.key)
        module = self.plan.denoisers[denoiser]
        lie = _Forward(slots, picture(module, main_input(named)[1], self.plan.layout), parts or {})
        handles = []
        try:
            for site in self.layers(denoiser):
                ears = [ear for ear in self._ears if ear.listen.layers(site.layer)]
                hears = [ear for ear in ears if type(ear.method).tokens is not Method.tokens]
                if hears:
                    hook = self._hook(site, hears, lie)
                    handles.append(site.module.register_forward_hook(hook, with_kwargs=True))
                weighs = [ear for ear in ears if type(ear.method).values is not Method.values]
                if weighs and site.layer.kind != "self":
                    handles.append(site.text_values().register_forward_hook(self._values_hook(site, weighs, lie)))
            with whole_graphs_are_refused():
                yield
        finally:
            for handle in handles:
                handle.remove()

    def _names(self) -> tuple[dict[int, Branch], dict[int, Condition]]:
        conditions: dict[int, Condition] = {}
        for condition, key in self.plan.keys.items():
            conditions.setdefault(key, condition)
        return {**conditions, OWN_KEY: "uncond", COND: "cond"}, conditions

    def _hook(self, site: Site, ears: Sequence[_Ear], lie: _Forward) -> Callable[..., Any]:
        @torch.compiler.disable
        def hook(module: torch.nn.Module, args: tuple[Any, ...], *rest: Any) -> Any:
            if self._asking or threading.get_ident() != self._thread:
                return None
            kwargs, output = rest
            pair = isinstance(output, tuple)
            whole: Tensor = output[0] if pair else output
            span, grid = lie.picture.span(site, whole.shape[1])
            everything = span == slice(0, whole.shape[1])

            def again(text: Tensor, rows: slice, mask: Tensor | None) -> Tensor:
                return self._again(module, args, kwargs, text, rows, mask)

            assert self._step is not None and self._model is not None
            before = whole if everything else whole[:, span]
            event = Tokens(self._step, site.layer, self._model, before, lie.slots, grid, again)
            for ear in ears:
                seen = event.result()
                ear.method.tokens(event, ear.state)
                if event.touched:
                    self.guard.check(event.result(), (seen,), ear.name, self._step.index)
            if not event.touched:
                return None
            result = event.result()
            if not everything:
                result = torch.cat([whole[:, : span.start], result, whole[:, span.stop :]], dim=1)
            return (result, *output[1:]) if pair else result

        return hook

    def _values_hook(self, site: Site, ears: Sequence[_Ear], lie: _Forward) -> Callable[..., Any]:
        @torch.compiler.disable
        def hook(module: torch.nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            if self._asking or threading.get_ident() != self._thread:
                return None
            length = output.shape[1]
            text = slice(0, length)
            if site.layer.kind == "joint" and site.values == "last":
                text = slice(0, length - lie.picture.total)
            elif site.layer.kind == "joint" and site.values == "first":
                text = slice(lie.picture.total, length)
            assert self._step is not None and self._model is not None
            event = Values(self._step, site.layer, self._model, output[:, text], lie.slots, lie.parts)
            for ear in ears:
                seen = event.result()
                ear.method.values(event, ear.state)
                if event.touched:
                    self.guard.check(event.result(), (seen,), ear.name, self._step.index)
            if not event.touched:
                return None
            return torch.cat([output[:, : text.start], event.result(), output[:, text.stop :]], dim=1)

        return hook

    def _again(
        self,
        module: torch.nn.Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        text: Tensor,
        rows: slice,
        mask: Tensor | None,
    ) -> Tensor:
        """The layer for some of its rows, with another text; an IP-Adapter's images stay beside it."""
        owner: Any = getattr(module, "_orig_mod", module)
        named = dict(inspect.signature(type(owner).forward).bind(owner, *args, **kwargs).arguments)
        named.pop("self", None)
        named |= named.pop("kwargs", {}) | named.pop("cross_attention_kwargs", {})
        count = named["hidden_states"].shape[0]

        def cut(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[rows] if value.ndim > 1 and value.shape[0] == count else value
            return type(value)(cut(item) for item in value) if type(value) in (list, tuple) else value

        before = named["encoder_hidden_states"]
        call = {name: cut(value) for name, value in named.items() if value is not None}
        text = text.to(call["hidden_states"])
        call["encoder_hidden_states"] = (text, *cut(before[1:])) if isinstance(before, tuple) else text
        call["attention_mask"] = mask
        self._asking = True
        try:
            found = module(**call)
        finally:
            self._asking = False
        return found[0] if isinstance(found, tuple) else found


def groups_of(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Rows of the same prompt: `num_images_per_prompt` of them, and those of equal texts in a list of prompts."""
    count = plan.call.prompt_count or 1
    each = plan.rows // count
    texts = [v for k, v in plan.call.complete.items() if k.startswith("prompt") and isinstance(v, (list, tuple))]
    texts = [t for t in texts if len(t) == count and all(isinstance(text, str) for text in t)]
    found: dict[Any, list[int]] = {}
    for at in range(count):
        same = tuple(t[at] for t in texts) if texts else at
        found.setdefault(same, []).extend(range(at * each, (at + 1) * each))
    return tuple(tuple(rows) for rows in found.values())


def conditions_of(methods: Sequence[Method]) -> list[Condition]:
    """Every text that methods may want inside the denoiser."""
    return list(dict.fromkeys(condition for method in methods for condition in method.companions()))
