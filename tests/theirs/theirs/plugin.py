"""What the package brings; named by its entry point, called once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from negguide.names import Bundle, Sampling, register_bundle
from negguide.watchers import register_watcher


def always_cat(images: Sequence[Any], questions: Sequence[Any]) -> list[list[str]]:
    """A watcher that sees a cat whatever it is shown."""
    return [["cat" for _ in questions] for _ in images]


def _no_model(pipeline: str, dtype: Any) -> Any:
    raise FileNotFoundError("this bundle is an example and has no files")


def register() -> None:
    """Make everything known to negguide."""
    register_watcher("always-cat", always_cat)
    register_bundle(
        Bundle(
            name="tiny-world",
            pipelines={"first": Sampling(steps=7, guidance_scale=3.0)},
            folder=lambda pipeline: Path("absent") / pipeline,
            load=_no_model,
            python=lambda pipeline: ["from theirs import pipe"],
        )
    )
