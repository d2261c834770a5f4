"""`attach`: let methods guide a stock pipeline, and leave it exactly as it was."""

from __future__ import annotations

import functools
import warnings
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch

from negguide.engine import other_weights
from negguide.engine.callbacks import apart
from negguide.engine.composition import check_takeover, composed
from negguide.engine.denoiser_modules import KnownDenoisers
from negguide.engine.noise import Draws
from negguide.engine.record import StepRecord
from negguide.engine.runner import Runner
from negguide.engine.turns import TAKEN, Turns
from negguide.methods.base import Method
from negguide.methods.mask import masks_in
from negguide.pipeline import each_image, intercept, modular
from negguide.pipeline.argument_tree import copied
from negguide.pipeline.call import Call
from negguide.pipeline.families import SIDE_MODELS, check_call, check_kind, check_pipeline, family_of
from negguide.pipeline.front_end import FrontEnd
from negguide.pipeline.guidance import Reading, first_probe, read_mode, why_unguided
from negguide.pipeline.plan import Plan, make_plan
from negguide.pipeline.plan_cache import PLANS, plan_key
from negguide.pipeline.probe import probe
from negguide.pipeline.side_models import SideModel
from negguide.pipeline.stale import Check, Rewind, Stale
from negguide.pipeline.takeover import read_takeover
from negguide.pipeline.tokenizers import one_at_a_time
from negguide.types import Original, PipelineLike


def attach(
    pipe: PipelineLike,
    *methods: Method,
    takeover: bool | None = None,
    guidance_scale: float | None = None,
    one_call: bool = False,
    max_batch: int | None = None,
    seeded: bool = False,
) -> Attachment:
    """Let methods guide every call of a diffusers pipeline until detached.

        with negguide.attach(pipe, negguide.PerpNeg(["glasses"])) as attached:
            images = pipe("a portrait of a person", num_inference_steps=25).images
        attached.passes      # denoiser passes of the last call, in units of one row per image

    The pipeline is called as ever, with any of its features. Neutral settings give the plain pipeline's pixels bit for bit.

    Args:
        pipe: a diffusers pipeline, also a modular one with `ClassifierFreeGuidance`.
        methods: act in this order.
        takeover: whether negguide guides in the pipeline's stead: its own classifier-free guidance is then off, and nothing
            else changes (a scale that the model reads as an input stays the call's, and so does its negative prompt). None:
            if `guidance_scale` is given.
        guidance_scale: w of `uncond + w (cond - uncond)` by takeover; needed for pipelines without guidance of their own
            (Flux.2, distilled models). Elsewhere leave it out and give the scale to the call.
        one_call: one forward for all conditions, also where the pipeline itself makes several calls; faster on large GPUs,
            needs their memory; rounding differs.
        max_batch: most rows of a forward, from 1. None: as many as the pipeline's own call has, so that methods need no more
            memory than it (four for one guided image on an accelerator); none with `one_call`. Below the number of images these
            go one after the other, except at steps where a method listens inside attention. Where memory runs out in a forward
            of several conditions, half as many go together from there on, with a warning; not where rows ride along.
        seeded: noise that the scheduler would draw from the process's random state comes from the call's generators, so that
            a seed is a picture. False: as the pipeline does it; `Attachment.unseeded` tells.

    Returns:
        The attachment, which detaches at the end of a `with` block or by `detach`.

    Raises:
        TypeError: something is no pipeline or no method.
        RuntimeError: the pipeline is attached already. Its calls raise it while another call is at work on it or its scheduler.
        ValueError: methods exclude each other.
        Unsupported: its guidance cannot be entered.
    """
    check_kind(pipe)
    if intercept.is_intercepted(pipe):
        raise RuntimeError(
            "this pipeline is attached already: call negguide.detach(pipe) first, or give one attach all methods"
        )
    pipe = modular.in_one_piece(pipe)
    methods = composed(methods, pipe, family_of(intercept.base_class(pipe)))
    check_takeover(takeover, guidance_scale)
    if max_batch is not None and max_batch < 1:
        raise ValueError(f"max_batch={max_batch}: at least one row per forward")
    return Attachment(pipe, methods, guidance_scale, one_call, max_batch, seeded)


def detach(pipe: PipelineLike) -> None:
    """Give a pipeline back as it was before `attach`, also where the attachment itself is lost (a notebook's cell run again).

        negguide.attach(pipe, negguide.PerpNeg(["glasses"]))
        negguide.detach(pipe)

    A pipeline that is not attached stays as it is. A call that is running is finished under its methods. Raises
    `TypeError` for something that is no pipeline.
    """
    check_kind(pipe)
    for handler in intercept.handlers_of(pipe, "__call__"):
        if isinstance(owner := getattr(handler, "__self__", None), Attachment):
            owner.detach()


class Attachment:
    """Methods at work on a pipeline, until `detach` (or the end of the `with` block).

    `trace`: a `StepRecord` per step of the last call; `passes`: its denoiser passes; `runs`: calls finished so far;
    `unseeded`: whether the scheduler's steps drew from the process's random state, so that no generator gives them again.
    """

    def __init__(
        self,
        pipe: PipelineLike,
        methods: tuple[Method, ...],
        scale: float | None,
        one_call: bool,
        max_batch: int | None,
        seeded: bool,
    ) -> None:
        self.pipe = pipe
        self.methods = methods
        self.trace: list[StepRecord] = []
        self.passes = 0.0
        self.runs = 0
        self.unseeded = False
        self._seeded = seeded
        self._scale = scale
        self._one_call = one_call
        self._max_batch = max_batch
        self._known = KnownDenoisers()
        self._cls = intercept.base_class(pipe)
        self._family = family_of(self._cls)
        self._warned: set[str] = set()
        call = Call.parameters_of(self._cls)
        check_pipeline(pipe, self._cls, call)
        self._turns = Turns()
        handlers = {"__call__": self._run, "progress_bar": self._looped}
        self._undo: Any = modular.routed(self._from_blocks, pipe, intercept.enter(pipe, handlers))

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.detach()

    def detach(self) -> None:
        """Give the pipeline its own class back; calling it again does nothing."""
        if self._undo is not None:
            self._undo()
            self._undo = None

    def _looped(self, original: Original, *args: object, **kwargs: object) -> object:
        """Handler of `progress_bar`, which every pipeline's own loop asks for: tells of loops that we do not see."""
        if not self._turns.is_here:
            self._warn_once(
                "this pipeline is attached, but its loop runs unguided: it was entered by its class's own function, or "
                "written by hand. Call pipe(...), or type(pipe).__call__.__wrapped__(pipe, ...) for gradients",
                level=5,
            )
        return original(*args, **kwargs)

    def _from_blocks(self, _: object, *args: object, **kwargs: object) -> object:
        return self.pipe.follow()(*args, **kwargs)

    def _denoisers(self) -> dict[str, torch.nn.Module]:
        parts = {name: getattr(self.pipe, name, None) for name in self._family.denoisers}
        modules = {name: part for name, part in parts.items() if isinstance(part, torch.nn.Module)}
        if not modules:
            raise TypeError(f"{self._cls.__name__} has no denoiser named {' or '.join(self._family.denoisers)}")
        return modules

    def _run(self, original: Original, *args: object, **kwargs: object) -> object:
        with (
            self._turns.take(self.pipe) as run,
            other_weights.at_rest(self.pipe, self.methods),
            one_at_a_time(self.pipe),
        ):
            return self._guided(run, original, Call(self._cls, args, kwargs))

    def _guided(self, run: intercept.Run, original: Original, call: Call) -> object:
        denoisers = self._denoisers()
        with FrontEnd(self.pipe, denoisers, call.positional).kept() as front_end:
            key = self._key(call)
            plan = PLANS.take(self.pipe, key)
            if plan is None:
                plan = self._plan(call, denoisers)
                output = self._sampled(run, original, call, plan, front_end, None)
            else:
                rewind = Rewind(list(call.arguments.values()), self.pipe)
                try:
                    plan = self._plan(call, denoisers, plan)
                    output = self._sampled(run, original, call, plan, front_end, Check(plan, self.pipe.scheduler))
                except Stale:
                    rewind.back()
                    plan = self._plan(call, denoisers)
                    output = self._sampled(run, original, call, plan, front_end, None)
            PLANS.give(self.pipe, key, plan)
        self.runs += 1
        return output

    def _sampled(
        self, run: intercept.Run, original: Original, call: Call, plan: Plan, front_end: FrontEnd, check: Check | None
    ) -> object:
        """One run of the pipeline, guided; `check` looks whether the plan still holds."""
        for warning in filter(None, [call.left_out(plan.rows), *map(plan.layout.misfit, masks_in(self.methods))]):
            self._warn_once(warning)
        parts = [getattr(self.pipe, name, None) for name in SIDE_MODELS]
        sides = {part: SideModel(part) for part in parts if isinstance(part, torch.nn.Module)}
        runner = Runner(plan, self.methods, self._one_call, self._max_batch, self._known, list(sides.values()))
        self.trace = runner.trace  # grows while it runs, for callbacks
        denoise: Any = runner.denoise if check is None else functools.partial(check.denoise, runner.denoise)
        step = runner.step_done if check is None else functools.partial(check.step, runner.step_done)
        draws = Draws(self.pipe.scheduler, call.complete, self._seeded)
        with ExitStack() as stack:
            front_end_over = stack.enter_context(front_end.remembering(run, by_rows=False))
            stack.enter_context(draws.watched())
            step = functools.partial(intercept.around, draws.step, step)
            handlers: dict[str, Any] = {"step": step, "set_timesteps": runner.schedule_set}
            if hasattr(self.pipe.scheduler, "scale_model_input"):
                handlers["scale_model_input"] = runner.scale_input
            alone, scheduler = TAKEN.format("a scheduler"), self.pipe.scheduler
            stack.enter_context(intercept.entered(scheduler, handlers, run, alone, reserved=["set_timesteps"]))
            for part, side in sides.items():
                stack.enter_context(intercept.entered(part, {"__call__": side.watch}, run))
            for name, module in plan.denoisers.items():
                handler = functools.partial(intercept.after, front_end_over, functools.partial(denoise, name, module))
                stack.enter_context(intercept.entered(module, {"__call__": handler}, run))
            try:
                given = apart(copied({**call.arguments, **plan.arguments}), run)
                output = original(*front_end.by_position(given), **given)
            finally:
                self.passes, self.unseeded = runner.evaluator.passes, draws.are_global
        if not runner.trace:
            raise RuntimeError(
                f"{self._cls.__name__} sampled without a step of its own scheduler and denoiser, so nothing was guided; "
                "attach to the pipeline that runs them"
            )
        runner.guard.finish()
        if call.says_negative and plan.guides and runner.trace and not runner.own_used:
            self._warn_once(
                "the call's own negative_prompt had no effect: "
                f"{', '.join(m.name or type(m).__name__ for m in self.methods)} put something else in its place; "
                'give it to the method as one more negative, or (of PerpNeg) keep it at work with unconditional="own"'
            )
        return output

    def __repr__(self) -> str:
        return f"<{', '.join(map(repr, self.methods))} on {self._cls.__name__}>"

    def _warn_once(self, message: str, level: int = 6) -> None:
        if message not in self._warned:
            self._warned.add(message)
            warnings.warn(message, stacklevel=level)

    def _key(self, call: Call) -> object:
        needing = any(method.needs_guidance and not method.is_neutral for method in self.methods)
        return plan_key(self.pipe, call, self._scale, needing)

    def _plan(self, call: Call, denoisers: dict[str, torch.nn.Module], plan: Plan | None = None) -> Plan:
        """A remembered plan, or else a new one, with all that is known beforehand of the conditions of this call."""
        caching = check_call(self.pipe, self._family, denoisers, call.complete)
        if plan is None:
            plan = self._new_plan(call, denoisers, caching)
        plan.begin(call, self.pipe, denoisers, caching)
        wanted = [condition for method in self.methods if plan.guides for condition in method.prompts()]
        wanted += [condition for method in self.methods for condition in method.companions()]
        plan.prepare(wanted)
        for condition in wanted:
            plan.key(condition)
            for sentence in each_image.unread(plan, condition.prompt):
                self._warn_once(sentence)
        if getattr(self.pipe, "_all_hooks", None):
            self.pipe.maybe_free_model_hooks()
        return plan

    def _new_plan(self, call: Call, denoisers: dict[str, torch.nn.Module], caching: bool) -> Plan:
        if self._scale is not None:
            reading = read_takeover(self.pipe, call, self._family, denoisers)
        else:
            reading = self._read(call, denoisers)
        return make_plan(self.pipe, call, self._family, denoisers, reading, self._scale, caching)

    def _read(self, call: Call, denoisers: dict[str, torch.nn.Module]) -> Reading:
        probed, name = first_probe(self.pipe, call, denoisers), self._cls.__name__
        mode, changes = read_mode(probed, name), {}
        needing = [m.name or type(m).__name__ for m in self.methods if m.needs_guidance and not m.is_neutral]
        if mode == "single" and needing:
            if "negative_prompt" in call.parameters and not call.has_negative:
                changes = {"negative_prompt": call.texts("")}
                probed = probe(self.pipe, denoisers, call.probing(changes))
                mode = read_mode(probed, name)
            if mode == "single":
                raise ValueError(why_unguided(name, needing, self._family, call))
        return Reading(probed, mode, changes)
