"""What a batch shall make: the plan, checked before anything is loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from negguide import formats
from negguide.batch.addresses import check_address, is_address
from negguide.batch.variants import Variant, make_variants
from negguide.experiment.tasks import Task, check_folder, make_tasks, parse_seeds, parse_size
from negguide.methods.checks import encodable
from negguide.names import DEFAULT


class _Part(BaseModel):
    """Base of all parts: what is not known is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _as_list(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


def _as_text(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError(f"{str(value).lower()} is no text (YAML reads a bare yes or no so); put it in quotes")
    if isinstance(value, int | float):
        raise ValueError(f"{value} is a number where a text is needed; put it in quotes")
    return encodable("a text", value) if isinstance(value, str) else value


def _as_metadata(value: object) -> object:
    """What the results can keep: JSON types, and texts that can be written to a file."""
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:  # UnicodeEncodeError is a ValueError
        reason = "a lone surrogate" if isinstance(error, UnicodeEncodeError) else str(error)
        raise ValueError(f"metadata cannot be kept as JSON: {reason}") from error
    return value


def _as_seeds(value: object) -> object:
    if isinstance(value, bool | float):
        raise ValueError(f"seeds are {value!r}; possible: 7, [0, 1, 5] or 0-7")
    return parse_seeds(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


Text = Annotated[str, BeforeValidator(_as_text)]
Texts = Annotated[tuple[Text, ...], BeforeValidator(_as_list)]
Size = Annotated[tuple[int, int] | None, BeforeValidator(lambda v: v if isinstance(v, list | tuple) else _size(v))]
Guidance = Annotated[float, Field(allow_inf_nan=False)]
Steps = Annotated[int, Field(ge=1)]


def _size(value: object) -> object:
    return parse_size(None if value is None else str(value))


class ModelPlan(_Part):
    """A model, and what shall hold for it only. `batch`: pictures that share a call of the pipeline."""

    name: Text
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    steps: Steps | None = None
    guidance: Guidance | None = None
    size: Size = None
    batch: int | None = Field(None, ge=1)
    takeover: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class PromptPlan(_Part):
    """A prompt (it may hold `--no ...`), negatives of its own, and whatever else should stand in the results."""

    prompt: Text
    negatives: Texts = ()
    metadata: Annotated[Mapping[str, Any], AfterValidator(_as_metadata)] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return {"prompt": value}
        own_fields = {"prompt", "negatives", "metadata"}
        value = {("negatives" if key == "negative" else key): item for key, item in value.items()}
        more = {key: item for key, item in value.items() if key not in own_fields}
        metadata = value.get("metadata", {})
        if not isinstance(metadata, Mapping):
            raise ValueError(f"metadata is {metadata!r}; an object is needed")
        return {**{key: item for key, item in value.items() if key in own_fields}, "metadata": {**metadata, **more}}

    @model_validator(mode="after")
    def _can_be_read(self) -> PromptPlan:
        self.task(())
        return self

    def task(self, shared: tuple[str, ...]) -> Task:
        """The prompt with its own negatives and those of the whole plan."""
        return make_tasks([self.prompt], [*self.negatives, *shared])[0]


class MethodPlan(_Part):
    """One or several rows of the comparison.

    `use`: methods that act together, as text (`perp_neg:weight=2+apg`), as JSON config (`{method: spell, radius: 0.7}`)
    or a list of both. `sweep`: option -> values; one row per combination. `name`: what stands in the tables.
    """

    use: tuple[str | dict[str, Any], ...]
    name: Text | None = None
    sweep: dict[str, tuple[Any, ...]] = Field(default_factory=dict)
    guidance: Guidance | None = None
    steps: Steps | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_a_text_or_config(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"use": [value]}
        if isinstance(value, Mapping) and "method" in value:
            return {"use": [dict(value)]}
        if isinstance(value, Mapping) and "use" in value:
            return {**value, "use": _as_list(value["use"])}
        raise ValueError(
            f"a method is {value!r}; possible: perp_neg, perp_neg:weight=2, perp_neg+apg, "
            "{method: perp_neg, ...} or {use: ..., name: ..., sweep: ..., guidance: ...}"
        )

    @field_validator("sweep", mode="before")
    @classmethod
    def _values(cls, value: Any) -> Any:
        return {key: _as_list(values) for key, values in value.items()} if isinstance(value, Mapping) else value

    @model_validator(mode="after")
    def _can_be_built(self) -> MethodPlan:
        self.variants()
        return self

    def variants(self) -> tuple[Variant, ...]:
        """The rows of the comparison."""
        return make_variants(self.use, self.name, self.sweep, self.guidance, self.steps)


class Plan(_Part):
    """Everything that determines a batch; what is None is left to the model.

    `threads`: of each process on a CPU. Sums are rounded otherwise with other numbers of threads, so that it stands in the
    keys there; on a GPU it means nothing. `lease`: minutes without a step of sampling after which others take over the unit of
    a process that lives and hangs; more where a step or the loading of a model takes longer. `shard`: pictures that lie in one
    file where the output is an address (`s3://bucket/x`). `clip`, `measures`, `baseline`:
    see `negguide measure --help` (`--clip`, `--with`, `--baseline`).
    """

    title: Text | None = None
    models: tuple[ModelPlan, ...] = (ModelPlan(name=DEFAULT, batch=None),)
    prompts: tuple[PromptPlan, ...] = Field(min_length=1)
    negatives: Texts = ()
    methods: tuple[MethodPlan, ...] = Field((MethodPlan(use=("plain",)),), min_length=1)
    seeds: Annotated[tuple[int, ...], BeforeValidator(_as_seeds)] = (0, 1, 2, 3)
    steps: Steps | None = None
    guidance: Guidance | None = None
    size: Size = None
    batch: int | None = Field(None, ge=1)
    takeover: bool = False
    device: Text = "auto"
    threads: int = Field(1, ge=1)
    lease: Annotated[float, Field(gt=0)] = 30
    output: Text = "out/batch"
    shard: int = Field(256, ge=1)
    clip: Text | None = None
    measures: Texts = ()
    baseline: Text | None = None
    exports: tuple[Literal["geneval", "webdataset"], ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and formats.KEY in value:  # a program wrote it
            value = formats.opened(value, {*cls.model_fields, "model", "prompt", "negative", "method"}, "the plan")
        if not isinstance(value, Mapping):
            raise ValueError(f"a plan is an object with prompts, methods, seeds, ..., not {value!r}")
        value = dict(value)
        for singular, many in (
            ("model", "models"),
            ("prompt", "prompts"),
            ("negative", "negatives"),
            ("method", "methods"),
        ):
            if singular in value and many in value:
                raise ValueError(f"both {singular!r} and {many!r} are given; one of them is enough")
            if singular in value:
                value[many] = value.pop(singular)
        for key in ("models", "prompts", "methods", "exports"):
            if key in value:
                value[key] = _as_list(value[key])
        return value

    @field_validator("output")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        if is_address(value):
            check_address(value)
        else:
            check_folder(value)
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Plan:
        variants = self.variants()
        labels = [variant.label for variant in variants]
        if twice := [label for place, label in enumerate(labels) if label in labels[:place]]:
            raise ValueError(f"the method {twice[0]!r} is there twice; give one of them another name")
        if self.baseline is not None and self.baseline not in labels:
            raise ValueError(f"the baseline {self.baseline!r} is no method of this plan; possible: {', '.join(labels)}")
        for model in self.models:
            if self.settings_takeover(model) and model.guidance is None and self.guidance is None:
                raise ValueError(f"takeover of {model.name!r} needs a guidance scale, e.g. guidance: 4")
        needing = [variant.label for variant in variants if variant.arm.needs_negatives]
        for prompt in self.prompts if needing else ():
            if not prompt.task(self.negatives).negatives:
                raise ValueError(
                    f"{needing[0]} needs a negative and {prompt.prompt!r} has none; write negatives: [...] for all prompts, "
                    f'or "{prompt.prompt} --no hat"'
                )
        return self

    @property
    def folder(self) -> Path:
        """The output as a folder; `ValueError` where it is an address."""
        if is_address(self.output):
            raise ValueError(f"{self.output!r} is an address; this needs a folder, or negguide.batch.sharded")
        return Path(self.output)

    def settings_takeover(self, model: ModelPlan) -> bool:
        """Whether negguide guides in this model's stead."""
        return self.takeover if model.takeover is None else model.takeover

    def variants(self) -> tuple[Variant, ...]:
        """The rows of the comparison, in order."""
        return tuple(variant for method in self.methods for variant in method.variants())


FIELDS: dict[str, tuple[str, ...]] = {
    "": (*Plan.model_fields, "model", "prompt", "negative", "method"),
    "models": tuple(ModelPlan.model_fields),
    "methods": tuple(MethodPlan.model_fields),
}
"""Names that are possible at each place, for hints."""
