"""What a comparison has found, as it stands in `results.json`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from negguide import formats
from negguide.experiment.files import write

FILE = "results.json"


class Record(BaseModel):
    """Base of all records: what is not known, since a newer version wrote it, is left out with a warning."""

    model_config = ConfigDict(extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _known(cls, data: object) -> Any:
        if not isinstance(data, Mapping):
            return data
        what = FILE if formats.KEY in cls.model_fields else f"a {cls.__name__.lower()} of {FILE}"
        return formats.opened(data, set(cls.model_fields) - {formats.KEY}, what, stacklevel=4)


class Picture(Record):
    """One picture. `file` is relative to the folder of the results; `note` is what a judge saw on it."""

    seed: int
    file: str
    note: str = ""
    shows_negative: bool | None = None


class Glance(Record):
    """What a watcher was asked and said of one picture, and what was decided. `preview`: the file of what it was shown.

    `answered`: for each question its answers, `{"text": ..., "confidence": ...}`. `negatives`: those from then on.
    """

    image: int
    preview: str | None = None
    asked: list[str] = Field(default_factory=list)
    answered: list[list[dict[str, Any]]] = Field(default_factory=list)
    negatives: list[str] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)


class Look(Record):
    """One look of a watcher at the pictures of a call: after `step` of `of`, with effect from `acts_from`.

    `seeds`: of the pictures that the glances are at. `error`: why nothing came of it.
    """

    method: str
    step: int
    of: int
    acts_from: int
    seconds: float | None = None
    error: str | None = None
    seeds: list[int] = Field(default_factory=list)
    glances: list[Glance] = Field(default_factory=list)


class Row(Record):
    """One method on one prompt. `methods` is their JSON form; `error` says why there are no (more) pictures, or why those
    that are there do not count as the method's. `remarks`: what was warned of while they were made, and whether they are just
    the plain ones.
    """

    label: str
    summary: str
    methods: list[dict[str, Any]]
    pictures: list[Picture] = Field(default_factory=list)
    scores: dict[str, float] = Field(default_factory=dict)
    looks: list[Look] = Field(default_factory=list)
    error: str | None = None
    remarks: list[str] = Field(default_factory=list)


class Comparison(Record):
    """One prompt under every method."""

    prompt: str
    negatives: list[str]
    text: str
    slug: str
    rows: list[Row] = Field(default_factory=list)
    sheet: str | None = None


class Results(Record):
    """Everything. `totals`: label -> mean scores over the prompts. `earlier`: where the run went that lay in the folder before."""

    format: int = formats.FORMAT
    title: str
    command: str
    python: str
    model: str
    pipeline: str
    judge: str
    seeds: list[int]
    settings: dict[str, Any]
    versions: dict[str, str]
    started: str
    earlier: str | None = None
    seconds: float = 0.0
    finished: bool = False
    comparisons: list[Comparison] = Field(default_factory=list)
    totals: dict[str, dict[str, float]] = Field(default_factory=dict)

    @property
    def errors(self) -> list[str]:
        """One line per reason for which methods failed, with the methods and the prompts."""
        failed: dict[str, list[tuple[str, str]]] = {}
        for comparison in self.comparisons:
            for row in comparison.rows:
                if row.error:
                    failed.setdefault(row.error, []).append((row.label, comparison.prompt))
        lines = []
        for error, places in failed.items():
            labels, prompts = (list(dict.fromkeys(words)) for words in zip(*places, strict=True))
            where = repr(prompts[0]) if len(prompts) == 1 else f"{len(prompts)} prompts ({prompts[0]!r}, ...)"
            lines.append(f"{', '.join(labels)} on {where}: {error}")
        return lines

    @property
    def remarks(self) -> list[str]:
        """One line per remark on methods, with the methods it is about."""
        about: dict[str, list[str]] = {}
        for comparison in self.comparisons:
            for row in comparison.rows:
                for remark in row.remarks:
                    about.setdefault(remark, []).append(row.label)
        return [f"{', '.join(dict.fromkeys(labels))}: {remark}" for remark, labels in about.items()]

    def save(self, folder: Path) -> Path:
        """Write `results.json` in one go, so that a reader never sees half of it."""
        return write(folder / FILE, self.model_dump_json(indent=2).encode())

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read `results.json`."""
        return cls.model_validate_json((folder / FILE).read_bytes())
