"""`negguide toybox`: train, render, score and bench the bundled world."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from negguide.toybox.bench.means import Report

app = typer.Typer(no_args_is_help=True, help="The bundled world: train it, draw it, score it, bench the methods on it.")

Steps = Annotated[int, typer.Option(min=1, help="Sampling steps.")]
Scale = Annotated[float, typer.Option("--guidance", help="Guidance scale.")]
OwnSteps = Annotated[int | None, typer.Option(min=1, help="Sampling steps; the pipeline's own when left out.")]
OwnScale = Annotated[float | None, typer.Option("--guidance", help="Guidance scale; the pipeline's own when left out.")]
Pipeline = Annotated[str, typer.Option(help="Bundled pipeline: sd, sd3 or few-step.")]


@app.command()
def train(
    parts: Annotated[
        list[str] | None,
        typer.Argument(
            help="vae, denoiser, oracle, clip, mmdit, student; all of them, in this order, when none is given."
        ),
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of data and checkpoints; an interrupted training goes on.")] = Path(
        ".train"
    ),
    assets: Annotated[Path, typer.Option(help="Where the finished models go.")] = Path("assets"),
    threads: Annotated[int, typer.Option(min=1, help="Threads inside the operators.")] = 1,
) -> None:
    """Train the Toybox models with the committed recipe and write them with their model cards.

    On two CPU cores it takes about five hours; preloading jemalloc makes it a third faster.
    """
    import torch

    from negguide.toybox.train.recipe import PARTS, train_part

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
        list[str] | None, typer.Argument(help="denoiser, oracle, clip, mmdit, student; all of them when none is given.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder of data and checkpoints.")] = Path(".train"),
) -> None:
    """Measure the bundled models again and write their model cards anew (needs the rendered pictures of `train`)."""
    from negguide.toybox.train.recipe import MEASURED, measure_part

    unknown = [part for part in parts or () if part not in MEASURED]
    if unknown:
        raise typer.BadParameter(f"unknown part {unknown[0]!r}; possible: {', '.join(MEASURED)}")
    for part in parts or MEASURED:
        typer.echo(f"measuring {part}")
        measure_part(part, work)


@app.command()
def render(
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    category: Annotated[str | None, typer.Option(help="Only this category; mixed when not given.")] = None,
    count: Annotated[int, typer.Option(min=1, help="How many scenes.")] = 40,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    columns: Annotated[int, typer.Option(min=1)] = 8,
) -> None:
    """Draw a sheet of scenes of the world with their captions, at four times their size."""
    import numpy as np

    from negguide.toybox.world.captions import full_caption
    from negguide.toybox.world.render import render as draw
    from negguide.toybox.world.sample import sample_scene
    from negguide.toybox.world.sheet import contact_sheet

    rng = np.random.default_rng(seed)
    fixed = {} if category is None else {"category": category}
    try:
        scenes = [sample_scene(rng, named=True, **fixed) for _ in range(count)]
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    contact_sheet([draw(scene) for scene in scenes], columns, labels=[full_caption(scene) for scene in scenes]).save(
        out
    )
    typer.echo(f"{count} scenes in {out}")


@app.command()
def score(
    model: Pipeline = "sd",
    count: Annotated[int, typer.Option(min=30, help="Fully specified prompts.")] = 500,
    steps: OwnSteps = None,
    guidance: OwnScale = None,
    out: Annotated[Path | None, typer.Option(help="JSON to write.")] = None,
) -> None:
    """Score a bundled generator with the oracle: prompt match, biases, validity."""
    from negguide.toybox.load import load_pipeline
    from negguide.toybox.oracle import Oracle
    from negguide.toybox.score import score_generator

    call = {key: value for key, value in (("steps", steps), ("guidance_scale", guidance)) if value is not None}
    try:
        pipe = load_pipeline(model)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    text = json.dumps(score_generator(pipe, Oracle.load(), model, count, **call), indent=1)
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
) -> None:
    """Easy and hard negatives: every method over a sweep of strengths, judged by the oracle.

    With --model few-step: the methods that need no guidance.
    """
    from negguide.toybox.bench.arms import arms, named, reference
    from negguide.toybox.bench.report import write_report
    from negguide.toybox.bench.run import run_bench
    from negguide.toybox.load import PIPELINES, pipeline_dir

    try:
        pipeline_dir(model)
        compared = named(chosen, arms(model), ("plain", reference(model)))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    steps = PIPELINES[model].steps if steps is None else steps
    guidance = PIPELINES[model].guidance_scale if guidance is None else guidance
    rows = run_bench(out, seeds, compared=compared, jobs=jobs, model=model, steps=steps, guidance_scale=guidance)
    pictures = len(rows) // len({row["arm"] for row in rows})
    told = {"model": model, "pictures per arm": pictures, "steps": steps, "guidance scale": guidance}
    write_report(rows, out, told)
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
    steps: Steps = 25,
    guidance: Scale = 5.0,
) -> None:
    """Eight pictures for each open prompt ("a pet"): how many kinds, how different, and still what was asked?"""
    from functools import partial

    from negguide.toybox.bench.diversity import GROUP, REPORT, prompts, run_spread, spreads

    run = partial(run_spread, prompts(), steps, guidance)
    settings = {"prompts": len(prompts()), "pictures per prompt": GROUP, "steps": steps, "guidance scale": guidance}
    _bench_of(spreads(), chosen, run, jobs, out, REPORT, settings)


@app.command()
def avoid(
    out: Annotated[Path, typer.Option(help="Folder for rows, tables and plot; a stopped bench goes on.")] = Path(
        "runs/avoid"
    ),
    chosen: Arms = None,
    seeds: Annotated[int, typer.Option(min=1, help="Pictures for each prompt.")] = 16,
    jobs: Jobs = 1,
    steps: Steps = 25,
    guidance: Scale = 5.0,
) -> None:
    """A picture to avoid: how much of it comes back, and is the prompt still met?"""
    from functools import partial

    from negguide.toybox.bench.avoid import REPORT, avoidances, cases, run_avoidance

    run = partial(run_avoidance, cases(), seeds, steps, guidance)
    settings = {"prompts": len(cases()), "pictures per prompt": seeds, "steps": steps, "guidance scale": guidance}
    _bench_of(avoidances(), chosen, run, jobs, out, REPORT, settings)


def _bench_of(
    possible: Sequence[Any],
    chosen: str | None,
    run: Any,
    jobs: int,
    out: Path,
    report: Report,
    settings: dict[str, Any],
) -> None:
    """Run the chosen arms, write their report and print its table."""
    from negguide.toybox.bench.arms import named
    from negguide.toybox.bench.run import run_arms

    try:
        compared = named(chosen, possible, ("plain",))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    rows = run_arms(out, compared, run, jobs)
    order = {arm.name: place for place, arm in enumerate(possible)}
    typer.echo(report.write(sorted(rows, key=lambda row: order[row["arm"]]), out, settings))
