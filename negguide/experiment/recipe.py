"""How a comparison is made again: the command, the Python lines, the versions."""

from __future__ import annotations

import dataclasses
import inspect
import platform
import shlex
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING

from negguide.experiment.arms import Arm
from negguide.experiment.sampling import input_size, scale_of_takeover
from negguide.experiment.tasks import Request
from negguide.methods import Method, Negative, Window, to_json
from negguide.names import DEFAULT

if TYPE_CHECKING:
    from negguide.experiment.models import Model

PACKAGES = ("torch", "diffusers", "transformers", "open_clip_torch", "numpy", "pillow")


@cache
def versions() -> dict[str, str]:
    """What is at work here."""
    from negguide import __version__

    by_package = {"negguide": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            by_package[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return by_package


def command_line(model: str, request: Request) -> str:
    """The `negguide compare` line of a request."""
    words = ["negguide", "compare", *(task.text for task in request.tasks)]
    words += ["--methods", ",".join(arm.label for arm in request.arms)]
    words += ["--seeds", format_seeds(request.seeds), "--steps", str(request.steps)]
    if model != DEFAULT:
        words += ["--model", model]
    if request.guidance_scale is not None:
        words += ["--guidance", f"{request.guidance_scale:g}"]
    if request.size is not None:
        words += ["--size", "x".join(map(str, request.size))]
    words += ["--takeover"] if request.takeover else []
    words += request.inputs.words()
    return shlex.join([*words, "--out", str(request.out)])


def format_seeds(seeds: tuple[int, ...]) -> str:
    """`(0, 1, 2, 5)` -> `"0-2,5"`, the shortest text that `parse_seeds` reads back."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][-1] + 1:
            runs[-1].append(seed)
        else:
            runs.append([seed])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def python_lines(model: Model, request: Request) -> str:
    """A script that makes the pictures of the first prompt under the last method again."""
    task, arm = request.tasks[0], _most_telling(request.arms)
    methods = arm.build(task.negatives)
    cls = type(model.pipe).__name__ if request.inputs.task is None else "DiffusionPipeline"
    dtype = str(model.pipe.dtype)
    if model.bundled:
        loading = [*model.bundled.bundle.python(model.bundled.pipeline)]
    else:
        loading = [
            f"from diffusers import {cls}",
            "",
            f"pipe = {cls}.from_pretrained({model.name!r}, dtype={dtype})",
        ]
    if model.device != "cpu":
        loading.append(f"pipe.to({model.device!r})")
    scale = ""
    if request.guidance_scale is not None and not request.takeover:
        annotated = type(model.pipe).__call__.__annotations__
        name = "true_cfg_scale" if "true_cfg_scale" in annotated else "guidance_scale"
        scale = f", {name}={request.guidance_scale:g}"
    parameters = inspect.signature(type(model.pipe).__call__).parameters
    size = f", width={request.size[0]}, height={request.size[1]}" if request.size and "width" in parameters else ""
    prepared, given = request.inputs.python(parameters, input_size(model, request.size))
    loading += prepared
    more = "".join(f", {key}={value!r}" for key, value in model.more.items())
    attached = [python_of(method) for method in methods]
    if (takeover := scale_of_takeover(request, methods)) is not None:
        attached.append(f"guidance_scale={takeover:g}")
    call = f"images = pipe({task.prompt!r}, num_inference_steps={request.steps}{scale}{size}{given}{more},"
    rest = "              num_images_per_prompt=len(seeds), generator=noise).images"
    calling = [call, rest]
    if attached:
        calling = [f"with ng.attach(pipe, {', '.join(attached)}):", *(f"    {line}" for line in calling)]
    return "\n".join(
        [
            "import torch",
            "import negguide as ng",
            *loading,
            f"seeds = {list(request.seeds)}",
            "noise = [torch.Generator().manual_seed(seed) for seed in seeds]",
            *calling,
        ]
    )


def python_of(method: Method) -> str:
    """The shortest expression that makes this method: `ng.PerpNeg("cat")`; `ng.from_json(...)` with masks and pictures."""
    if not all(_is_plain(getattr(method, field.name)) for field in dataclasses.fields(method)):
        return f"ng.from_json({to_json(method)!r})"
    given = []
    for field in dataclasses.fields(method):
        value = getattr(method, field.name)
        if field.name == "negatives":
            texts = [_negative(negative) for negative in value]
            given.append(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")
        elif field.default is dataclasses.MISSING or value != field.default:
            given.append(f"{field.name}={_window(value) if isinstance(value, Window) else repr(value)}")
    return f"ng.{type(method).__name__}({', '.join(given)})"


def _is_plain(value: object) -> bool:
    """Whether `python_of` has words for a value."""
    if isinstance(value, Negative):
        return value.mask is None and value.instead_of is None and isinstance(value.prompt, str)
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool | int | float | Window)


def _most_telling(arms: tuple[Arm, ...]) -> Arm:
    """The arm that the Python lines show: Perp-Neg if it was compared, else the last."""
    return next((arm for arm in arms if arm.label == "perp_neg"), arms[-1])


def _negative(negative: Negative) -> str:
    if negative.window != Window():
        return f"ng.Negative({negative.prompt!r}, {negative.weight:g}, {_window(negative.window)})"
    return repr(negative.prompt) if negative.weight == 1 else f"({negative.prompt!r}, {negative.weight:g})"


def _window(window: Window) -> str:
    unit = "" if window.unit == "progress" else f", {window.unit!r}"
    return f"ng.Window({window.start:g}, {window.stop:g}{unit})"
