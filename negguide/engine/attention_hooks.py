"""Hooks on attention layers for the length of one forward: they hand image tokens to the methods that listen.

Forward hooks, never processors: IP-Adapters, LoRA, attention back ends and quantisation go on working. They are set only
for steps at which a method listens, so that all other steps run the plain modules.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from negguide.engine.attend import TextProjections, output_projection
from negguide.engine.attention_layers import AttentionLayer, picture
from negguide.engine.compiled import whole_graphs_are_refused
from negguide.engine.denoiser_modules import DenoiserModules, KnownDenoisers
from negguide.engine.finite import FiniteGuard
from negguide.engine.layer_hooks import ForwardHooks, Listener
from negguide.engine.shared_rows import SharedRows
from negguide.methods.base import Condition, Method, Step
from negguide.methods.state import RunState
from negguide.methods.tokens import Branch, Label, Pooled, RunContext, Slots
from negguide.pipeline.families import Unsupported
from negguide.pipeline.plan import OWN_KEY, Plan
from negguide.pipeline.probe import main_input, rows_of

COND = -1
"""Key of the conditional prediction."""


@dataclass(frozen=True)
class ExtraRows:
    """What goes along in the forwards of a step: keys of companions and of appended texts, noisy reference latents."""

    companions: tuple[int, ...] = ()
    appended: tuple[int, ...] = ()
    references: Tensor | None = None
    """(P, R, ...), already scaled for the model's input."""
    same_image: bool = False
    """The companions keep the prompt's image tokens."""
    pooled: Pooled = "prompt"
    """Whose pooled text vector the companions' rows have."""

    def __bool__(self) -> bool:
        return bool(self.companions or self.appended or self.references is not None)


class AttentionHooks:
    """The listening of one run. `open` before the forwards of a step, `forward` around each of them."""

    def __init__(
        self,
        plan: Plan,
        methods: Sequence[Method],
        states: Sequence[RunState],
        guard: FiniteGuard,
        known_denoisers: KnownDenoisers,
    ) -> None:
        self.plan = plan
        self.guard = guard
        self._known = known_denoisers
        self._of_denoisers: dict[str, DenoiserModules] = {}
        self._layers: dict[str, tuple[AttentionLayer, ...]] = {}
        self._compiled: dict[str, bool] = {}
        self._proven: set[tuple[torch.nn.Module, type]] = set()
        self._projections = TextProjections()
        self.wanted_rows = ExtraRows()
        self._methods = [
            (method, state)
            for method, state in zip(methods, states, strict=True)
            if type(method).listens is not Method.listens
        ]
        self._heard_by: list[Listener] = []
        self._step: Step | None = None
        self._context: RunContext | None = None
        self._thread = threading.get_ident()
        """Another thread's forward of the same denoiser meets our hooks, and is none of ours."""

    def layers(self, denoiser: str) -> tuple[AttentionLayer, ...]:
        """The layers of a denoiser of the plan; found once."""
        if denoiser not in self._layers:
            self._layers[denoiser] = self._modules_of(denoiser).listenable()
        return self._layers[denoiser]

    def _modules_of(self, denoiser: str) -> DenoiserModules:
        if denoiser not in self._of_denoisers:
            self._of_denoisers[denoiser] = self._known.modules_of(self.plan.denoisers[denoiser])
        return self._of_denoisers[denoiser]

    @property
    def has_listeners(self) -> bool:
        """Whether any method may listen at some step."""
        return bool(self._methods)

    @property
    def is_heard(self) -> bool:
        """Whether a method listens at this step."""
        return bool(self._heard_by)

    def open(self, step: Step, context: RunContext) -> list[str]:
        """Ask the methods who listens at this step; their names. Whoever opens closes."""
        self._heard_by, self._step, self._context = [], step, context
        for method, state in self._methods:
            listen = method.listens(step, context, state)
            if listen is not None:
                self._heard_by.append(Listener(method, state, listen))
        self.wanted_rows = self._wanted_rows()
        return [listener.name for listener in self._heard_by]

    def close(self) -> None:
        """Nobody listens any more."""
        self._heard_by, self._step, self._context, self.wanted_rows = [], None, None, ExtraRows()

    def _wanted_rows(self) -> ExtraRows:
        companions = dict.fromkeys(self.plan.key(c) for listener in self._heard_by for c in listener.listen.companions)
        appended = dict.fromkeys(self.plan.key(c) for listener in self._heard_by for c in listener.listen.appended)
        given = [listener for listener in self._heard_by if listener.listen.references is not None]
        if len(given) > 1:
            raise ValueError(
                f"{', '.join(listener.name for listener in given)} both bring reference pictures; give them all to one method"
            )
        latents = given[0].listen.references if given else None
        if latents is not None:
            assert self._step is not None
            latents = self.plan.schedule.model_input(latents, self._step.index)
        with_companions = [listener.listen for listener in self._heard_by if listener.listen.companions]
        same_image = bool(with_companions) and all(listen.same_image for listen in with_companions)
        own = same_image and all(listen.pooled == "own" for listen in with_companions)
        wanted_rows = ExtraRows(tuple(companions), tuple(appended), latents, same_image, "own" if own else "prompt")
        if wanted_rows and self.plan.caching:
            raise Unsupported(
                f"{', '.join(listener.name for listener in self._heard_by)} lets rows ride in the denoiser's forward, which "
                "a cache (first block, TaylorSeer, ...) would take for other rows; call disable_cache() on the denoiser first"
            )
        return wanted_rows

    @contextmanager
    def forward(
        self,
        denoiser: str,
        labels: Sequence[Label],
        named: Mapping[str, object],
        parts: Mapping[int | None, slice] | None = None,
    ) -> Iterator[None]:
        """Hooks for one forward whose rows are `labels` (B each), then references; `parts`: lie of appended texts."""
        if not self._heard_by:
            yield
            return
        slots = Slots(tuple(labels), self.plan.rows, *self._names(), self._keys())
        module = self.plan.denoisers[denoiser]
        assert self._step is not None and self._context is not None
        seen = picture(module, named, main_input(named)[1], self.plan.layout)
        compiled = self._is_compiled(denoiser)
        run = self._thread, compiled, self._proven, self._projections
        hooks = ForwardHooks(self._step, self._context, slots, seen, parts or {}, self.guard, *run)
        shared = self._shared_rows(slots, named, compiled)
        try:
            for attention_layer in self.layers(denoiser):
                hooks.set(
                    attention_layer,
                    [listener for listener in self._heard_by if listener.listen.layers(attention_layer.layer)],
                )
            if shared is not None:
                self._share(shared, denoiser, seen.total)
            with whole_graphs_are_refused():
                yield
        finally:
            hooks.remove()
            if shared is not None:
                shared.remove()

    def _shared_rows(self, slots: Slots, named: Mapping[str, object], compiled: bool) -> SharedRows | None:
        cond: Label = ("main", COND)
        if not self.wanted_rows.same_image or cond not in slots.labels:
            return None
        return SharedRows(slots.labels, self.plan.rows, cond, rows_of(main_input(named)[1]), self._thread, compiled)

    def _share(self, shared: SharedRows, denoiser: str, image: int) -> None:
        """Let modules compute the `image` tokens that all companions have once."""
        modules = self._modules_of(denoiser)
        if modules.shared is None:
            return
        heard = self._heard_projections(denoiser)
        shared.set(modules.shared.alone - heard)
        shared.set_attention(modules.of_two_streams, image, modules.shared.side)
        if self.wanted_rows.pooled == "prompt":
            shared.set_stream(modules.shared.stream - heard, image, modules.shared.side)
            shared.set_attention(modules.of_one_stream, image, modules.shared.side)

    def _is_compiled(self, denoiser: str) -> bool:
        if denoiser not in self._compiled:
            self._compiled[denoiser] = self._modules_of(denoiser).is_compiled
        return self._compiled[denoiser]

    def _heard_projections(self, denoiser: str) -> set[torch.nn.Module]:
        """Output projections behind which a method hears what companions say, so that these must be computed too."""
        listeners = [listener for listener in self._heard_by if listener.listen.placement == "layer"]
        heard = (s for s in self.layers(denoiser) if any(listener.listen.layers(s.layer) for listener in listeners))
        return {
            module
            for module in (output_projection(attention_layer.module) for attention_layer in heard)
            if module is not None
        }

    def _keys(self) -> Callable[[Condition], int]:
        """The key of a condition, also after the run, when the plan has let go of its conditions."""
        keys = dict(self.plan.keys)

        def key(condition: Condition) -> int:
            return keys[condition] if condition in keys else self.plan.key(condition)

        return key

    def _names(self) -> tuple[dict[int, Branch], dict[int, Condition]]:
        conditions: dict[int, Condition] = {}
        for condition, key in self.plan.keys.items():
            conditions.setdefault(key, condition)
        return {**conditions, OWN_KEY: "uncond", COND: "cond"}, conditions


def groups_of(plan: Plan) -> tuple[tuple[int, ...], ...]:
    """Rows of the same prompt: `num_images_per_prompt` of them, and those of equal texts in a list of prompts."""
    count = plan.call.prompt_count or 1
    each = plan.rows // count
    texts = [v for k, v in plan.call.complete.items() if k.startswith("prompt") and isinstance(v, (list, tuple))]
    texts = [t for t in texts if len(t) == count and all(isinstance(text, str) for text in t)]
    rows_of_text: dict[object, list[int]] = {}
    for at in range(count):
        same = tuple(t[at] for t in texts) if texts else at
        rows_of_text.setdefault(same, []).extend(range(at * each, (at + 1) * each))
    return tuple(tuple(rows) for rows in rows_of_text.values())
