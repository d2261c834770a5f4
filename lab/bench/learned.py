"""The bench of learned negatives: is the thing gone at no pass, and does everything stay where it is not?

    python -m lab.bench.learned --model sd --out runs/learned

Settings were chosen on cats; what is reported is learnt and tried on other things, with other prompts and seeds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from lab.bench.arms import named
from lab.bench.means import Report
from lab.bench.run import Result, Row, models, run_arms
from lab.generate import generate
from lab.score import SEED_START
from negguide.learn import TEMPLATES, learn
from negguide.methods import NAG, LearnedNegative, Method, Negative, NegativePrompt, PerpNeg, Window
from negguide.toybox.load import PIPELINES
from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

FIRST_SEED = SEED_START + 400_000
SEEDS = 2
"""Pictures of each prompt with a category in which the thing may show."""
LEARNT_WITH = 25
"""Prompts that share a call while a thing is learnt."""


@dataclass(frozen=True)
class Attempt:
    """A way to keep the thing out, at one strength."""

    method: str
    strength: float = 0.0

    @property
    def name(self) -> str:
        """As in the tables: "learned 3"."""
        return f"{self.method} {self.strength:g}" if self.strength else self.method


def attempts() -> tuple[Attempt, ...]:
    """Plain first, then those that cost passes or attention, then what was learnt."""
    return (
        Attempt("plain"),
        Attempt("negative", 1),
        Attempt("perp_neg", 2),
        Attempt("nag early", 3),
        *(Attempt("learned", strength) for strength in (2, 3, 4)),
        Attempt("learned throughout", 2),
        Attempt("learned text", 3),
    )


def things() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(category, (its dominant kind, then three of the others)) of every category but the one of cats."""
    return tuple((category, tuple(kinds)[:4]) for category, kinds in bias.KINDS.items() if category != "pet")


@dataclass(frozen=True)
class Case:
    """A prompt, its seed and what it is for: "hard" ("a fruit on grass" without an apple), "near" (a banana), "far" (a pet)."""

    thing: str
    category: str
    kind: str
    text: str
    seed: int


def cases() -> tuple[Case, ...]:
    """24 prompts of each thing."""
    found: list[Case] = []
    for category, (thing, *others) in things():
        far = [other for other in bias.CATEGORIES if other != category]
        wanted = [("hard", category, place) for place in bias.BACKGROUNDS for _ in range(SEEDS)]
        wanted += [("near", others[at % len(others)], place) for at, place in enumerate(bias.BACKGROUNDS)]
        wanted += [("far", far[at % len(far)], place) for at, place in enumerate(bias.BACKGROUNDS)]
        for kind, noun, place in wanted:
            found.append(Case(thing, category, kind, prompt(noun, background=place), FIRST_SEED + len(found)))
    return tuple(found)


@cache
def _file(folder: Path, model: str, thing: str, instead_of: tuple[str, ...], where: Any) -> str:
    file = folder / f"{thing}-{where}.safetensors"
    if not file.exists():
        pipe, usual = models(model)[0], PIPELINES[model]
        call = {"num_inference_steps": usual.steps, "guidance_scale": usual.guidance_scale, **usual.more}
        learn(pipe, thing, instead_of, TEMPLATES, where, batch=LEARNT_WITH, **call).save(file)
    return str(file)


def method_of(
    attempt: Attempt, folder: Path, model: str, thing: str, instead_of: tuple[str, ...]
) -> tuple[Method, ...]:
    """What is attached for a thing."""
    text, weight = prompt(thing), attempt.strength
    if attempt.method.startswith("learned"):
        where = "text" if attempt.method == "learned text" else "all"
        window = Window(0, 1 if attempt.method == "learned throughout" else 0.5)
        return (LearnedNegative(_file(folder, model, thing, instead_of, where), weight, window),)
    made: dict[str, Any] = {
        "plain": lambda: (),
        "negative": lambda: (NegativePrompt([Negative(text, weight)]),),
        "perp_neg": lambda: (PerpNeg([Negative(text, weight)]),),
        "nag early": lambda: (NAG([Negative(text, window=Window(0, 0.5))], scale=weight),),
    }
    found: tuple[Method, ...] = made[attempt.method]()
    return found


def run_attempt(folder: Path, model: str, attempt: Attempt) -> Result:
    """Pictures of all cases, and a row for each thing."""
    pipe, oracle = models(model)
    usual = PIPELINES[model]
    images, rows, seconds = [], [], 0.0
    for _, (thing, *others) in things():
        part = [case for case in cases() if case.thing == thing]
        methods = method_of(attempt, folder, model, thing, tuple(others))
        started = time.monotonic()
        made = generate(
            pipe,
            [case.text for case in part],
            [case.seed for case in part],
            *methods,
            steps=usual.steps,
            guidance_scale=usual.guidance_scale,
            **usual.more,
        )
        seconds += time.monotonic() - started
        images.append(made)
        rows.append(
            {"method": attempt.method, "strength": attempt.strength, "prompt": thing, **_judged(oracle, made, part)}
        )
    pictures = np.concatenate(images)
    return pictures, [{**row, "seconds": seconds / len(pictures)} for row in rows]


def _judged(oracle: Any, pictures: np.ndarray, part: list[Case]) -> Row:
    judged = oracle.judge(pictures)
    present, kept = (np.asarray(judged.has(noun)) for noun in (part[0].thing, part[0].category))
    matched = np.array([judged.matches(case.text)[place] for place, case in enumerate(part)])
    of = {kind: np.array([case.kind == kind for case in part]) for kind in ("hard", "near", "far")}
    return {
        "present": float(present[of["hard"]].mean()),
        "kept": float(kept[of["hard"]].mean()),
        "clean": float((kept & ~present)[of["hard"]].mean()),
        "near": float(matched[of["near"]].mean()),
        "far": float(matched[of["far"]].mean()),
    }


REPORT = Report(
    name="learned",
    measures={
        "clean": "gone and kept",
        "present": "thing present",
        "kept": "subject kept",
        "near": "match, near misses",
        "far": "match, other prompts",
    },
    meanings={
        "negative": "weight where the unconditional stood",
        "perp_neg": "weight",
        "nag early": "scale, in the first half",
        "learned": "strength, in the first half, all layers",
        "learned throughout": "strength, at all steps",
        "learned text": "strength, in the first half, only layers that read the text",
    },
    across="present",
    upward=("kept", "near"),
    compared=("clean", "near", "far"),
)


def main(
    model: Annotated[str, typer.Option(help="Bundled pipeline: sd, sd3 or few-step.")] = "sd",
    out: Annotated[Path, typer.Option(help="Folder for files, rows and tables; a stopped bench goes on.")] = Path(
        "runs/learned"
    ),
    chosen: Annotated[str | None, typer.Option("--arms", help="Only these; all when not given.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes with one thread each; 1: here.")] = 1,
) -> None:
    """Learned negatives beside those that cost passes, on things that no setting was chosen on."""
    compared = named(chosen, attempts(), ("plain",))
    rows = run_arms(out, compared, partial(run_attempt, out, model), jobs)
    order = {attempt.name: place for place, attempt in enumerate(attempts())}
    usual = PIPELINES[model]
    settings = {
        "model": model,
        "things": len(things()),
        "pictures of each": len(cases()) // len(things()),
        "steps": usual.steps,
        "guidance scale": usual.guidance_scale,
    }
    typer.echo(REPORT.write(sorted(rows, key=lambda row: order[row["arm"]]), out, settings))


if __name__ == "__main__":
    typer.run(main)
