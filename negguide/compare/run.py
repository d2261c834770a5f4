"""Run a comparison: every method on every prompt from the same seeds; each picture is on disk as soon as it exists."""

from __future__ import annotations

import datetime
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from negguide.compare.earlier import set_aside
from negguide.compare.looks import looks, recorded
from negguide.compare.records import Comparison, Picture, Results, Row
from negguide.compare.remarks import NO_EFFECT, is_plain, remarks_of
from negguide.experiment.arms import Arm
from negguide.experiment.columns import mean_scores
from negguide.experiment.files import write
from negguide.experiment.judges import Judge, judge_all
from negguide.experiment.metadata import PictureMetadata
from negguide.experiment.models import Model, dtype_name
from negguide.experiment.recipe import command_line, python_lines, versions
from negguide.experiment.sampling import arguments, make, png
from negguide.experiment.tasks import Request, Task, describe, slugs
from negguide.experiment.textfile import printable
from negguide.methods import to_dict
from negguide.wording import in_one_line

if TYPE_CHECKING:
    from PIL.Image import Image

Progress = Callable[[str, float], None]
"""Told what is being made (`"perp_neg · a pet"`) and how many pictures more are done (a fraction of one, often)."""


def compare(
    model: Model,
    request: Request,
    judges: Sequence[Judge] = (),
    command: str = "",
    progress: Progress = lambda what, pictures: None,
) -> Results:
    """Make the pictures of all arms, judge them, and write pictures, contact sheets, `results.json` and `report.html`.

    A method that fails is recorded (`Results.errors`) and the others go on. When interrupted, what is there is written.
    `judges`: from `choose_judges`, or your own. `progress`: see `Progress`.
    """
    from negguide.compare.report import write_report
    from negguide.compare.sheet import write_sheet

    started = time.monotonic()
    earlier = set_aside(request.out)
    results = _start(model, request, judges, command)
    results.earlier = earlier
    names = slugs([task.text for task in request.tasks])
    _warm_up(model, request)
    try:
        for task, name in zip(request.tasks, names, strict=True):
            comparison = Comparison(
                prompt=task.prompt,
                negatives=[describe(negative) for negative in task.negatives],
                text=task.text,
                slug=name,
            )
            results.comparisons.append(comparison)
            folders = slugs([arm.label for arm in request.arms])
            for arm, folder in zip(request.arms, folders, strict=True):
                row = Row(label=arm.label, summary=arm.summary, methods=[])
                comparison.rows.append(row)
                with remarks_of(row):
                    _fill(row, model, request, task, arm, Path(name) / folder, judges, progress)
                if arm.parts and is_plain(request.out, row, comparison.rows[0]):
                    row.remarks.append(NO_EFFECT)
                results.save(request.out)
            try:
                comparison.sheet = write_sheet(request.out, comparison, results.seeds)
            except Exception as error:  # the pictures are there, and the other prompts are still to come
                what = f"the contact sheet of {task.prompt!r} could not be drawn ({type(error).__name__}: {error})"
                warnings.warn(what, stacklevel=2)
        results.finished = True
    finally:
        results.seconds = time.monotonic() - started
        results.totals = _totals(results)
        results.save(request.out)
        write_report(request.out, results)
    return results


def _start(model: Model, request: Request, judges: Sequence[Judge], command: str) -> Results:
    task = request.tasks[0]
    width, height = request.size or (None, None)
    return Results(
        title=task.prompt if len(request.tasks) == 1 else f"{len(request.tasks)} prompts",
        command=printable(command or command_line(model.name, request)),
        python=python_lines(model, request),
        model=printable(model.name),
        pipeline=type(model.pipe).__name__,
        judge="; ".join(judge.name for judge in judges) or "none",
        seeds=list(request.seeds),
        settings={
            "steps": request.steps,
            "guidance_scale": request.guidance_scale if request.guidance_scale is not None else "pipeline default",
            "width": width or "pipeline default",
            "height": height or "pipeline default",
            "batch": request.batch,
            "scheduler": type(getattr(model.pipe, "scheduler", None)).__name__,
            "dtype": dtype_name(model),
            "device": model.device,
        },
        versions=versions(),
        started=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    )


def _warm_up(model: Model, request: Request) -> None:
    """One short call of the usual size, so that the first method does not pay for what is set up once; its errors come again."""
    try:
        call = arguments(model, request, request.tasks[0].prompt, request.seeds[: request.batch], request.inputs)
        model.pipe(**{**call, "num_inference_steps": min(2, request.steps)})
    except Exception:  # whatever it is, the run meets it again and records it
        return


def _fill(
    row: Row,
    model: Model,
    request: Request,
    task: Task,
    arm: Arm,
    folder: Path,
    judges: Sequence[Judge],
    progress: Progress,
) -> None:
    """One method on one prompt; errors are recorded, not raised."""
    pictures: list[Image] = []
    seconds, passes = 0.0, 0.0
    lost: list[str] = []
    try:
        methods = arm.build(task.negatives)
        row.methods = [to_dict(method) for method in methods]
        dtype = dtype_name(model)
        for start in range(0, len(request.seeds), request.batch):
            seeds = request.seeds[start : start + request.batch]
            watched, recorder = recorded(methods)
            result = make(
                model,
                request,
                task.prompt,
                watched,
                seeds,
                partial(progress, f"{arm.label} · {task.prompt}"),
                inputs=request.inputs,
            )
            row.looks += looks(result.trace, recorder, seeds, request.out, folder)
            seconds, passes = seconds + result.seconds, result.passes
            lost += [result.lost] if result.lost else []
            for seed, image in zip(seeds, result.images, strict=True):
                file = folder / f"{seed}.png"
                metadata = PictureMetadata.of(
                    task, methods, seed, seeds, model.name, request, dtype, passes, request.inputs
                )
                lost_here = {"lost": result.lost} if result.lost else {}
                write(request.out / file, png(image, metadata.texts(**lost_here)))
                row.pictures.append(Picture(seed=seed, file=file.as_posix()))
                pictures.append(image)
        if lost:  # pictures to look at, but not what the method makes: no score of them counts
            row.error = "; ".join(dict.fromkeys(lost))
            return
        row.scores = {"passes": passes, "seconds": seconds / len(pictures)}
        if judges:
            _judge(row, judges, pictures, task)
    except Exception as error:  # a method that fails must not take the others with it
        row.error = in_one_line(error)


def _judge(row: Row, judges: Sequence[Judge], pictures: Sequence[Image], task: Task) -> None:
    verdict = judge_all(judges, pictures, task)
    row.scores |= verdict.scores
    for place, picture in enumerate(row.pictures):
        picture.note = verdict.notes[place] if verdict.notes else ""
        picture.shows_negative = verdict.shows_negative[place] if verdict.shows_negative else None


def _totals(results: Results) -> dict[str, dict[str, float]]:
    rows = [row for comparison in results.comparisons for row in comparison.rows]
    labels = dict.fromkeys(row.label for row in rows)
    return {label: mean_scores([row.scores for row in rows if row.label == label and row.scores]) for label in labels}
