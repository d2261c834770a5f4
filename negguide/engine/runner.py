"""The events of a step, run inside a stock pipeline: conditions -> passes -> combine -> denoised -> what is returned.

The guided prediction T is returned in place of every half of the pipeline's guidance (`[T; T]`, or T twice), so that the
pipeline's own formula, affine with weights that sum to one, yields exactly T.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from negguide.engine.attention_hooks import COND, AttentionHooks
from negguide.engine.context import run_context
from negguide.engine.denoiser_modules import KnownDenoisers
from negguide.engine.embeddings import edited
from negguide.engine.evaluate import DenoiserCall, Evaluator
from negguide.engine.finite import FiniteGuard
from negguide.engine.record import StepRecord
from negguide.engine.replies import Replies
from negguide.methods.base import Condition, Denoised, Guidance, Method, Step
from negguide.methods.state import RunState
from negguide.pipeline.checks import check_foreseen
from negguide.pipeline.layout import PlacedMasks, stacked
from negguide.pipeline.live import LiveGuidance
from negguide.pipeline.plan import OWN_KEY, Plan
from negguide.pipeline.schedule import is_part, read_schedule
from negguide.pipeline.side_models import SideModel


class Runner:
    """One run of a pipeline. `denoise`, `step_done` and `scale_input` are its handlers (see `swap`)."""

    def __init__(
        self,
        plan: Plan,
        methods: Sequence[Method],
        one_call: bool,
        max_batch: int | None,
        known_denoisers: KnownDenoisers,
        sides: Sequence[SideModel] = (),
    ) -> None:
        self.plan = plan
        self.methods = methods
        self.states: list[RunState] = [{} for _ in methods]
        self.evaluator = Evaluator(plan, one_call, max_batch, sides)
        self.sides = sides
        self.guard = FiniteGuard()
        self.attention_hooks = AttentionHooks(plan, methods, self.states, self.guard, known_denoisers)
        if self.attention_hooks.has_listeners:
            self.evaluator.attention_hooks = self.attention_hooks
        self.trace: list[StepRecord] = []
        self.index = 0
        self.own_used = False
        """Whether what the pipeline put in the negative place had a part in any step."""
        self._calls = 0
        self._placed_masks = PlacedMasks(plan.layout)
        self._replies = Replies(plan, self.evaluator, self.guard)
        self._unscaled: Tensor | None = None
        self._noted: tuple[tuple[Condition, ...], tuple[str, ...]] = ((), ())
        self._counted = 0.0
        self._section_is_due = False
        self._live = LiveGuidance(plan)
        acting = [m for m in methods if m.acts_alone and not m.is_neutral]
        self._combines = any(type(m).combine is not Method.combine for m in acting)
        self._seeing = [pair for pair in zip(methods, self.states, strict=True) if pair[0].sees_denoised]

    def scale_input(self, original: Callable[..., object], sample: Tensor, *args: object, **kwargs: object) -> Any:
        self._unscaled = sample
        return original(sample, *args, **kwargs)

    def schedule_set(self, original: Callable[..., object], *args: object, **kwargs: object) -> Any:
        """The scheduler's `set_timesteps`: after the first step, the beginning of another section of a long video."""
        self._section_is_due = self.index > 0
        return original(*args, **kwargs)

    def _begin_section(self) -> None:
        """Methods act in it as in a run of its own."""
        plan, scheduler = self.plan, self.plan.pipe.scheduler
        plan.first_schedule = plan.first_schedule or plan.schedule
        first = float(scheduler.timesteps[getattr(scheduler, "_begin_index", None) or 0])
        plan.schedule = read_schedule(scheduler, first, None, is_part(plan.call.complete))
        self.index, self._section_is_due = 0, False
        for state in self.states:
            state.clear()

    def step_done(self, original: Callable[..., object], *args: object, **kwargs: object) -> Any:
        """The scheduler's step: the end of ours. Raises `Unsupported` for one that the schedule did not foresee."""
        schedule, passes = self.plan.schedule, self.evaluator.passes - self._counted
        check_foreseen(type(self.plan.pipe).__name__, self.index, len(schedule.timesteps))
        live, names = self._noted
        notes = tuple(note for state in self.states for note in state.pop("notes", ()))
        sigma, timestep = schedule.sigmas[self.index], schedule.timesteps[self.index]
        self.trace.append(StepRecord(self.index, sigma, timestep, live, passes, names, notes))
        self._replies.check_kept(args[0] if args else kwargs["model_output"])
        self._counted, self._noted = self.evaluator.passes, ((), ())
        self._calls, self._unscaled = 0, None
        self._replies.begin_step()
        self.index += 1
        for side in self.sides:
            side.forget()
        return original(*args, **kwargs)

    def denoise(
        self, name: str, module: torch.nn.Module, original: Callable[..., object], *args: object, **kwargs: object
    ) -> Any:
        """A denoiser call of the pipeline. Calls that are not in the plan (callbacks that cut rows) pass through."""
        denoiser_call = DenoiserCall(name, module, original, args, kwargs)
        if self._section_is_due:
            self._begin_section()
        self._calls += 1
        expected = self.plan.rows * (2 if self.plan.mode == "batch" else 1)
        if self._replies.waits_for_second and self._calls == 2:
            return self._replies.second(denoiser_call)
        if denoiser_call.rows != expected or self._calls > 1 or self.index >= len(self.plan.schedule.timesteps):
            return self.evaluator.unchanged(denoiser_call)
        if self.plan.mode == "sequential" and not self.plan.takeover and self._live.scale() is None:
            return self._unguided(denoiser_call, self._step(denoiser_call), [])
        return self._guided(denoiser_call)

    def _guided(self, denoiser_call: DenoiserCall) -> object:
        step = self._step(denoiser_call)
        unguided = self._keeping_free(step)
        if unguided:
            return self._unguided(denoiser_call, step, unguided)
        live, bases, names = self._wanted(step)
        if self.plan.lent and not live and not self._combines:
            return self._unguided(denoiser_call, step, [])
        denoiser_call, editors = edited(denoiser_call, self.plan, step, self.methods, self.states, self.guard)
        names += [name for name in editors if name not in names]
        heard = self._listeners(denoiser_call, step)
        looking = self._looking(step)
        neutral = not self.plan.takeover or self.plan.scale == 1.0
        if not live and not self._combines and not looking and neutral and not heard:
            self.own_used = True
            self._noted = ((), tuple(names))
            return self.evaluator.unchanged(denoiser_call)
        names += [name for name in heard if name not in names]
        keys = self._keys(live, bases)
        self.own_used |= OWN_KEY in keys or not keys or any(condition.own for condition in live)
        by_key = self._predict(denoiser_call, keys)
        layout = self.plan.layout
        cond = layout.core(by_key[COND])
        predictions = {c: layout.core(by_key[self.plan.key(c)]) for c in live}
        start = OWN_KEY if OWN_KEY in by_key and not bases else (self.plan.key(bases[0]) if bases else COND)
        guidance = Guidance(step, cond, layout.core(by_key[start]), self._scale(denoiser_call), predictions)
        replaced = start != COND if self.plan.takeover else start not in (OWN_KEY, COND)
        target = self._combine(guidance, names, replaced)
        target = self._denoised(denoiser_call, guidance, target, looking, names)
        self._noted = (tuple(live), tuple(names))
        return self._replies.first(by_key, target, bool(heard), self._noted[1], self.index)

    def _predict(self, denoiser_call: DenoiserCall, keys: Sequence[int]) -> dict[int, Tensor]:
        """The predictions of a step; who listens to it hears these forwards and no other."""
        try:
            return self.evaluator.predict(denoiser_call, keys, self.index)
        finally:
            self.attention_hooks.close()

    def _listeners(self, denoiser_call: DenoiserCall, step: Step) -> list[str]:
        """Names of the methods that listen at this step."""
        if not self.attention_hooks.has_listeners:
            return []
        return self.attention_hooks.open(step, run_context(self.evaluator, self.attention_hooks, denoiser_call, step))

    def _keeping_free(self, step: Step) -> list[str]:
        """Names of the methods that want this step without guidance."""
        asked = zip(self.methods, self.states, strict=True)
        return [method.name or type(method).__name__ for method, state in asked if not method.guides_now(step, state)]

    def _unguided(self, denoiser_call: DenoiserCall, step: Step, names: list[str]) -> object:
        """A step that a method keeps free of guidance: one pass, the prediction for the prompt alone."""
        denoiser_call, editors = edited(denoiser_call, self.plan, step, self.methods, self.states, self.guard)
        heard = [*editors, *self._listeners(denoiser_call, step)]
        predictions = self._predict(denoiser_call, [])
        cond = self.plan.layout.core(predictions[COND])
        names = [*names, *heard]
        guidance = Guidance(step, cond, cond, self._scale(denoiser_call), {})
        target = self._denoised(denoiser_call, guidance, cond, self._looking(step), names)
        self._noted = ((), tuple(names))
        return self._replies.first(predictions, target, bool(heard), self._noted[1], self.index)

    def _step(self, denoiser_call: DenoiserCall) -> Step:
        plan, i = self.plan, self.index
        schedule, layout = plan.schedule, plan.layout
        held = denoiser_call.value if self._unscaled is None else self._unscaled
        sample = layout.core(stacked(held))[: plan.rows]
        return Step(
            index=i,
            count=len(schedule.timesteps),
            sigma=schedule.sigmas[i],
            timestep=schedule.timesteps[i],
            sample=sample,
            prediction_type=schedule.prediction,
            to_denoised=functools.partial(schedule.to_denoised, sample=sample, index=i, sign=plan.sign),
            from_denoised=functools.partial(schedule.from_denoised, sample=sample, index=i, sign=plan.sign),
            resize_mask=functools.partial(self._placed_masks, like=sample),
            before=schedule.before,
            whole=schedule.whole,
        )

    def _wanted(self, step: Step) -> tuple[list[Condition], list[Condition], list[str]]:
        """Live conditions without repetition, those that stand in the unconditional's place, who asked."""
        live: list[Condition] = []
        bases: list[Condition] = []
        names = []
        for method, state in zip(self.methods, self.states, strict=True):
            asked = method.conditions(step, state)
            live += [c for c in dict.fromkeys(asked) if c not in live]
            bases += [c for c in asked if c.role == "base" and c not in bases]
            if asked:
                names.append(method.name or type(method).__name__)
        if live and not self.plan.guides:
            raise ValueError(
                f"{', '.join(names)} asked for extra predictions, but this call runs without guidance; "
                "raise the pipeline's guidance scale, or give guidance_scale= to attach"
            )
        return live, bases, names

    def _keys(self, live: Sequence[Condition], bases: Sequence[Condition]) -> list[int]:
        """Keys to predict beside the conditional one, the base first."""
        plan = self.plan
        if not plan.guides:
            return []
        if plan.takeover and plan.scale == 1.0 and not live:
            return []
        first = [plan.key(c) for c in bases] if bases else [OWN_KEY]
        return list(dict.fromkeys([*first, *(plan.key(c) for c in live)]))

    def _scale(self, denoiser_call: DenoiserCall) -> float:
        plan = self.plan
        if plan.takeover or plan.mode == "single":
            return plan.scale
        if denoiser_call.name == "transformer_2" and plan.family.scale_2:
            second = plan.call.complete.get(plan.family.scale_2)
            return plan.scale if second is None else float(second)
        if plan.family.live_scale and plan.property_scale is not None:
            return plan.scale + float(plan.pipe._guidance_scale) - plan.property_scale
        live = self._live.scale()
        return plan.scale if live is None else live

    def _combine(self, guidance: Guidance, names: list[str], replaced: bool) -> Tensor | None:
        """The guided prediction, or None where no method touched it."""
        result: Tensor | None = None
        for method, state in zip(self.methods, self.states, strict=True):
            before, guidance.touched = guidance.touched, False
            method.combine(guidance, state)
            if guidance.touched:
                name = method.name or type(method).__name__
                result = guidance.result()
                self.guard.check(result, (guidance.cond, guidance.plain_base), name, self.index)
                if name not in names:
                    names.append(name)
            guidance.touched |= before
        if result is None and not replaced:
            return None
        return self._post_of(guidance.result() if result is None else result, guidance.cond)

    def _post_of(self, guided: Tensor, cond: Tensor) -> Tensor:
        """What the pipeline itself would do to its guided prediction; on our T its own step then changes nothing."""
        if not self.plan.guides:
            return guided
        return self.plan.family.post(guided, cond, self.plan.call.complete)

    def _looking(self, step: Step) -> list[tuple[Method, RunState]]:
        """The methods that want the clean estimate of this step, with their states."""
        return [(method, state) for method, state in self._seeing if method.looks_at(step, state)]

    def _denoised(
        self,
        denoiser_call: DenoiserCall,
        guidance: Guidance,
        target: Tensor | None,
        looking: Sequence[tuple[Method, RunState]],
        names: list[str],
    ) -> Tensor | None:
        if not looking:
            return target
        step = guidance.step
        guided = self._post_of(guidance.result(), guidance.cond) if target is None else target
        event = Denoised(
            step, step.to_denoised(guided), run_context(self.evaluator, self.attention_hooks, denoiser_call, step)
        )
        for method, state in looking:
            before, event.touched = event.touched, False
            method.denoised(event, state)
            if event.touched:
                name = method.name or type(method).__name__
                self.guard.check(event.x0, (guided,), name, self.index)
                if name not in names:
                    names.append(name)
            event.touched |= before
        return step.from_denoised(event.x0).to(guided.dtype) if event.touched else target
