"""The Toybox's open_clip CLIP: features of its pictures and captions.

The folder is a public open_clip one: `open_clip.create_model_and_transforms("local-dir:<folder>")` loads it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.metrics.clip import Clip
from negguide.toybox.load import assets_dir

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def clip_dir() -> Path:
    """The folder of the bundled CLIP."""
    return assets_dir() / "toybox" / "clip"


@cache
def load(folder: Path | str | None = None) -> Clip:
    """The CLIP of a folder, by default the bundled one; loaded once.

    Raises:
        ValueError: if the folder holds no open_clip model.
    """
    return Clip.load(f"local-dir:{folder or clip_dir()}")


def load_clip(folder: Path | str | None = None) -> tuple[Any, Any, Any]:
    """Its parts (model, preprocess, tokenizer), as open_clip hands them out."""
    clip = load(folder)
    return clip.model, clip.preprocess, clip.tokenizer


def image_features(images: Sequence[Image]) -> Tensor:
    """PIL pictures -> (N, C) float32 rows of length 1; their products with `text_features` are cosines."""
    return load().images(images)


def text_features(texts: Sequence[str]) -> Tensor:
    """Texts -> (N, C) float32 rows of length 1."""
    return load().texts(texts)
