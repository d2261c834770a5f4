"""Units of work: the pictures that share one call of a pipeline, fixed by the plan, and the keys of what they make."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from negguide.batch.plan import ModelPlan, Plan, PromptPlan
from negguide.batch.variants import Variant
from negguide.experiment.defaults import defaults_of
from negguide.experiment.tasks import Task, slug
from negguide.methods import Method, to_dict
from negguide.methods.options import options_of
from negguide.names import bundled_model

FORMAT = 1
"""Raised when the same settings come to mean other pictures, so that old ones are not taken for new ones."""

PICTURES = "pictures"
WHOLE, SAMPLE = 64 * 2**20, 2**20
"""Files of a model up to `WHOLE` bytes are hashed completely; of larger ones the size and three samples."""


@dataclasses.dataclass(frozen=True)
class Machine:
    """What of the machine determines pictures: "cpu", "cuda" or "mps", and the dtype that "auto" means there."""

    device: str
    dtype: str


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a unit's pictures are made; see `negguide.compare.Request`."""

    steps: int
    guidance_scale: float | None
    size: tuple[int, int] | None
    takeover: bool


@dataclasses.dataclass(frozen=True)
class Unit:
    """One call: seeds of one prompt under one variant on one model. `place`: prompt and variant in the plan.

    `problem`: why its methods cannot be built, when they cannot.
    """

    model: ModelPlan
    prompt: PromptPlan
    task: Task
    variant: Variant
    settings: Settings
    seeds: tuple[int, ...]
    place: tuple[int, int]
    about: Mapping[str, object]
    problem: str | None = None

    @cached_property
    def id(self) -> str:
        """Name of its claim: hash of everything that determines its pictures."""
        return hash_of({**self.about, "group": self.seeds})[:32]

    def key(self, seed: int) -> str:
        """Hash of everything that determines the picture of this seed, its companions in the call included: they
        decide how floating point is rounded, and some methods look at them.
        """
        return hashlib.sha256(f"{self.id} {seed}".encode()).hexdigest()[:32]

    def file(self, seed: int) -> str:
        """Its picture, relative to the batch's folder."""
        return f"{self._folder}/{seed}-{self.key(seed)[:12]}.png"

    @cached_property
    def _folder(self) -> str:
        model = slug(self.model.name if bundled_model(self.model.name) else Path(self.model.name).name, 40)
        return "/".join((PICTURES, model, slug(self.task.text, 40), slug(self.variant.label, 40)))

    def methods(self) -> tuple[Method, ...]:
        """The methods to attach. Raises what building them raises."""
        return self.variant.arm.build(self.task.negatives)


def units(plan: Plan, machine: Machine, content: Callable[[str], str] | None = None) -> Iterator[Unit]:
    """All units of a plan in its order: model, prompt, method, seeds. `content`: what a model is, in place of `fingerprint`."""
    for model in plan.models:
        of_model = ModelUnits(plan, model, machine, content)
        yield from of_model.between(0, len(of_model))


class ModelUnits:
    """The units of one model by their number, in the plan's order; each is made when it is asked for."""

    def __init__(
        self, plan: Plan, model: ModelPlan, machine: Machine, content: Callable[[str], str] | None = None
    ) -> None:
        self.plan, self.model, self.machine = plan, model, machine
        batch = _first(model.batch, plan.batch, defaults_of(model.name).batch)
        self.groups = [plan.seeds[start : start + batch] for start in range(0, len(plan.seeds), batch)]
        self.dtype = model.dtype if model.dtype != "auto" else _dtype(model, machine)
        self.content = (content or fingerprint)(model.name)
        self.variants = plan.variants()
        self.settings = [settings_of(plan, model, variant) for variant in self.variants]

    def __len__(self) -> int:
        return len(self.plan.prompts) * self.per_prompt

    @property
    def per_prompt(self) -> int:
        """Units of one prompt."""
        return len(self.variants) * len(self.groups)

    def between(self, start: int, stop: int) -> Iterator[Unit]:
        """The units `start`, `start + 1`, ..., `stop - 1`."""
        at: tuple[int, int] | None = None
        for number in range(start, stop):
            row, rest = divmod(number, self.per_prompt)
            column, group = divmod(rest, len(self.groups))
            if at is None or at[0] != row:
                prompt = self.plan.prompts[row]
                task = prompt.task(self.plan.negatives)
            if at != (row, column):
                at = (row, column)
                variant, settings = self.variants[column], self.settings[column]
                methods, problem = methods_of(variant, task)
                about = {**self.about(), "prompt": task.prompt, "methods": methods, **dataclasses.asdict(settings)}
            yield Unit(self.model, prompt, task, variant, settings, self.groups[group], at, about, problem)

    def about(self) -> dict[str, object]:
        """What determines the pictures of all these units alike."""
        return {
            "format": FORMAT,
            "model": self.content,
            "device": self.machine.device,
            "dtype": self.dtype,
            **({"threads": self.plan.threads} if self.machine.device == "cpu" else {}),
        }


def _dtype(model: ModelPlan, machine: Machine) -> str:
    return "float32" if bundled_model(model.name) else machine.dtype


def settings_of(plan: Plan, model: ModelPlan, variant: Variant) -> Settings:
    """What holds for a row: its own value, else the model's, else the plan's, else the default of the model."""
    guidance = _first(variant.guidance, model.guidance, plan.guidance)
    steps = _first(variant.steps, model.steps, plan.steps)
    defaults = defaults_of(model.name)
    steps, guidance = _first(steps, defaults.steps), _first(guidance, defaults.guidance_scale)
    return Settings(steps, guidance, model.size or plan.size, plan.settings_takeover(model))


def machine_of(device: str) -> Machine:
    """What a device name means here; `ValueError` when it is none."""
    from negguide.experiment.models import device_of

    place = device_of(device)
    return Machine(place.type, "float16" if place.type in ("cuda", "mps") else "float32")


@cache
def fingerprint(name: str) -> str:
    """What a model is: the content of its folder, or the commit of the Hub's copy on this machine.

    Of weights above `WHOLE` bytes only samples are read. A Hub model that is not here yet is just its name.
    """
    bundled = bundled_model(name)
    folder = bundled.folder if bundled else Path(name).expanduser()
    if folder.is_dir():
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != "README.md")
        return hash_of([(file.relative_to(folder).as_posix(), _digest(file)) for file in files])[:20]
    from huggingface_hub import try_to_load_from_cache

    try:
        cached = try_to_load_from_cache(name, "model_index.json")
    except ValueError:  # no name of the Hub either: loading it will say so
        return name
    return f"{name}@{Path(cached).parent.name}" if isinstance(cached, str) else name


def methods_of(variant: Variant, task: Task) -> tuple[object, str | None]:
    """The JSON form of a row's methods on a prompt, or the arm as it was written and why it cannot be built."""
    try:
        return [_with_contents(_asked(method)) for method in variant.arm.build(task.negatives)], None
    except (TypeError, ValueError) as error:
        parts = [[part.entry.name, repr(dict(part.options))] for part in variant.arm.parts]
        return parts, f"{type(error).__name__}: {error}"


def _asked(method: Method) -> dict[str, object]:
    """The JSON form of a method, files that its options name as paths."""
    config = dict(to_dict(method))
    for name, meaning in options_of(type(method)).items():
        if meaning.local and isinstance(config.get(name), str):
            config[name] = {"path": config[name]}
    return config


def _with_contents(value: object) -> object:
    """JSON in which every `path` of a picture or a file stands with the hash of what lies there."""
    if isinstance(value, list | tuple):
        return [_with_contents(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    contents = {key: _with_contents(item) for key, item in value.items()}
    if isinstance(value.get("path"), str) and Path(value["path"]).is_file():
        contents["content"] = _digest(Path(value["path"]))
    return contents


def _digest(file: Path) -> str:
    size = file.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with file.open("rb") as stream:
        for start in range(0, size, SAMPLE) if size <= WHOLE else (0, size // 2, size - SAMPLE):
            stream.seek(start)
            digest.update(stream.read(SAMPLE))
    return digest.hexdigest()


def hash_of(value: object) -> str:
    """SHA-256 of a value as JSON."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _first(*values: object) -> Any:
    return next((value for value in values if value is not None), None)


def count(all_units: Sequence[Unit]) -> int:
    """Pictures of these units."""
    return sum(len(unit.seeds) for unit in all_units)
