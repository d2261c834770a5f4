"""What is asked of a comparison, read from text and checked before anything is loaded."""

from __future__ import annotations

import dataclasses
import math
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from negguide.experiment.arms import Arm
from negguide.experiment.defaults import STEPS
from negguide.experiment.inputs import NOTHING, Inputs
from negguide.experiment.textfile import lines_of, read_text
from negguide.methods import Negative, Window, format_prompt, parse_prompt
from negguide.methods.checks import encodable

MOST_SEEDS = 100_000
"""As many a range of seeds may name."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One prompt with its negatives."""

    prompt: str
    negatives: tuple[Negative, ...]

    @property
    def text(self) -> str:
        """In one line, as `parse_prompt` reads it."""
        return format_prompt(self.prompt, self.negatives)


@dataclasses.dataclass(frozen=True)
class Request:
    """A whole comparison. `guidance_scale`, `size`: None leaves the choice to the pipeline.

    `size`: width and height in pixels. `batch`: pictures per call of the pipeline. `takeover`: negguide guides instead
    of the pipeline, for models without guidance of their own; needs `guidance_scale`. `inputs`: what there is beside the prompts.
    """

    tasks: tuple[Task, ...]
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    out: Path
    steps: int = STEPS
    guidance_scale: float | None = None
    size: tuple[int, int] | None = None
    batch: int = 4
    takeover: bool = False
    inputs: Inputs = NOTHING

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("no prompt: give one, or a file of them with --prompts")
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; at least 1 is needed")
        if self.batch < 1:
            raise ValueError(f"batch is {self.batch}; at least 1 is needed")
        if self.guidance_scale is not None and not math.isfinite(self.guidance_scale):
            raise ValueError(f"the guidance scale {self.guidance_scale} is not finite")
        if self.takeover and self.guidance_scale is None:
            raise ValueError("takeover needs a guidance scale, e.g. --guidance 4")
        for task in self.tasks:
            self._check_negatives(task)

    def _check_negatives(self, task: Task) -> None:
        needing = [arm.label for arm in self.arms if arm.needs_negatives]
        if needing and not task.negatives:
            raise ValueError(
                f"{', '.join(needing)} need{'s' if len(needing) == 1 else ''} a negative and {task.prompt!r} has none; "
                f'give --negative TEXT, or write it in the prompt: "{task.prompt} --no hat"'
            )


def make_tasks(prompts: Sequence[str], negatives: Sequence[str], weight: float = 1.0) -> tuple[Task, ...]:
    """Prompts (each may hold `--no ...`) and negatives for all of them (`text[:weight][@start-stop]`) -> tasks.

    `weight` multiplies the weight of every negative. `ValueError` for an empty prompt or a negative that cannot be read.
    """
    if not math.isfinite(weight) or weight < 0:
        raise ValueError(f"the weight {weight} is not a finite number of 0 or more")
    shared = tuple(negative for text in negatives for negative in parse_negatives(text))
    tasks = []
    for text in prompts:
        prompt, own = parse_prompt(encodable("the prompt", text))
        if not prompt.strip():
            raise ValueError(f"the prompt {text!r} is empty; say what the picture should show")
        every = dict.fromkeys((*own, *shared))
        tasks.append(
            Task(prompt.strip(), tuple(dataclasses.replace(each, weight=each.weight * weight) for each in every))
        )
    return tuple(dict.fromkeys(tasks))


def parse_negatives(text: str) -> tuple[Negative, ...]:
    """`"cat"`, `"hat:0.8@0-0.4"` or several with commas between them -> negatives; `ValueError` quotes the text."""
    if not text.strip():
        raise ValueError(f"the negative {text!r} is empty; say what is not wanted, or leave it out")
    encodable("the negative", text)
    try:
        return parse_prompt(f"--no {text}")[1]
    except ValueError as error:
        raise ValueError(f"the negative {text!r} cannot be read: {str(error).rpartition(': ')[2]}") from error


def read_prompts(path: Path) -> list[str]:
    """The prompts of a text file, one a line; empty lines and lines that start with `#` are left out."""
    lines = [line.strip() for line in lines_of(read_text(path, "the prompts file"))]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if not prompts:
        raise ValueError(f"the prompts file {str(path)!r} holds no prompt; one a line is expected")
    return prompts


def parse_seeds(text: str) -> tuple[int, ...]:
    """`"0,1,5"`, `"0-7"` or both mixed -> seeds, each once. `ValueError` for anything else."""
    seeds: dict[int, None] = {}
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", word)
        if match is None:
            raise ValueError(f"seeds are {text!r}; possible: whole numbers of 0 or more and ranges, like 0,1,2 or 0-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise ValueError(f"the seeds {word.strip()!r} are not a range from a lower to a higher number")
        if last - first >= MOST_SEEDS or last >= 2**63:
            raise ValueError(
                f"the seeds {word.strip()!r} are too many or too large; possible: at most {MOST_SEEDS:,}, below 2^63"
            )
        seeds.update(dict.fromkeys(range(first, last + 1)))
    return tuple(seeds)


def parse_size(text: str | None) -> tuple[int, int] | None:
    """`"512"` or `"768x512"` -> (width, height)."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+)\s*(?:[xX]\s*(\d+)\s*)?", text)
    if match is None or 0 in (size := (int(match[1]), int(match[2] or match[1]))):
        raise ValueError(f"the size is {text!r}; possible: 512 or 768x512 (width x height)")
    return size


def check_folder(name: str) -> None:
    """`ValueError` for an address where a folder is needed; `s3://bucket/x` would be made here, as a folder named `s3:`."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", name):
        raise ValueError(
            f"{name!r} is an address and no folder; mount it (s3fs, gcsfuse, rclone mount), or make the batch in a folder "
            "and copy it there"
        )


def prepare_folder(out: Path) -> Path:
    """Make the output folder and see that it can be written to. `ValueError` says why not."""
    check_folder(str(out))
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise ValueError(f"cannot write to the folder {str(out)!r}: {error.strerror or error}") from error
    return out


def slug(text: str, length: int = 60) -> str:
    """A folder name made of a text: lower-case words with dashes."""
    words = re.sub(r"[^\w.=]+", "-", text.lower()).strip("-.")
    return words[:length].strip("-.") or "prompt"


def slugs(texts: Sequence[str]) -> list[str]:
    """A folder name for each text, all different."""
    names: list[str] = []
    for text in texts:
        base, number = slug(text), 1
        name = base
        while name in names:
            number += 1
            name = f"{base}-{number}"
        names.append(name)
    return names


def describe(negative: Negative) -> str:
    """A negative for a person: `hat`, `hat (weight 0.8, 0-40 %)`."""
    notes = [] if negative.instead_of is None else [f"instead of {negative.instead_of}"]
    notes += [] if negative.weight == 1 else [f"weight {negative.weight:g}"]
    window = negative.window
    if window != Window():
        percent = f"{window.start:.0%}-{window.stop:.0%}".replace("%-", "-").replace("%", " %")
        notes.append(percent if window.unit == "progress" else f"sigma {window.start:g}-{window.stop:g}")
    return f"{negative.prompt} ({', '.join(notes)})" if notes else str(negative.prompt)
