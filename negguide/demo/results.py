"""What a comparison has come to so far, as the page and the API tell it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from negguide import formats
from negguide.demo.settings import Settings
from negguide.experiment.sampling import Made
from negguide.types import Json

if TYPE_CHECKING:
    from PIL.Image import Image

State = Literal["waiting", "running", "done", "failed", "stopped"]


@dataclasses.dataclass(frozen=True)
class Look:
    """One look of an adaptive method at one picture: when, what it was like, what was seen, what is avoided from then on."""

    step: int
    acts_from: int
    picture: Image | None
    seen: tuple[tuple[str, float | None], ...] = ()
    negatives: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    error: str = ""


@dataclasses.dataclass(frozen=True)
class Result:
    """One arm of a comparison as it stands. `files`: the pictures as PNGs with their settings inside.

    `previews`, `thumbs`: small pictures as `data:` addresses, while they form and when they are done; `first`: the first preview.
    """

    label: str
    summary: str
    state: State = "waiting"
    step: int = 0
    steps: int = 0
    previews: tuple[str, ...] = ()
    first: Image | None = None
    images: tuple[Image, ...] = ()
    thumbs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    presence: Mapping[str, float] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()
    shows: tuple[bool, ...] = ()
    looks: tuple[tuple[Look, ...], ...] = ()
    warnings: tuple[str, ...] = ()
    error: str = ""
    python: str = ""
    command: str = ""

    @property
    def is_incomplete(self) -> bool:
        """Whether its pictures came without all that the method needs, such as the answers of a watcher."""
        return self.state == "failed" and bool(self.images)


@dataclasses.dataclass(frozen=True)
class Board:
    """A comparison as it stands. `share`: what is done of it; `left`: seconds to go, None while nobody can know.

    `remarks`: what holds for all arms: words that the model does not know, an unfair comparison.
    `archive`: a zip of all its pictures.
    """

    settings: Settings
    results: tuple[Result, ...]
    state: State = "waiting"
    message: str = ""
    share: float = 0.0
    left: float | None = None
    remarks: tuple[str, ...] = ()
    archive: str = ""


def looks_of(result: Made, seen: Mapping[int, Callable[[], list[Image]]]) -> tuple[tuple[Look, ...], ...]:
    """What adaptive methods did, for each picture. `seen`: step -> how to get the pictures of then."""
    rows: list[list[Look]] = [[] for _ in result.images]
    before: list[tuple[str, ...]] = [() for _ in result.images]
    for note in (note for record in result.trace for note in record.notes if "looked_at" in note):
        at, acts = int(note["looked_at"]), int(note["acts_from"])
        pictures = seen[at]() if at in seen else []
        for row, image in enumerate(rows):
            picture = pictures[row] if row < len(pictures) else None
            if "error" in note:
                image.append(Look(at, acts, picture, error=str(note["error"])))
                continue
            note_of_image = next((answer for answer in note["images"] if answer["image"] == row), None)
            if note_of_image is None:
                continue
            negatives = tuple(note_of_image["negatives"])
            added = tuple(answer for answer in negatives if answer not in before[row])
            seen_texts = tuple((answer["text"], answer["confidence"]) for answer in note_of_image["seen"])
            image.append(Look(at, acts, picture, seen_texts, negatives, added))
            before[row] = negatives
    return tuple(tuple(row) for row in rows) if any(rows) else ()


def in_json_types(result: Result, board: Board) -> Json:
    """A result of a comparison in JSON types, without its pictures."""
    values = {
        "scores": dict(result.scores),
        "presence": dict(result.presence),
        "seen": list(result.notes),
        "warnings": [*board.remarks, *result.warnings],
        "error": result.error,
        "python": result.python,
        "command": result.command,
    }
    plain: Json = json.loads(json.dumps(formats.stamped(values)))
    return plain
