"""What the package brings; named by its entry point, called once."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from negguide.methods import Guidance, Method
from negguide.methods import register as register_method
from negguide.names import Bundle, Sampling, register_bundle
from negguide.watchers import register_watcher


def always_cat(images: Sequence[Any], questions: Sequence[Any]) -> list[list[str]]:
    """A watcher that sees a cat whatever it is shown."""
    return [["cat" for _ in questions] for _ in images]


@dataclasses.dataclass(frozen=True)
class HalfGuidance(Method):
    """Guidance is multiplied by a share.

    Args:
        share: of the pipeline's guidance scale, 0 to 1 (1: nothing changes).
    """

    name: ClassVar[str] = "half_guidance"
    summary: ClassVar[str] = "guides at a share of the scale"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "an example"

    share: float = 0.5

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        """Scale what is guided with."""
        if self.share != 1:
            guidance.scale = guidance.scale * self.share


def _no_model(pipeline: str, dtype: Any) -> Any:
    raise FileNotFoundError("this bundle is an example and has no files")


def register() -> None:
    """Make everything known to negguide."""
    register_method(HalfGuidance)
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
