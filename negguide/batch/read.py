"""Plans and prompts from files: YAML, JSON, TOML; .txt and .jsonl. What is wrong is told with its line."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from negguide.batch.addresses import Address, cache_folder, is_address
from negguide.batch.plan import FIELDS, Plan
from negguide.batch.yaml_plain import PlainLoader
from negguide.experiment.files import write
from negguide.experiment.tasks import read_prompts
from negguide.experiment.textfile import lines_of, read_text
from negguide.wording import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PLAN_FILE = "plan.json"
"""The plan of a batch, beside its pictures, with all prompts inside."""

TOLD = 3
"""At most so many mistakes are told at once."""

Place = tuple[str | int, ...]


class PlanError(ValueError):
    """A plan that cannot be used; the message says where and why."""


def load_plan(source: Path | str | None = None, changes: Mapping[str, object] | None = None) -> Plan:
    """The plan of a file (or of a batch's folder or address) with changed fields; without a source, of the changes alone.

    Raises `PlanError`: every mistake with its place (a line in YAML and JSON) and what is possible.
    """
    data: dict[str, object] = {}
    lines: dict[Place, int] = {}
    name, folder = "the plan", Path()
    if source is not None:
        if is_address(str(source)):
            path = _fetched(str(source))
        else:
            path = Path(source) / PLAN_FILE if Path(source).is_dir() else Path(source)
        data, lines = _read(path)
        name, folder = str(path), path.parent
    return _make(name, folder, data, lines, changes or {})


def _fetched(url: str) -> Path:
    """The plan at an address, as a file of this machine."""
    try:
        data = Address(url).read(PLAN_FILE)
    except FileNotFoundError as error:
        raise PlanError(f"there is no batch at {url!r} (no {PLAN_FILE})") from error
    return write(cache_folder(url, PLAN_FILE), data)


def load_preset(preset: str, changes: Mapping[str, object] | None = None) -> Plan:
    """A plan that comes with the package, with changed fields. `PlanError` names the presets."""
    names = presets()
    if preset not in names:
        raise PlanError(f"unknown preset {preset!r}{did_you_mean(preset, names, ';')} possible: {', '.join(names)}")
    return load_plan(names[preset], changes)


def title_of(preset: Path) -> str:
    """What a preset is, without checking it."""
    return str(yaml.safe_load(preset.read_text(encoding="utf-8")).get("title", ""))


def presets() -> dict[str, Path]:
    """Name -> file of the plans that come with the package."""
    folder = Path(str(resources.files("negguide.batch"))) / "presets"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def _make(
    name: str, folder: Path, data: dict[str, object], lines: dict[Place, int], changes: Mapping[str, object]
) -> Plan:
    for key, value in changes.items():
        for singular, many in (
            ("model", "models"),
            ("prompt", "prompts"),
            ("negative", "negatives"),
            ("method", "methods"),
        ):
            if many == key:
                data.pop(singular, None)
        data[key] = value
        lines = {place: line for place, line in lines.items() if place[:1] != (key,)}
    if "prompt" in data and "prompts" not in data:
        data["prompts"] = data.pop("prompt")
        lines = {("prompts", *place[1:]) if place[:1] == ("prompt",) else place: line for place, line in lines.items()}
    origins: list[str] = []
    if "prompts" in data:
        prompts = data["prompts"] if isinstance(data["prompts"], list) else [data["prompts"]]
        expanded = list(_expand(name, folder, prompts, lines))
        data["prompts"] = [prompt for prompt, _ in expanded]
        origins = [origin for _, origin in expanded]
    if not data.get("prompts"):
        raise PlanError(f"{name}: no prompt; write prompts: [...], or give a file of them with --prompts")
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        messages = [
            _tell(singular, name, lines, origins) for singular in error.errors(include_url=False, include_context=False)
        ]
        more = f" (and {len(messages) - TOLD} more)" if len(messages) > TOLD else ""
        raise PlanError("; ".join(dict.fromkeys(messages[:TOLD])) + more) from error


def _read(path: Path) -> tuple[dict[str, object], dict[Place, int]]:
    try:
        text = read_text(path, "the plan")
    except ValueError as error:
        raise PlanError(str(error)) from error
    kind = path.suffix.lower()
    try:
        if kind == ".toml":
            return tomllib.loads(text), {}
        if kind == ".json":
            data: object = json.loads(text)
        elif kind in (".yaml", ".yml"):
            data = yaml.load(text, Loader=PlainLoader)
        else:
            raise PlanError(f"the plan {str(path)!r} ends in {kind!r}; possible: .yaml, .json, .toml")
        lines = _lines(text, path)
    except tomllib.TOMLDecodeError as error:
        raise PlanError(f"{path}: {error}") from error
    except json.JSONDecodeError as error:
        raise PlanError(f"{path}, line {error.lineno}: {error.msg}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise PlanError(f"{path}{where}: {getattr(error, 'problem', None) or error}") from error
    if not isinstance(data, dict):
        raise PlanError(f"{path}: a plan is an object with prompts, methods, seeds, ..., not {type(data).__name__}")
    return data, lines


def _lines(text: str, path: Path) -> dict[Place, int]:
    """The line (from 1) of every value. JSON is read as YAML here; where it cannot be, lines are not told."""
    try:
        root = yaml.compose(text, Loader=PlainLoader)
    except yaml.YAMLError:
        return {}
    return dict(_places(root, (), path)) if root is not None else {}


def _places(node: yaml.Node, place: Place, path: Path) -> Iterator[tuple[Place, int]]:
    yield place, node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise PlanError(f"{path}, line {key.start_mark.line + 1}: {key.value!r} is there twice")
            seen.add(key.value)
            yield (*place, key.value), key.start_mark.line + 1
            if isinstance(value, yaml.CollectionNode):
                yield from ((deep, line) for deep, line in _places(value, (*place, key.value), path) if deep != place)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _places(value, (*place, index), path)


def _expand(
    name: str, folder: Path, prompts: Sequence[object], lines: Mapping[Place, int]
) -> Iterator[tuple[object, str]]:
    """Every prompt with where it stands; files (`prompts.txt`, `{file: prompts.jsonl}`) are read."""
    for index, prompt in enumerate(prompts):
        line = lines.get(("prompts", index)) or lines.get(("prompts",))
        origin = f"{name}, line {line}" if line else f"{name}: prompts[{index}]"
        file = prompt.get("file") if isinstance(prompt, Mapping) and set(prompt) == {"file"} else prompt
        if isinstance(prompt, Mapping) and {"each", "in"} <= set(prompt):
            yield from ((prompt_plan, origin) for prompt_plan in _product(prompt, origin))
        elif isinstance(file, str) and file.endswith((".txt", ".jsonl")):
            yield from _prompts_of(folder / file, origin)
        elif file is not prompt:
            raise PlanError(f"{origin}: the prompts file {file!r} must end in .txt or .jsonl")
        else:
            yield prompt, origin


def _product(prompt: Mapping[str, Any], origin: str) -> Iterator[dict[str, object]]:
    """`{each: [a cat, a dog], in: ["a photo of {}"]}`: every template with every word."""
    words, templates = prompt["each"], prompt["in"]
    for name, texts in (("each", words), ("in", templates)):
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise PlanError(f"{origin}: {name!r} is {texts!r}; a list of texts is needed")
    if without := [template for template in templates if "{}" not in template]:
        raise PlanError(f"{origin}: the template {without[0]!r} has no place for the word; write {{}} where it belongs")
    more = {key: value for key, value in prompt.items() if key not in ("each", "in")}
    for template in templates:
        for word in words:
            yield {"prompt": template.replace("{}", word), "word": word, "template": template, **more}


def _prompts_of(path: Path, origin: str) -> Iterator[tuple[object, str]]:
    if path.suffix == ".txt":
        try:
            yield from ((prompt, f"{path}, {prompt!r}") for prompt in read_prompts(path))
        except ValueError as error:
            raise PlanError(f"{origin}: {error}") from error
        return
    try:
        rows = lines_of(read_text(path, "the prompts file"))
    except ValueError as error:
        raise PlanError(f"{origin}: {error}") from error
    for number, row in enumerate(rows, 1):
        if not row.strip():
            continue
        try:
            value = json.loads(row)
        except json.JSONDecodeError as error:
            raise PlanError(f"{path}, line {number}: no JSON ({error.msg})") from error
        if not isinstance(value, dict) or "prompt" not in value:
            raise PlanError(f"{path}, line {number}: an object with the key 'prompt' is needed, not {row.strip()[:60]}")
        yield value, f"{path}, line {number}"


def _tell(error: Any, name: str, lines: Mapping[Place, int], origins: Sequence[str]) -> str:
    place: Place = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        fields = FIELDS.get(str(place[0]) if len(place) > 1 else "", ())
        message = f"unknown field{did_you_mean(str(place[-1]), fields, ';')} possible: {', '.join(fields)}"
    elif error["type"] == "missing":
        message = "is missing"
    elif isinstance(error["input"], str | int | float | bool):
        message += f" (given: {error['input']!r})" if repr(error["input"]) not in message else ""
    where = _where(place, name, lines, origins)
    text = _text(place)
    return f"{where}: {text}: {message}" if text else f"{where}: {message}"


def _where(place: Place, name: str, lines: Mapping[Place, int], origins: Sequence[str]) -> str:
    if len(place) > 1 and place[0] == "prompts" and isinstance(place[1], int) and place[1] < len(origins):
        return origins[place[1]]
    ones = {"models": "model", "methods": "method", "negatives": "negative"}
    tries = [place[:length] for length in range(len(place), 0, -1)]
    tries += [(ones[str(place[0])],)] if place and place[0] in ones else []
    line = next((lines[tried] for tried in tries if tried in lines), None)
    return f"{name}, line {line}" if line else name


def _text(place: Place) -> str:
    """`("methods", 2, "sweep")` -> "methods[2].sweep"."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
