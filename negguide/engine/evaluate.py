"""Denoiser calls for a set of conditions: in as few forwards as the arguments and the memory allow, all counted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from negguide.engine import extra_rows, other_weights
from negguide.engine.attention_hooks import COND, AttentionHooks
from negguide.engine.attention_layers import text_of_layers
from negguide.engine.memory import RowLimit, is_out_of_memory, most_rows
from negguide.methods.tokens import Label
from negguide.pipeline import argument_tree
from negguide.pipeline.families import unsupported
from negguide.pipeline.layout import prediction_of
from negguide.pipeline.plan import OWN_KEY, Plan
from negguide.pipeline.probe import main_input, named_arguments, placed, rows_of
from negguide.pipeline.side_models import SideModel


@dataclasses.dataclass
class DenoiserCall:
    """One call that the pipeline makes to its denoiser."""

    name: str
    module: torch.nn.Module
    original: Callable[..., object]
    args: tuple[object, ...]
    kwargs: Mapping[str, object]

    def __post_init__(self) -> None:
        self.named = named_arguments(self.module, self.args, self.kwargs)
        self.value = main_input(self.named)[1]
        self.rows = rows_of(self.value)

    def unchanged(self) -> Any:
        """The very call that the pipeline made."""
        return self.original(*self.args, **self.kwargs)

    def repeated(self, named: Mapping[str, object]) -> Any:
        """The answer to the same call with other values."""
        return self.changed(named).unchanged()

    def by(self, module: torch.nn.Module, named: Mapping[str, object]) -> Any:
        """The answer of another denoiser to the same call with other values."""
        args, kwargs = placed(self.module, self.args, named)
        return module(*args, **kwargs)

    def changed(self, named: Mapping[str, object]) -> DenoiserCall:
        """The same call with other values."""
        args, kwargs = placed(self.module, self.args, named)
        return dataclasses.replace(self, args=args, kwargs=kwargs)


class Evaluator:
    """Predicts the conditions of a step; `passes` counts rows in units of one row per image."""

    def __init__(self, plan: Plan, one_call: bool, max_batch: int | None, sides: Sequence[SideModel] = ()) -> None:
        self.plan = plan
        self.sides = sides
        self.joined = one_call or (plan.mode == "batch" and not plan.caching)
        own = None if one_call else most_rows(plan)
        self.limit = RowLimit(plan.rows, own if max_batch is None else max_batch)
        self.attention_hooks: AttentionHooks | None = None
        """Who listens to the forwards of this step."""
        self.passes = 0.0
        self._layer_texts: dict[tuple[str, int], tuple[object, tuple[Tensor, Tensor | None]]] = {}
        self.output: object = None
        """The last thing a denoiser returned: shows what kind of output the pipeline expects."""

    def unchanged(self, denoiser_call: DenoiserCall) -> Any:
        self.passes += denoiser_call.rows / self.plan.rows
        keys = [COND]
        if self.plan.mode == "batch":
            keys = [COND, OWN_KEY] if self.plan.family.cond_first else [OWN_KEY, COND]
        with self._heard(denoiser_call, keys, denoiser_call.named):
            self.output = denoiser_call.unchanged()
        return self.output

    def _own_pair(self, denoiser_call: DenoiserCall) -> dict[int, Tensor]:
        """The pipeline's own two halves, by the very call that it makes."""
        whole = prediction_of(self.unchanged(denoiser_call))
        first, second = whole[: self.plan.rows], whole[self.plan.rows :]
        cond, own = (first, second) if self.plan.family.cond_first else (second, first)
        return {COND: cond, OWN_KEY: own}

    def predict(self, denoiser_call: DenoiserCall, keys: Sequence[int], index: int) -> dict[int, Tensor]:
        """Whole predictions (B, ...) for the conditional and for each key."""
        others = self.plan.others
        predictions = self._predict(denoiser_call, [key for key in keys if key not in others], index)
        for key in (key for key in keys if key in others):
            with self.context(denoiser_call.module, key, index):
                predictions[key] = self._by_others(denoiser_call, key)
        return predictions

    def _by_others(self, denoiser_call: DenoiserCall, key: int) -> Tensor:
        """What other weights predict for a key."""
        weights, named = self.plan.others[key], self.call(denoiser_call, key)
        self.passes += 1
        if weights.adapter is None:
            twin = other_weights.model_for(weights, denoiser_call.module, denoiser_call.name)
            return prediction_of(denoiser_call.by(twin, named))
        with other_weights.at_work(denoiser_call.module, weights), self._heard(denoiser_call, [key], named):
            return prediction_of(denoiser_call.repeated(named))

    def _predict(self, denoiser_call: DenoiserCall, keys: Sequence[int], index: int) -> dict[int, Tensor]:
        """The same, all by the pipeline's own denoiser."""
        plan = self.plan
        if self.attention_hooks is not None and self.attention_hooks.wanted_rows:
            return self._with_extra_rows(denoiser_call, keys)
        whole = self.limit.images is None or self._listened
        if plan.mode == "batch" and whole and (set(keys) == {OWN_KEY} or (OWN_KEY in keys and not self.joined)):
            rest = [key for key in keys if key != OWN_KEY]
            return {**self._own_pair(denoiser_call), **self._replay(denoiser_call, rest, index)}
        if plan.mode != "batch" and whole and not (self.joined and keys):
            cond = prediction_of(self.unchanged(denoiser_call))
            return {COND: cond, **self._replay(denoiser_call, keys, index)}
        order = [COND, *keys] if plan.family.cond_first else [*keys[:1], COND, *keys[1:]]
        if not self.joined:
            return self._replay(denoiser_call, order, index)
        predictions: dict[int, Tensor] = {}
        waiting = list(order)
        while waiting:
            part = self.limit.parts(waiting)[0]
            try:
                predictions |= self._together(denoiser_call, part, index)
                waiting = waiting[len(part) :]
                continue
            except Exception as error:
                if not is_out_of_memory(error) or len(part) == 1:
                    raise
            self.limit.halve(len(part) * plan.rows)
        return predictions

    def _together(self, denoiser_call: DenoiserCall, keys: Sequence[int], index: int) -> dict[int, Tensor]:
        plan = self.plan
        if len(keys) == 1:
            return self._replay(denoiser_call, keys, index)
        if plan.mode == "batch" and list(keys) == ([COND, OWN_KEY] if plan.family.cond_first else [OWN_KEY, COND]):
            return self._own_pair(denoiser_call)
        calls = [self.call(denoiser_call, key) for key in keys]
        try:
            named = argument_tree.join(calls, plan.rows, plan.family.rows)
        except argument_tree.Unjoinable:
            return self._replay(denoiser_call, keys, index)
        whole = self._forward(denoiser_call, named, keys)
        return dict(zip(keys, whole.chunk(len(keys)), strict=True))

    def _replay(self, denoiser_call: DenoiserCall, keys: Sequence[int], index: int) -> dict[int, Tensor]:
        """One forward per condition, each in its own cache context."""
        predictions = {}
        for key in keys:
            with self.context(denoiser_call.module, key, index):
                predictions[key] = self._forward(denoiser_call, self.call(denoiser_call, key), [key])
        return predictions

    def _forward(self, denoiser_call: DenoiserCall, named: Mapping[str, object], keys: Sequence[int]) -> Tensor:
        answer = self._answer(denoiser_call, named, keys)
        self.passes += len(keys)
        return answer

    def _answer(self, denoiser_call: DenoiserCall, named: Mapping[str, object], keys: Sequence[int]) -> Tensor:
        images, rows, layout = self.limit.images, self.plan.rows, self.plan.family.rows
        if images is None or len(keys) > 1 or self.plan.caching or self._listened:
            with self._heard(denoiser_call, keys, named):
                self.output = denoiser_call.repeated(named)
            return prediction_of(self.output)
        whole = []
        for start in range(0, rows, images):
            some = argument_tree.take(named, slice(start, start + images), rows, layout)
            self.output = denoiser_call.repeated(some)
            whole.append(prediction_of(self.output))
        return torch.cat(whole)

    @property
    def _listened(self) -> bool:
        """Whether a method listens to the forwards of this step, which then hold all images."""
        return self.attention_hooks is not None and self.attention_hooks.is_heard

    def _heard(
        self, denoiser_call: DenoiserCall, keys: Sequence[int], named: Mapping[str, object]
    ) -> AbstractContextManager[None]:
        """Who listens hears this forward."""
        if self.attention_hooks is None:
            return nullcontext()
        labels: list[Label] = [("main", key) for key in keys]
        return self.attention_hooks.forward(denoiser_call.name, labels, named)

    def _with_extra_rows(self, denoiser_call: DenoiserCall, keys: Sequence[int]) -> dict[int, Tensor]:
        """Predictions of forwards in which other rows ride along; the forwards are those of `predict`."""
        plan, attention_hooks = self.plan, self.attention_hooks
        assert attention_hooks is not None
        order = [COND, *keys] if plan.family.cond_first else [*keys[:1], COND, *keys[1:]]
        joined = self.joined and not attention_hooks.wanted_rows.appended
        waiting = self.limit.parts(order) if joined else [[key] for key in order]
        predictions: dict[int, Tensor] = {}
        while waiting:
            part = waiting.pop(0)
            try:
                packed = extra_rows.pack(
                    plan,
                    attention_hooks.wanted_rows,
                    {key: self.call(denoiser_call, key) for key in part},
                    self.call,
                    denoiser_call,
                )
            except argument_tree.Unjoinable:
                waiting = [[key] for key in part] + waiting
                continue
            self.passes += packed.rows / plan.rows
            with attention_hooks.forward(denoiser_call.name, packed.labels, packed.named, packed.parts):
                self.output = denoiser_call.repeated(packed.named)
            predictions |= dict(zip(part, prediction_of(self.output).split(plan.rows), strict=False))
        return predictions

    def embeds(self, denoiser_call: DenoiserCall, key: int) -> Tensor:
        """Text embeddings (B, L, C) that the denoiser gets for a key."""
        plan = self.plan
        named = (
            denoiser_call.named
            if plan.mode != "batch"
            else plan.half(denoiser_call.named, "cond" if key == COND else "uncond")
        )
        embeddings = argument_tree.overlaid(named, {} if key == COND else plan.overlays[key]).get(
            "encoder_hidden_states"
        )
        if not isinstance(embeddings, Tensor):
            raise unsupported(f"{plan.family.name}: reading text embeddings", "its denoiser takes them in another form")
        return embeddings

    def layer_text(self, denoiser_call: DenoiserCall, key: int) -> tuple[Tensor, Tensor | None]:
        """The text of a key as the denoiser's cross layers take it, and its attention bias. Call it inside a forward."""
        named = self.call(denoiser_call, key)
        raw, mask = self.embeds(denoiser_call, key), named.get("encoder_attention_mask")
        overlay = {} if key == COND else self.plan.overlays[key]
        source = overlay.get(("encoder_hidden_states",))
        remembered = self._layer_texts.get((denoiser_call.name, key))
        if remembered is not None and remembered[0] is source:
            return remembered[1]
        if argument_tree.is_folded(source):
            # One text for all images: it goes its way to the layers once.
            mask = mask[:1] if isinstance(mask, Tensor) and mask.ndim == 2 else mask
            text, bias = text_of_layers(denoiser_call.module, raw[:1], mask)
            rows = raw.shape[0]
            text = text.expand(rows, *text.shape[1:])
            bias = None if bias is None else bias.expand(rows, *bias.shape[1:])
        else:
            text, bias = text_of_layers(denoiser_call.module, raw, mask)
        if source is not None:
            self._layer_texts[denoiser_call.name, key] = source, (text, bias)
        return text, bias

    def call(self, denoiser_call: DenoiserCall, key: int) -> Any:
        """The arguments of the pipeline's call for a key."""
        plan = self.plan
        if key == COND or key in plan.of_prompt:
            return denoiser_call.named if plan.mode != "batch" else plan.half(denoiser_call.named, "cond")
        overlay = dict(plan.overlays[key])
        for side in self.sides if key != OWN_KEY or plan.takeover else ():
            overlay |= side.overlay(plan, denoiser_call.named, plan.overlays[key])
        return argument_tree.overlaid(
            denoiser_call.named if plan.mode != "batch" else plan.half(denoiser_call.named, "uncond"), overlay
        )

    @contextmanager
    def context(self, module: object, key: int | str, index: int) -> Iterator[None]:
        """Caches (first block, TaylorSeer, ...) keep what they remember apart by the name of the context."""
        if not self.plan.caching or not hasattr(module, "cache_context"):
            yield
            return
        name = "negguide_cond" if key == COND else "uncond" if key == OWN_KEY else f"negguide_{key}"
        schedule = self.plan.schedule
        where = {"step_index": index, "sigma": schedule.sigmas[index], "num_inference_steps": len(schedule.timesteps)}
        with module.cache_context(name, **where):
            yield
