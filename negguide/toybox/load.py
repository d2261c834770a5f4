"""Where the bundled Toybox models lie, and how they are loaded: by the stock classes, from a folder."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from diffusers import DiffusionPipeline

PIPELINES = ("sd",)
"""Names of the bundled pipelines; each is a folder in the public diffusers format."""


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


def load_pipeline(name: str = "sd", dtype: torch.dtype | None = None) -> DiffusionPipeline:
    """A fresh copy of a bundled pipeline, on the CPU, silent, in float32 unless told otherwise (the files are float16)."""
    import torch
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(str(pipeline_dir(name)), dtype=dtype or torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe
