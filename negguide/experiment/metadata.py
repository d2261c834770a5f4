"""What stands inside the PNG of a picture: all that made it. One writer and one reader for comparisons, batches and the demo."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from negguide import formats
from negguide.experiment.inputs import NOTHING, Inputs
from negguide.experiment.recipe import versions
from negguide.experiment.sampling import Settings
from negguide.experiment.tasks import Task, describe
from negguide.experiment.textfile import printable
from negguide.methods import Method, Negative, to_dict
from negguide.methods.prompt import format_prompt

_JSON = ("negatives", "methods", "group", "settings")


@dataclasses.dataclass(frozen=True)
class PictureMetadata:
    """What made one picture.

    Args:
        prompt: the text that was asked for.
        negatives: its negatives, each as `text[:weight][@start-stop]`.
        methods: the methods as `to_dict` writes them, in their order; empty for the plain pipeline.
        seed: of this picture.
        group: seeds of all pictures of the same call, which matter where a method couples pictures.
        model: "toybox/...", a folder, or a name of the Hub.
        settings: "steps", "guidance_scale" (None: the pipeline's own), "size" ([width, height] in pixels or None), "takeover"
            and "dtype"; "inputs" (words of the command line) where there was more than a prompt: LoRA, pictures, a scheduler.
        passes: denoiser passes, in units of one row per picture.
    """

    prompt: str
    negatives: tuple[str, ...]
    methods: tuple[dict[str, Any], ...]
    seed: int
    group: tuple[int, ...]
    model: str
    settings: Mapping[str, Any]
    passes: float

    @classmethod
    def of(
        cls,
        task: Task,
        methods: Sequence[Method],
        seed: int,
        group: Sequence[int],
        model: str,
        settings: Settings,
        dtype: str,
        passes: float,
        inputs: Inputs = NOTHING,
    ) -> PictureMetadata:
        """The metadata of a picture that has just been made."""
        return cls(
            prompt=task.prompt,
            negatives=tuple(_written(negative) for negative in task.negatives),
            methods=tuple(to_dict(method) for method in methods),
            seed=seed,
            group=tuple(group),
            model=printable(model),
            settings={
                "steps": settings.steps,
                "guidance_scale": settings.guidance_scale,
                "size": settings.size,
                "takeover": settings.takeover,
                "dtype": dtype,
                **({"inputs": inputs.words()} if inputs != NOTHING else {}),
            },
            passes=passes,
        )

    def texts(self, **more: str) -> dict[str, str]:
        """The texts of the PNG, by key; `more` are a job's own."""
        written = {formats.KEY: str(formats.FORMAT)}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _JSON:
                written[field.name] = json.dumps(value, ensure_ascii=False)
            else:
                written[field.name] = f"{value:g}" if isinstance(value, float) else str(value)
        return {**written, "versions": json.dumps(versions()), **more}

    @classmethod
    def read(cls, texts: Mapping[str, str]) -> PictureMetadata | None:
        """Inverse of `texts`; None where a PNG holds no settings of negguide. `ValueError` where they are damaged.

        PNGs of 0.1 hold no "format", "group" or "settings"; those are then empty.
        """
        if "prompt" not in texts or "methods" not in texts:
            return None
        try:
            formats.opened({key: texts[key] for key in texts if key == formats.KEY}, (), "this PNG", stacklevel=2)
            seed = int(texts.get("seed", "0"))
            loaded = {key: json.loads(texts[key]) if key in texts else None for key in _JSON}
            methods = tuple(dict(method) for method in json.loads(texts["methods"]))
            return cls(
                prompt=texts["prompt"],
                negatives=tuple(map(str, loaded["negatives"] or ())),
                methods=methods,
                seed=seed,
                group=tuple(map(int, loaded["group"] or (seed,))),
                model=texts.get("model", ""),
                settings=dict(loaded["settings"] or {}),
                passes=float(texts.get("passes", "nan")),
            )
        except (TypeError, ValueError) as error:
            raise ValueError("the settings in this PNG are damaged") from error


def _written(negative: Negative) -> str:
    """As one types it; in words where it has no such form."""
    try:
        return format_prompt("", [negative]).removeprefix("--no ")
    except ValueError:
        return describe(negative)
