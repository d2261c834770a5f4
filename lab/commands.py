"""The commands of the laboratory: train, score and bench the Toybox. `negguide toybox` shows them in a checkout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from lab.bench.adaptive_report import AdaptiveReport
    from lab.bench.means import Report
    from negguide.names import Sampling

app = typer.Typer()

OwnSteps = Annotated[int | None, typer.Option(min=1, help="Sampling steps; the pipeline's own when left out.")]
OwnScale = Annotated[float | None, typer.Option("--guidance", help="Guidance scale; the pipeline's own when left out.")]
Pipeline = Annotated[str, typer.Option(help="Bundled pipeline: sd, sd3 or few-step.")]


@app.command()
def train(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="vae, denoiser, oracle, clip, mmdit, student, words, watcher, large, crisp, kinds; "
            "all, in this order, when none is given."
        ),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of data and checkpoints; an interrupted training goes on.")] = Path(
        ".train"
    ),
    assets: Annotated[Path, typer.Option(help="Where the finished models go.")] = Path("assets"),
    threads: Annotated[int, typer.Option(min=1, help="Threads inside the operators.")] = 1,
) -> None:
    """Train the Toybox models with the committed recipe and write them with their model cards.

    On two CPU cores it takes about eight hours; preloading jemalloc makes it a third faster.
    """
    import torch

    from lab.train.recipe import PARTS, train_part

    unknown = [part for part in parts or () if part not in PARTS]
    if unknown:
        raise typer.BadParameter(f"unknown part {unknown[0]!r}; possible: {', '.join(PARTS)}")
    torch.set_num_threads(threads)
    for part in parts or PARTS:
        typer.echo(f"training {part}")
        train_part(part, work, assets)


@app.command()
def card(
    parts: Annotated[
        list[str] | None,
        typer.Argument(help="denoiser, oracle, clip, mmdit, student, watcher; all of them when none is given."),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of data and checkpoints.")] = Path(".train"),
) -> None:
    """Measure the bundled models again and write their model cards anew (needs the rendered pictures of `train`)."""
    from lab.train.recipe import MEASURED, measure_part

    unknown = [part for part in parts or () if part not in MEASURED]
    if unknown:
        raise typer.BadParameter(f"unknown part {unknown[0]!r}; possible: {', '.join(MEASURED)}")
    for part in parts or MEASURED:
        typer.echo(f"measuring {part}")
        measure_part(part, work)


@app.command()
def score(
    model: Pipeline = "sd",
    count: Annotated[int, typer.Option(min=30, help="Fully specified prompts.")] = 500,
    steps: OwnSteps = None,
    guidance: OwnScale = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Score a bundled generator with the oracle: prompt match, biases, validity."""
    from lab.score import score_generator
    from negguide.formats import stamped
    from negguide.toybox.load import load_pipeline
    from negguide.toybox.oracle import Oracle

    usual = _usual(model, steps, guidance)
    call = {"steps": usual.steps, "guidance_scale": usual.guidance_scale}
    scores = score_generator(load_pipeline(model), Oracle.load(), model, count, **call)
    text = json.dumps(stamped(scores), indent=1)
    if out is not None:
        out.write_text(text + "\n")
    typer.echo(text)


Jobs = Annotated[int, typer.Option(min=1, help="Processes with one thread each; 1: here, with all threads.")]


@app.command()
def bench(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/bench"
    ),
    seeds: Annotated[int, typer.Option(min=1, help="Pictures for each pair and arm.")] = 1,
    chosen: Annotated[
        str | None, typer.Option("--arms", help='Only these, e.g. "plain,negative 1,perp_neg 2"; all when not given.')
    ] = None,
    jobs: Jobs = 1,
    model: Pipeline = "sd",
    steps: OwnSteps = None,
    guidance: OwnScale = None,
    block: Annotated[int, typer.Option(min=0, help="First block of seeds: choose on one, report on others.")] = 0,
) -> None:
    """Easy and hard negatives: every method over a sweep of strengths, judged by the oracle.

    With --model few-step: the methods that need no guidance.
    """
    from lab.bench.arms import arms, named, reference
    from lab.bench.report import write_report
    from lab.bench.run import run_bench

    usual = _usual(model, steps, guidance)
    try:
        compared = named(chosen, arms(model), ("plain", reference(model)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    call: dict[str, Any] = {"steps": usual.steps, "guidance_scale": usual.guidance_scale}
    rows = run_bench(out, seeds, compared=compared, jobs=jobs, model=model, block=block, **call)
    pictures = len(rows) // len({row["arm"] for row in rows})
    write_report(rows, out, {"model": model, "pictures per arm": pictures, **_told(usual)})
    typer.echo((out / "bench.md").read_text())


Arms = Annotated[
    str | None, typer.Option("--arms", help='Only these, e.g. "plain,negtome all 0.9"; all when not given.')
]


@app.command()
def diversity(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/diversity"
    ),
    chosen: Arms = None,
    jobs: Jobs = 1,
    model: Pipeline = "sd",
    steps: OwnSteps = None,
    guidance: OwnScale = None,
) -> None:
    """Eight pictures for each open prompt ("a pet"): how many kinds, how different, and still what was asked?"""
    from functools import partial

    from lab.bench.diversity import GROUP, REPORT, prompts, run_spread, spreads

    usual = _usual(model, steps, guidance)
    settings = {"model": model, "prompts": len(prompts()), "pictures per prompt": GROUP, **_told(usual)}
    run = partial(run_spread, prompts(), model, usual.steps, usual.guidance_scale)
    _bench_of(spreads(), chosen, run, jobs, out, REPORT, settings)


@app.command()
def avoid(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/avoid"
    ),
    chosen: Arms = None,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures for each prompt.")] = 16,
    jobs: Jobs = 1,
    model: Pipeline = "sd",
    steps: OwnSteps = None,
    guidance: OwnScale = None,
) -> None:
    """A picture to avoid: how much of it comes back, and is the prompt still met?"""
    from functools import partial

    from lab.bench.avoid import REPORT, avoidances, cases, run_avoidance

    usual = _usual(model, steps, guidance)
    settings = {"model": model, "prompts": len(cases()), "pictures per prompt": seeds, **_told(usual)}
    run = partial(run_avoidance, cases(), seeds, model, usual.steps, usual.guidance_scale)
    _bench_of(avoidances(), chosen, run, jobs, out, REPORT, settings)


@app.command()
def views(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/views"
    ),
    chosen: Arms = None,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures for each text and view.")] = 8,
    jobs: Jobs = 1,
    model: Pipeline = "sd",
    steps: OwnSteps = None,
    guidance: OwnScale = None,
) -> None:
    """Faces from the side and from the back: does the view come, and does the rest of the prompt stay?"""
    from functools import partial

    from lab.bench.views import AZIMUTHS, REPORT, lookings, run_looking, texts

    usual = _usual(model, steps, guidance)
    settings = {
        "model": model,
        "texts": len(texts()),
        "views": len(AZIMUTHS),
        "pictures of each": seeds,
        **_told(usual),
    }
    run = partial(run_looking, seeds, model, usual.steps, usual.guidance_scale)
    _bench_of(lookings(), chosen, run, jobs, out, REPORT, settings)


@app.command()
def adaptive(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/adaptive"
    ),
    chosen: Arms = None,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures for each thing that a guard watches for.")] = 24,
    jobs: Jobs = 1,
    model: Pipeline = "sd",
    steps: OwnSteps = None,
    guidance: OwnScale = None,
) -> None:
    """Negatives that watch: away from the commonplace (creative), and away from a listed thing when it shows (guard)."""
    from functools import partial

    from lab.bench.adaptive import GROUP, prompts, run_trial, trials, watched
    from lab.bench.adaptive_report import AdaptiveReport

    usual = _usual(model, steps, guidance)
    settings = {
        "model": model,
        "prompts": len(prompts()),
        "pictures per prompt": GROUP,
        "watched cases": len(watched()),
    }
    run = partial(run_trial, seeds, model, usual.steps, usual.guidance_scale)
    _bench_of(
        trials(), chosen, run, jobs, out, AdaptiveReport(), settings | {"pictures per case": seeds} | _told(usual)
    )


def _usual(model: str, steps: int | None, guidance: float | None) -> Sampling:
    """How the bundled pipeline is called, with what the user says instead."""
    from dataclasses import replace

    from negguide.toybox.load import PIPELINES, pipeline_dir

    try:
        pipeline_dir(model)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    usual = PIPELINES[model]
    return replace(
        usual,
        steps=usual.steps if steps is None else steps,
        guidance_scale=usual.guidance_scale if guidance is None else guidance,
    )


def _told(usual: Sampling) -> dict[str, float]:
    return {"steps": usual.steps, "guidance scale": usual.guidance_scale}


def _bench_of(
    possible: Sequence[Any],
    chosen: str | None,
    run: Any,
    jobs: int,
    out: Path,
    report: Report | AdaptiveReport,
    settings: dict[str, Any],
) -> None:
    """Run the chosen arms, write their report and print its table."""
    from lab.bench.arms import named
    from lab.bench.run import run_arms

    try:
        compared = named(chosen, possible, ("plain",))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows = run_arms(out, compared, run, jobs)
    order = {arm.name: place for place, arm in enumerate(possible)}
    typer.echo(report.write(sorted(rows, key=lambda row: order[row["arm"]]), out, settings))
