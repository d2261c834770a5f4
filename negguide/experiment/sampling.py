"""One call of a pipeline under methods: pictures of given seeds, what they cost, and how they become files."""

from __future__ import annotations

import dataclasses
import inspect
import io
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from negguide.experiment.inputs import NOTHING, Inputs
from negguide.experiment.models import Model
from negguide.methods import Method
from negguide.types import PipelineLike

if TYPE_CHECKING:
    from PIL.Image import Image

    from negguide.engine.record import StepRecord


class Lost(RuntimeError):
    """Something that a method relies on failed, so that the pictures are not what it makes."""


class Settings(Protocol):
    """How pictures are made; None leaves the choice to the pipeline. See `negguide.compare.Request`."""

    @property
    def steps(self) -> int: ...
    @property
    def guidance_scale(self) -> float | None: ...
    @property
    def size(self) -> tuple[int, int] | None: ...
    @property
    def takeover(self) -> bool: ...


@dataclasses.dataclass(frozen=True)
class Made:
    """What a call gave: pictures (RGB) in the order of the seeds, its seconds, denoiser passes per picture, its steps."""

    images: list[Image]
    seconds: float
    passes: float
    trace: Sequence[StepRecord]

    @property
    def lost(self) -> str | None:
        """What methods could not do in this call, in one line; None where they did all."""
        return lost_in(self.trace)


def lost_in(trace: Sequence[StepRecord]) -> str | None:
    """`"adaptive lost 2 of its 3 looks (RuntimeError: out of order)"`; None where no note of a method tells of an error."""
    notes = [note for record in trace for note in record.notes]
    lost = []
    for method in dict.fromkeys(note.get("method", "a method") for note in notes if note.get("error")):
        its = [note for note in notes if note.get("method", "a method") == method]
        errors = [" ".join(str(note["error"]).split()) for note in its if note.get("error")]
        lost.append(f"{method} lost {len(errors)} of its {len(its)} looks ({'; '.join(dict.fromkeys(errors))})")
    return "; ".join(lost) or None


def make(
    model: Model,
    settings: Settings,
    prompt: str,
    methods: Sequence[Method],
    seeds: Sequence[int],
    tell: Callable[[float], None] = lambda pictures: None,
    max_batch: int | None = None,
    onlookers: Sequence[Method] = (),
    whole: bool = False,
    inputs: Inputs = NOTHING,
) -> Made:
    """Pictures of these seeds in one call. `tell` hears how many pictures more are done (fractions of one, often).

    `max_batch`: as in `attach`. `onlookers`: methods that only look, such as for previews; they are no guidance.
    `inputs`: pictures that the call starts from or follows. `whole`: stop with `Lost` as soon as a method could not
    do its part; otherwise `Made.lost` tells. Raises whatever the pipeline raises, and `TypeError` if it makes no
    pictures.
    """
    from negguide.engine import attach

    share_told = 0.0

    def tick(pipe: object, step: int, timestep: object, values: dict[str, object]) -> dict[str, object]:
        nonlocal share_told
        share = len(seeds) / settings.steps
        if share_told + share <= len(seeds):
            share_told += share
            tell(share)
        check()
        return values

    def check() -> None:
        if whole and (lost := lost_in(attached.trace)):
            raise Lost(lost)

    call = arguments(model, settings, prompt, seeds, inputs)
    if "callback_on_step_end" in inspect.signature(type(model.pipe).__call__).parameters:
        call["callback_on_step_end"] = tick
    started = time.perf_counter()
    with attach(
        model.pipe,
        *methods,
        *onlookers,
        guidance_scale=scale_of_takeover(settings, methods),
        max_batch=max_batch,
        seeded=True,
    ) as attached:
        output = model.pipe(**call)
    if attached.unseeded:
        warnings.warn(
            f"seeds do not hold: {type(model.pipe.scheduler).__name__} draws noise from the random state of the process, "
            "so that a seed gives another picture each time, and arms differ by more than their methods; use a "
            "scheduler that takes a generator, or one without noise in its steps",
            stacklevel=2,
        )
    check()
    seconds = time.perf_counter() - started
    tell(len(seeds) - share_told)
    images = getattr(output, "images", None)
    if images is None:
        raise TypeError(f"{type(model.pipe).__name__} makes no pictures (its output is {type(output).__name__})")
    return Made([image.convert("RGB") for image in images], seconds, float(attached.passes), attached.trace)


def scale_of_takeover(settings: Settings, methods: Sequence[Method]) -> float | None:
    """What `attach` gets as its guidance scale. Without methods: 1, the model without classifier-free guidance."""
    if not settings.takeover:
        return None
    return settings.guidance_scale if methods else 1.0


def arguments(
    model: Model, settings: Settings, prompt: str, seeds: Sequence[int], inputs: Inputs = NOTHING
) -> dict[str, object]:
    """Arguments of the pipeline's call; the starting noise of a seed does not depend on the batch or the device."""
    import torch

    parameters = inspect.signature(type(model.pipe).__call__).parameters
    call: dict[str, object] = {
        "prompt": prompt,
        "num_inference_steps": settings.steps,
        "num_images_per_prompt": len(seeds),
        "generator": [torch.Generator("cpu").manual_seed(seed) for seed in seeds],
        **model.more,
    }
    if settings.guidance_scale is not None and not settings.takeover:
        scale = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
        call[scale] = settings.guidance_scale
    if settings.size is not None and "width" in parameters:
        call["width"], call["height"] = settings.size
    return call | inputs.arguments(parameters, input_size(model, settings.size))


def input_size(model: Model, size: tuple[int, int] | None) -> tuple[int, int] | None:
    """The (width, height) in pixels that input pictures are brought to; None leaves them as they are.

    It is the given one, and of a bundled model the one that it was trained on.
    """
    pipe: PipelineLike = model.pipe
    if size is not None or model.bundled is None:
        return size
    denoiser = getattr(pipe, "unet", None) or getattr(pipe, "transformer", None)
    side = getattr(getattr(denoiser, "config", None), "sample_size", None)
    return (side * pipe.vae_scale_factor,) * 2 if isinstance(side, int) else None


def png(image: Image, metadata: Mapping[str, str]) -> bytes:
    """A picture as PNG with texts inside; the same bytes for the same picture and texts."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for key, value in metadata.items():
        info.add_itxt(key, value)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()
