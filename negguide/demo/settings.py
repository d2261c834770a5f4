"""Everything a person can set, in one record: checked, as JSON, as a link, inside a PNG; and what is asked of the model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from negguide import formats
from negguide.demo.controls import all_controls, offered
from negguide.demo.options import Options
from negguide.demo.pictures import from_png64
from negguide.experiment.arms import PLAIN, WEIGHT, Arm, Part, format_part, make_arm, make_part, parse_parts
from negguide.experiment.models import DTYPES
from negguide.experiment.tasks import Request, make_tasks, parse_size
from negguide.methods import Mask, Negative
from negguide.names import DEFAULT
from negguide.types import Json

REFERENCES, MASK_SIDE, PICTURE_SIDE = 4, 256, 512
HEAVIEST = 100.0
"""The largest weight of a negative."""
_INLINE = 96_000
"""Letters of one word of a command line, at most (Linux allows 131 072)."""
OFFLOADS = ("none", "model", "sequential")


def _small(png: str) -> str:
    try:
        from_png64(png)
    except ValueError as error:
        raise ValueError(f"it cannot be read: {error}") from error
    return png


class Avoided(BaseModel):
    """A picture to keep away from, and where in it stands what is meant; both base64 PNGs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    png: Annotated[str, Field(max_length=2_000_000), AfterValidator(_small)]
    mask: Annotated[str, Field(max_length=200_000), AfterValidator(_small)] | None = None

    def value(self) -> dict[str, object]:
        """The JSON form of an `Avoid`."""
        value: dict[str, object] = {"picture": {"png": self.png}}
        return value if self.mask is None else {**value, "mask": {"png": self.mask}}


class Settings(BaseModel):
    """What makes a comparison; equal settings give equal pictures. `methods`: arms beside `plain`, as on the command line.

    `negatives`: as after `--no`. `mask`: base64 PNG, where the negatives hold. `guidance`, `steps`, `size`: None: the model's own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field("a pet on grass", max_length=600)
    negatives: str = Field("cat", max_length=600)
    methods: tuple[Annotated[str, Field(max_length=600)], ...] = ("recommended",)
    mask: Annotated[str, Field(max_length=200_000), AfterValidator(_small)] | None = None
    pictures: tuple[Avoided, ...] = Field((), max_length=REFERENCES)
    seed: int = Field(0, ge=0, lt=2**32)
    count: int = Field(4, ge=1)
    steps: int | None = Field(None, ge=1)
    guidance: float | None = Field(None, ge=0, le=50, allow_inf_nan=False)
    size: str | None = Field(None, max_length=12)
    takeover: bool = False
    model: str = Field(DEFAULT, max_length=300)
    dtype: str = "auto"
    offload: str = "none"

    @field_validator("dtype")
    @classmethod
    def _dtype(cls, value: str) -> str:
        if value not in DTYPES:
            raise ValueError(f"possible: {', '.join(DTYPES)}")
        return value

    @field_validator("offload")
    @classmethod
    def _offload(cls, value: str) -> str:
        if value not in OFFLOADS:
            raise ValueError(f"possible: {', '.join(OFFLOADS)}")
        return value

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.count))


def make_settings(values: Mapping[str, object], options: Options, what: str = "the settings") -> Settings:
    """Settings from JSON values, all of which may come from a stranger. `ValueError` says in one line what is wrong."""
    if formats.KEY in values:  # a program wrote them
        values = formats.opened(values, Settings.model_fields, what)
    try:
        settings = Settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the settings"
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
    for name, value, most in (
        ("pictures", settings.count, options.pictures),
        ("methods", len(settings.methods), options.methods),
        ("steps", settings.steps or 1, options.steps),
    ):
        if value > most:
            raise ValueError(f"{value} {name} are asked for; at most {most} here")
    if settings.size is not None and max(parse_size(settings.size) or (0, 0)) > options.side:
        raise ValueError(f"the size is {settings.size!r}; at most {options.side} pixels a side here")
    if settings.size is not None and any(side % 8 for side in parse_size(settings.size) or ()):
        raise ValueError(f"the size is {settings.size!r}; sides are multiples of 8")
    options.check_model(settings.model)
    request_of(settings, options)
    return settings


@dataclasses.dataclass(frozen=True)
class Asked:
    """One arm of the comparison: what it is called on the page, and the whole of it."""

    label: str
    arm: Arm
    request: Request


def request_of(settings: Settings, options: Options, steps: int = 1, guidance: float | None = None) -> list[Asked]:
    """The arms, plain first, each as a request of its own. `steps`, `guidance`: those of the model where none are set.

    `ValueError` for anything that cannot be made, or may not be set here.
    """
    shared = [settings.negatives] if settings.negatives.strip() else []
    tasks = make_tasks([settings.prompt], shared)
    if heavy := [negative for negative in tasks[0].negatives if negative.weight > HEAVIEST]:
        raise ValueError(
            f"the weight of {str(heavy[0].prompt)[:40]!r} is {heavy[0].weight:g}; at most {HEAVIEST:g} here"
        )
    asked = [(PLAIN, Arm(PLAIN))]
    for text in settings.methods:
        if text == PLAIN:
            raise ValueError("'plain' is always there; choose what it is compared with")
        parts = [_completed(part, settings, tasks[0].negatives, options) for part in parse_parts(text)]
        full = make_arm("+".join(map(format_part, parts)), parts)
        if len(full.label) > _INLINE:
            raise ValueError("the pictures to avoid are too large together; use fewer or smaller ones")
        asked.append((text, full))
    if twice := [label for at, (label, _) in enumerate(asked) if label in [negative for negative, _ in asked[:at]]]:
        raise ValueError(f"method {twice[0]!r} is given twice")
    if settings.takeover and settings.guidance is None:
        raise ValueError("takeover needs a guidance scale, e.g. 4: set it under Sampling")
    common = {
        "tasks": tasks,
        "seeds": settings.seeds,
        "out": Path("out/compare"),
        "steps": settings.steps or steps,
        "guidance_scale": guidance if settings.guidance is None else settings.guidance,
        "size": parse_size(settings.size),
        "batch": settings.count,
        "takeover": settings.takeover,
    }
    return [Asked(label, arm, Request(arms=(arm,), **common)) for label, arm in asked]  # type: ignore[arg-type]


def _completed(part: Part, settings: Settings, negatives: Sequence[Negative], options: Options) -> Part:
    """A part with checked options, and with the mask, the pictures and the words of the page where it takes them."""
    if part.entry.name not in offered():
        raise ValueError(f"{part.entry.name} reads a file of the server and cannot be used here")
    by_field = {control.field: control for control in all_controls(options.watchers)[part.entry.name]}
    for name, value in part.options.items():
        if name not in by_field:
            raise ValueError(
                f"{name} of {part.entry.name} cannot be set here; possible: {', '.join(by_field) or 'nothing'}"
            )
        by_field[name].check(value)
    given: Json = dict(part.options)
    fields = {field.name for field in dataclasses.fields(part.entry.method)}
    if "watcher" in fields:
        given = {"watcher": options.watchers[0], **given}
    guards = "guard" in (given.get("policy"), part.entry.presets.get("policy"))
    if guards and not given.get("watch"):
        if not negatives:
            raise ValueError(f"{part.entry.name} needs something to watch for: name a negative")
        given["watch"] = [str(negative.prompt) for negative in negatives]
    if settings.mask and part.takes_negatives:
        mask, weight = read_mask(settings.mask), given.pop(WEIGHT, 1)
        if negatives:
            given["negatives"] = [_masked(single, weight, mask) for single in negatives]
    elif settings.mask and "mask" in fields:
        given["mask"] = read_mask(settings.mask).to_dict()
    if settings.pictures:
        if "reference" in fields and "reference" not in given:
            given["reference"] = [single.value() for single in settings.pictures]
        elif "references" in fields:
            given["references"] = [single.value()["picture"] for single in settings.pictures]
    return make_part(part.entry.name, given)


def _masked(negative: Negative, weight: float, mask: Mask) -> dict[str, object]:
    """The JSON form of a negative that is confined to a mask."""
    window = dataclasses.asdict(negative.window)
    return {"prompt": negative.prompt, "weight": negative.weight * weight, "window": window, "mask": mask.to_dict()}


@lru_cache(maxsize=16)
def read_mask(png: str) -> Mask:
    """A mask from its base64 PNG; `ValueError` where it is none or holds nothing."""
    mask = Mask.from_dict({"png": png})
    if not bool(mask.pixels.any()):
        raise ValueError("the mask is empty: paint where the negatives shall hold, or clear it")
    return mask
