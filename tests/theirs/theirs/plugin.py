"""What the package brings; named by its entry point, called once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from negguide.methods import Guidance, Method
from negguide.methods import register as register_method
from negguide.metrics.column import Column
from negguide.metrics.registry import Metric, register_metric
from negguide.names import Bundle, Sampling, register_bundle
from negguide.pipeline.families.family import Family, Rule
from negguide.pipeline.families.registry import register_family
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


def _load_brightness(option: str) -> tuple[str, Callable[[Sequence[Any]], dict[str, float]]]:
    """The mean of all pixels, 0 (black) to 1."""

    def scores(pictures: Sequence[Any]) -> dict[str, float]:
        means = [sum(picture.convert("L").tobytes()) / (255 * picture.width * picture.height) for picture in pictures]
        return {"brightness": sum(means) / len(means)}

    return "brightness", scores


BRIGHTNESS = Metric(
    "brightness", (Column("brightness", "brightness", "{:.2f}", "", "mean of all pixels, 0 to 1"),), _load_brightness
)
"""A metric: `negguide measure --with brightness`."""

LOOM = Family("Loom", ("LoomPipeline",), layers=(Rule(("LoomTransformer",), r"threads\.\d+\.attn", "cross"),))
"""A model family: pipelines that begin with Loom, and where their denoiser's image tokens meet the text."""


def register() -> None:
    """Make everything known to negguide."""
    register_method(HalfGuidance)
    register_watcher("always-cat", always_cat)
    register_metric(BRIGHTNESS)
    register_family(LOOM)
    register_bundle(
        Bundle(
            name="tiny-world",
            pipelines={"first": Sampling(steps=7, guidance_scale=3.0)},
            folder=lambda pipeline: Path("absent") / pipeline,
            load=_no_model,
            python=lambda pipeline: ["from theirs import pipe"],
        )
    )
