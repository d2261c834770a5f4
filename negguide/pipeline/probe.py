"""Run a pipeline's own front end up to its first scheduler step, with a denoiser that computes nothing.

What the denoiser was asked is the *call plan* of this pipeline for these arguments; doing so again with another negative
prompt shows exactly what that pipeline would feed for it. No prompt is encoded by code of ours.
"""

from __future__ import annotations

import copy
import functools
import inspect
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from diffusers.utils import logging as diffusers_logging
from torch import Tensor

from negguide.pipeline.argument_tree import copied
from negguide.pipeline.families import GUIDERS, SIDE_MODELS
from negguide.pipeline.front_end import FrontEnd
from negguide.pipeline.intercept import Run, base_class, entered
from negguide.pipeline.layout import stacked
from negguide.pipeline.levels import Levels
from negguide.pipeline.unread import Cut, listening
from negguide.types import Args, Named, Original, PipelineLike


class _Stop(BaseException):
    """Ends a probe at the first scheduler step; no pipeline catches it."""


@dataclass
class RecordedCall:
    """One denoiser call of a probe."""

    denoiser: str
    named: dict[str, Any]
    answer: Tensor
    """What the fake denoiser said: noise, another one in every call."""
    levels: Levels | None = None
    form: object = None
    """Shape, dtype and device of the noisy input."""

    @property
    def rows(self) -> int:
        return self.answer.shape[0]


@dataclass
class Probe:
    """What a pipeline did until its first scheduler step."""

    asked: list[RecordedCall] = field(default_factory=list)
    guided: Tensor | None = None
    """The prediction that reached the scheduler, i.e. what the pipeline's formula makes of the answers."""
    sample: Tensor | None = None
    timestep: float = 0.0
    scheduler: object = None
    count: int | None = None
    property_scale: float | None = None
    """The pipeline's `guidance_scale` property during this call, where it has one."""
    cuts: list[Cut] = field(default_factory=list)
    """Texts that its tokenizers did not read to the end."""
    settings: dict[str, object] = field(default_factory=dict)
    """`guidance_settings` of the pipeline during this call."""


def guidance_settings(pipe: object) -> dict[str, object]:
    """What a pipeline keeps of a call that says how it guides: numbers that callbacks may change."""
    return {
        key: value
        for key, value in pipe.__dict__.items()
        if key.startswith("_") and ("guidance" in key or "cfg" in key) and isinstance(value, (int, float, type(None)))
    }


def named_arguments(module: torch.nn.Module, args: Args, kwargs: Mapping[str, object]) -> Named:
    """A denoiser call as keyword arguments, by the signature of the (uncompiled, unhooked) forward."""
    if not args:
        return dict(kwargs)
    inner = getattr(module, "_orig_mod", module)
    return {**dict(zip(_parameters(base_class(inner)), args, strict=False)), **kwargs}


def placed(module: torch.nn.Module, args: Args, named: Mapping[str, object]) -> tuple[Args, Named]:
    """Values `named` in the form of a call: what came by position in `args` goes by position, as hooks expect it."""
    rest = dict(named)
    inner = getattr(module, "_orig_mod", module)
    return tuple(rest.pop(name) for name in _parameters(base_class(inner))[: len(args)]), rest


@lru_cache(maxsize=64)
def _parameters(cls: Any) -> tuple[str, ...]:
    """Names of what the forward of a class takes."""
    return tuple(inspect.signature(cls.forward).parameters)[1:]


def main_input(named: Mapping[str, object]) -> tuple[str, object]:
    """Name and value of the noisy input: the first argument of every diffusers denoiser."""
    for name in ("sample", "hidden_states", "x"):
        if name in named:
            return name, named[name]
    name = next(iter(named))
    return name, named[name]


def form_of(value: Any) -> Any:
    """Shape, dtype and device of a noisy input, a tensor or a list of rows."""
    if isinstance(value, (list, tuple)):
        return [form_of(item) for item in value]
    return tuple(value.shape), value.dtype, value.device


def rows_of(value: Any) -> int:
    """Rows of a noisy input, a tensor or a list of rows."""
    return len(value) if isinstance(value, (list, tuple)) else int(value.shape[0])


def _answer_shape(module: Any, value: Tensor) -> tuple[int, ...]:
    """Shape of the denoiser's prediction for a noisy input, by its configuration."""
    shape = list(value.shape)
    config = module.config
    inside, patch = config.get("in_channels"), config.get("patch_size")
    outside = config.get("out_channels")
    if outside is None:
        # Some decide in their constructor: twice as many where the variance is learned.
        outside = getattr(module, "out_channels", None)
    if not isinstance(outside, int) or value.ndim < 3:
        return tuple(shape)
    if value.ndim == 3:
        patch = patch if isinstance(patch, int) else 1
        return tuple(shape if shape[-1] in (outside, outside * patch**2) else [*shape[:-1], outside])
    for axis in (1, 2) if value.ndim == 5 else (1,):
        if shape[axis] == inside:
            shape[axis] = outside
            break
    return tuple(shape)


class _FakeDenoiser:
    """Answers every call with fresh float32 noise of the right shape and remembers what it was asked."""

    def __init__(self, name: str, module: torch.nn.Module, probe: Probe) -> None:
        self.name, self.module, self.probe = name, module, probe

    def __call__(self, original: object, *args: object, **kwargs: object) -> object:
        named = named_arguments(self.module, args, kwargs)
        _, value = main_input(named)
        whole = stacked(value)
        generator = torch.Generator().manual_seed(len(self.probe.asked) + 1)
        shape = tuple(whole.shape) if isinstance(value, (list, tuple)) else _answer_shape(self.module, whole)
        answer = torch.randn(shape, generator=generator).to(whole.device)
        levels = Levels(self.probe.scheduler)
        self.probe.asked.append(RecordedCall(self.name, copied(named), answer, levels, form_of(value)))
        prediction = list(answer.unbind(0)) if isinstance(value, (list, tuple)) else answer
        if named.get("return_dict", True):
            from diffusers.models.modeling_outputs import Transformer2DModelOutput

            return Transformer2DModelOutput(sample=prediction)
        return (prediction,)


def clone_generators(value: object) -> Any:
    """Generators in the same state, so that drawing from them leaves the caller's as they are."""
    if isinstance(value, torch.Generator):
        return torch.Generator(value.device).set_state(value.get_state())
    if isinstance(value, (list, tuple)):
        return type(value)(clone_generators(item) for item in value)
    return value


def _as_it_is(original: Original, *args: object, **kwargs: object) -> object:
    """Handler of side models: what they say to a probe is nothing that a run may remember."""
    return original(*args, **kwargs)


_muting, _muted = threading.Lock(), list[int]()
"""The verbosity to come back to, once for each probe that runs now, in whatever thread."""


@contextmanager
def _quiet() -> Iterator[None]:
    """A probe repeats what the real call will say anyway."""
    with _muting:
        if not _muted:
            _muted.append(diffusers_logging.get_verbosity())
            diffusers_logging.set_verbosity_error()
        else:
            _muted.append(_muted[0])
    try:
        yield
    finally:
        with _muting:
            level = _muted.pop()
            if not _muted:
                diffusers_logging.set_verbosity(level)


def _twin(pipe: PipelineLike) -> tuple[Any, Any]:
    """A shallow copy of a pipeline with a scheduler, and guiders, of its own, which remember where in a run they are."""
    twin, scheduler = copy.copy(pipe), copy.deepcopy(pipe.scheduler)
    guiders = {part: copy.copy(vars(pipe)[part]) for part in GUIDERS if part in vars(pipe)}
    twin.__dict__.update(guiders, scheduler=scheduler, _progress_bar_config={"disable": True})
    return twin, scheduler


def probe(
    pipe: Any,
    denoisers: Mapping[str, torch.nn.Module],
    arguments: Mapping[str, object],
    by_rows: bool = False,
    then: Mapping[str, object] | None = None,
) -> Probe:
    """Ask what `pipe(**arguments)` would ask its denoiser first.

    Within a call its encoders answer from memory where they can (`by_rows`: see `FrontEnd`). `then`: ask about
    the second step instead, these attributes of the pipeline being changed after the first; there may be none (`guided` is
    then None).

    Works on a shallow copy of the pipeline with a copy of its scheduler and of the generators; global random state is
    restored. Also fit for use while the pipeline is running (adaptive negatives). Raises what the pipeline raises.
    """
    cls = base_class(pipe)
    twin, scheduler = _twin(pipe)
    twin.__dict__.pop("_num_timesteps", None)
    result, run = Probe(scheduler=scheduler), Run(twin)
    listening(pipe, twin, result.cuts)

    changes = [] if then is None else [then]

    def stop(original: Original, *args: object, **kwargs: object) -> object:
        if changes:
            twin.__dict__.update(changes.pop())
            result.asked.clear()
            return original(*args, **kwargs)
        bound = inspect.signature(original).bind(*args, **kwargs).arguments
        result.guided, result.sample = bound["model_output"], bound["sample"]
        result.timestep = float(bound["timestep"])
        result.count = twin.__dict__.get("_num_timesteps")
        scale = twin.__dict__.get("_guidance_scale")
        result.property_scale = float(scale) if isinstance(scale, (int, float)) else None
        result.settings = guidance_settings(twin)
        raise _Stop

    given = {key: clone_generators(copied(value)) for key, value in arguments.items()}
    cuda = [device for device in {getattr(pipe, "_execution_device", None)} if device is not None]
    indices = [d.index or 0 for d in cuda if d.type == "cuda"]
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=indices))
        stack.enter_context(_quiet())
        stack.enter_context(entered(scheduler, {"step": stop}, run))
        for name, module in denoisers.items():
            stack.enter_context(entered(module, {"__call__": _FakeDenoiser(name, module, result)}, run))
        for part in (getattr(pipe, name, None) for name in SIDE_MODELS):
            if isinstance(part, torch.nn.Module):
                stack.enter_context(entered(part, {"__call__": _as_it_is}, run))
        front_end = FrontEnd.of(pipe)
        if front_end is not None:
            stack.enter_context(front_end.remembering(run, by_rows))
        args = [] if front_end is None else front_end.by_position(given)
        try:
            cls.__call__(twin, *args, **given)
        except _Stop:
            return result
    if then is not None:
        return result
    raise ValueError(
        f"{cls.__name__} finished without one scheduler step: negguide reads the call from the first step, "
        "so ask for at least one inference step"
    )


def first_step_fails(pipe: Any, arguments: Mapping[str, object]) -> Exception | None:
    """What the plain `pipe(**arguments)` raises before its first scheduler step; None if nothing.

    Nothing is intercepted: the denoiser is the real one, classes are what they are.
    """
    twin, scheduler = _twin(pipe)

    @functools.wraps(scheduler.step)
    def stop(*args: object, **kwargs: object) -> object:
        raise _Stop

    scheduler.step = stop
    given = {key: clone_generators(copied(value)) for key, value in arguments.items()}
    with torch.random.fork_rng(devices=[]), _quiet():
        try:
            base_class(pipe).__call__(twin, **given)
        except _Stop:
            return None
        except Exception as error:
            return error
    return None
