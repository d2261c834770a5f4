"""Where the bundled Toybox models lie, and how they are loaded: by the stock classes, from a folder."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, overload

from negguide.experiment.models import absent
from negguide.names import Sampling
from negguide.versions import dtype_argument

if TYPE_CHECKING:
    import torch
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_3.pipeline_stable_diffusion_3 import StableDiffusion3Pipeline

    from negguide.types import Pipeline


PIPELINES: Mapping[str, Sampling] = {
    "sd": Sampling(25, 5.0),
    "sd3": Sampling(25, 5.0, {"max_sequence_length": 0}),
    "few-step": Sampling(4, 1.0),
}
"""The bundled pipelines, each a folder in the public diffusers format: a Stable-Diffusion-type one, a flow-matching one
in the format of Stable Diffusion 3, and a student of the first that needs 4 steps and no guidance.

The second has no T5 encoder, in whose place the stock pipeline appends 256 zero tokens to each text. It draws the same with
them, three times slower; `max_sequence_length=0` leaves them out.
"""

MODEL = "toybox"
"""The name of the bundled models where a model is asked for: "toybox" is the first, "toybox/sd3" the one of that name."""


def bundled(model: str) -> str | None:
    """The bundled pipeline that the name of a model means ("toybox/sd3": "sd3"), None for any other model.

    Raises `ValueError` for "toybox/" with a name that is none.
    """
    if model == MODEL:
        return "sd"
    if not model.startswith(MODEL + "/"):
        return None
    name = model.removeprefix(MODEL + "/")
    pipeline_dir(name)
    return name


@cache
def assets_dir() -> Path:
    """The folder of bundled files: inside the installed package, or at the root of a checkout.

    Raises `FileNotFoundError` when neither is there.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "assets", package.parent / "assets"):
        if (folder / "toybox").is_dir():
            return folder
    raise FileNotFoundError(f"no assets/toybox beside or inside {package}; reinstall negguide, or train the Toybox")


def pipeline_dir(name: str = "sd") -> Path:
    """The folder of a bundled pipeline, for `StableDiffusionPipeline.from_pretrained`."""
    if name not in PIPELINES:
        raise ValueError(f"unknown Toybox pipeline {name!r}; possible: {', '.join(PIPELINES)}")
    return assets_dir() / "toybox" / name


@overload
def load_pipeline(
    name: Literal["sd", "few-step"] = "sd", dtype: torch.dtype | None = None
) -> StableDiffusionPipeline: ...
@overload
def load_pipeline(name: Literal["sd3"], dtype: torch.dtype | None = None) -> StableDiffusion3Pipeline: ...
@overload
def load_pipeline(name: str, dtype: torch.dtype | None = None) -> Pipeline: ...
def load_pipeline(name: str = "sd", dtype: torch.dtype | None = None) -> Pipeline:
    """A fresh copy of a bundled pipeline, on the CPU, silent, in float32 unless told otherwise (the files are float16)."""
    return load_folder(pipeline_dir(name), dtype)


def load_folder(folder: Path, dtype: torch.dtype | None = None) -> Pipeline:
    """`load_pipeline` from any folder. What its index names as absent is told to diffusers, which else asks for it."""
    import diffusers
    import torch

    named = dtype_argument(diffusers, dtype or torch.float32)
    pipe = diffusers.DiffusionPipeline.from_pretrained(str(folder), **named, **absent(folder))
    pipe.set_progress_bar_config(disable=True)
    return cast("Pipeline", pipe)  # of the class that the folder names, which has a call
