"""What watchers saw and did in a comparison: the looks of adaptive methods, with the very pictures that were shown to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.compare.records import Glance, Look
from negguide.experiment.files import write
from negguide.experiment.sampling import png
from negguide.methods import AdaptiveNegatives, Method
from negguide.watchers.registry import as_watcher

if TYPE_CHECKING:
    from PIL.Image import Image

    from negguide.engine.record import StepRecord
    from negguide.watchers.protocol import Question, Watcher

THUMBNAIL = 192
"""Pixels of the longer side of a kept preview, at most."""


class Recorder:
    """A watcher that answers as another one does and remembers, look by look, what it was shown."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self.shown: list[Sequence[Image]] = []

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> Sequence[object]:
        self.shown.append(images)
        return self.watcher(images, questions)


def recorded(methods: Sequence[Method]) -> tuple[tuple[Method, ...], Recorder | None]:
    """The methods, the watcher of the adaptive one among them replaced by one that remembers.

    None if there is no such method, or if there are several: whose look is whose could not be told then.
    """
    watching = [method for method in methods if isinstance(method, AdaptiveNegatives) and method.weight != 0]
    if len(watching) != 1:
        return tuple(methods), None
    recorder = Recorder(as_watcher(watching[0].watcher))
    replaced = dataclasses.replace(watching[0], watcher=recorder)
    return tuple(replaced if method is watching[0] else method for method in methods), recorder


def looks(
    trace: Sequence[StepRecord], recorder: Recorder | None, seeds: Sequence[int], out: Path, folder: Path
) -> list[Look]:
    """Every look of a call with these seeds, in order; the previews are written to `out / folder`.

    All pictures of the call have one prompt, so that the watcher is called once a look.
    """
    shown, records = iter(recorder.shown if recorder else ()), []
    for note in (note for record in trace for note in record.notes if "looked_at" in note):
        step = int(note["looked_at"])
        pictures = next(shown, ()) if note.get("asked", True) else ()
        files = [folder / f"{seed}-step-{step}.png" for seed, _ in zip(seeds, pictures, strict=False)]
        for file, picture in zip(files, pictures, strict=True):
            write(out / file, png(_small(picture), {}))
        by_image = {row["image"]: row for row in note.get("images", ())}
        records.append(
            Look(
                method=note["method"],
                step=step,
                of=len(trace),
                acts_from=note["acts_from"],
                seconds=note.get("seconds"),
                error=note.get("error"),
                seeds=list(seeds),
                glances=[_glance(place, files, by_image.get(place, {})) for place in range(len(seeds))],
            )
        )
    return records


def _glance(place: int, files: Sequence[Path], by_image: Mapping[str, Any]) -> Glance:
    kept = {name: by_image[name] for name in ("asked", "answered", "negatives", "left_out") if name in by_image}
    return Glance(image=place, preview=files[place].as_posix() if place < len(files) else None, **kept)


def _small(picture: Image) -> Image:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small
