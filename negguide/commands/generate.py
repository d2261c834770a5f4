"""`negguide generate`: a batch of pictures that can be stopped at any moment and goes on."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from negguide.commands.addresses import estimate_at_address, run_at_address
from negguide.commands.terminal import one_line, progress_bar, quiet_libraries, until_terminated

if TYPE_CHECKING:
    from negguide.batch.engine import Outcome
    from negguide.batch.plan import Plan

CHANGE, DO = "Instead of what the plan says", "What to do"

Source = Annotated[
    str | None,
    typer.Argument(help="A plan (.yaml, .json, .toml), or the folder or address of a batch.", show_default=False),
]
Preset = Annotated[str | None, typer.Option(help="A plan of the package: see --preset list.")]
Prompts = Annotated[
    Path | None, typer.Option("--prompts", help="Prompts from a .txt or .jsonl file.", rich_help_panel=CHANGE)
]
Negatives = Annotated[
    list[str] | None,
    typer.Option(
        "--negative", "-n", help="What is not wanted, in all prompts; repeat for more.", rich_help_panel=CHANGE
    ),
]
Methods = Annotated[
    str | None,
    typer.Option(
        "--methods", "-m", help="As in compare: plain,perp_neg:weight=2,perp_neg+apg.", rich_help_panel=CHANGE
    ),
]
Seeds = Annotated[str | None, typer.Option(help="0,1,2 or 0-7.", rich_help_panel=CHANGE)]
ModelName = Annotated[str | None, typer.Option("--model", help="toybox, a folder, org/name.", rich_help_panel=CHANGE)]
Steps = Annotated[int | None, typer.Option(help="Steps of sampling.", rich_help_panel=CHANGE)]
Guidance = Annotated[float | None, typer.Option(help="Guidance scale.", rich_help_panel=CHANGE)]
Size = Annotated[str | None, typer.Option(help="512 or 768x512.", rich_help_panel=CHANGE)]
Batch = Annotated[int | None, typer.Option(help="Seeds that share a call; part of the keys.", rich_help_panel=CHANGE)]
Threads = Annotated[
    int | None,
    typer.Option(help="Of each process on a CPU; part of the keys there.", rich_help_panel=CHANGE),
]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps.", rich_help_panel=CHANGE)]
Out = Annotated[
    str | None,
    typer.Option("--out", "-o", help="Folder for everything, or an address: s3://bucket/x.", rich_help_panel=CHANGE),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what it would cost.", rich_help_panel=DO)]
Engine = Annotated[
    str, typer.Option(help="accelerate (this process, or those of accelerate launch), or ray.", rich_help_panel=DO)
]
Workers = Annotated[
    int | None, typer.Option(help="With --engine ray: at most so many.", min=1, rich_help_panel=DO, show_default=False)
]
Gpus = Annotated[
    float | None,
    typer.Option(
        help="With --engine ray: GPUs of each worker, 0.5 for half a one.", rich_help_panel=DO, show_default=False
    ),
]
Verify = Annotated[
    bool,
    typer.Option("--verify", help="With an address: read what is done, make again what is bad.", rich_help_panel=DO),
]
Only = Annotated[str | None, typer.Option(help="Only the picture whose key begins so.", rich_help_panel=DO)]
Report = Annotated[
    bool, typer.Option("--report/--no-report", help="Measure and report at the end.", rich_help_panel=DO)
]


def generate(
    source: Source = None,
    preset: Preset = None,
    prompts: Prompts = None,
    negative: Negatives = None,
    methods: Methods = None,
    seeds: Seeds = None,
    model: ModelName = None,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    batch: Batch = None,
    device: Device = None,
    threads: Threads = None,
    out: Out = None,
    engine: Engine = "accelerate",
    workers: Workers = None,
    gpus: Gpus = None,
    dry_run: DryRun = False,
    only: Only = None,
    verify: Verify = False,
    report: Report = True,
) -> None:
    r"""Make the pictures of a plan: prompts x methods x seeds, on any number of processes.

    Stop or kill it at any moment; the same command makes only what is missing or damaged.

    [bold]Examples[/bold]

    negguide generate plan.yaml --dry-run
    negguide generate plan.yaml
    negguide generate --prompts prompts.txt --methods plain,perp_neg -n blurry
    negguide generate --preset list
    accelerate launch --multi_gpu -m negguide.cli generate plan.yaml
    negguide generate plan.yaml --engine ray        # on a Ray cluster, or here
    negguide generate plan.yaml --out s3://bucket/x # in shards, by any number of workers
    negguide generate out/batch --only 3fa9c1 --out again    # one picture again

    [bold]A plan[/bold] (YAML, JSON or TOML)

    prompts: [a pet on grass --no cat, {prompt: a face, negatives: \[hat]}]
    methods: [plain, {use: perp_neg, sweep: {weight: [0.5, 1, 2]}}]
    seeds: 0-7

    [bold]Exit codes[/bold]: 0 all pictures are there; 1 some could not be made (recorded,
    the others are there); 2 the command or plan is wrong; 130 interrupted; 143 ended by SIGTERM
    (Slurm, Kubernetes), in order: the unit in work was made and the table written.
    """
    from negguide.batch.addresses import is_address

    if preset == "list":
        _list_presets()
        return
    changes: dict[str, object] = {
        "negatives": negative or None,
        "seeds": seeds,
        "models": model,
        "steps": steps,
        "guidance": guidance,
        "size": size,
        "batch": batch,
        "device": device,
        "threads": threads,
        "output": out,
    }
    with one_line():
        if engine not in ("accelerate", "ray"):
            raise ValueError(f"unknown engine {engine!r}; possible: accelerate, ray")
        if gpus is not None and engine != "ray":
            raise ValueError("--gpus goes with --engine ray")
        if workers is not None and engine != "ray":
            raise ValueError(
                "--workers goes with --engine ray; otherwise accelerate launch --num_processes says how many"
            )
        plan = _plan(
            source, preset, prompts, methods, {key: value for key, value in changes.items() if value is not None}
        )
        at_address = is_address(plan.output)
        if at_address and only is not None:
            raise ValueError("--only goes with a folder: give one with --out")
        if verify and not at_address:
            raise ValueError("--verify goes with an address; in a folder every picture is read at each start")
    quiet_libraries()
    if dry_run:
        estimate_at_address(plan) if at_address else _estimate(plan)
        return
    with until_terminated() as stop:
        if at_address:
            outcome = run_at_address(plan, engine, workers, stop, verify, gpus or 1.0)
        else:
            outcome = _run(plan, only, engine, workers, stop, gpus or 1.0)
    if outcome.is_main:
        _tell(outcome, plan)
        if report and not outcome.stopped and outcome.missing < outcome.pictures and only is None:
            _measure(plan, engine if at_address else "here", workers)
    for note in outcome.notes:
        print(f"negguide: note: {note}", file=sys.stderr)
    for error in outcome.errors:
        print(f"negguide: failed: {error}", file=sys.stderr)
    if outcome.stopped:
        print("negguide: ended by SIGTERM; the same line goes on", file=sys.stderr)
        raise typer.Exit(128 + signal.SIGTERM)
    if outcome.errors or (outcome.is_main and outcome.missing):
        raise typer.Exit(1)


def _plan(source: str | None, preset: str | None, prompts: Path | None, methods: str | None, changes: Any) -> Plan:
    from negguide.batch.addresses import is_address
    from negguide.batch.read import load_plan, load_preset
    from negguide.experiment.arms import parse_arms
    from negguide.experiment.models import check_model
    from negguide.experiment.tasks import prepare_folder

    if source is not None and preset is not None:
        raise ValueError("both a plan and a preset are given; one of them is enough")
    if methods is not None:
        changes["methods"] = [arm.label for arm in parse_arms(methods)]
    if prompts is not None:
        changes["prompts"] = [{"file": str(prompts.absolute())}]
    if source is not None and (is_address(source) or Path(source).is_dir()) and "output" not in changes:
        changes["output"] = source
    plan = load_preset(preset, changes) if preset is not None else load_plan(source, changes)
    for model in plan.models:
        check_model(model.name, model.dtype)
    if not is_address(plan.output):
        prepare_folder(Path(plan.output))
    return plan


def _run(
    plan: Plan, only: str | None, engine: str, workers: int | None, stop: Callable[[], bool], gpus: float
) -> Outcome:
    from negguide.batch.engine import run
    from negguide.batch.on_ray import run_on_ray
    from negguide.batch.units import count, machine_of, units

    with one_line():
        total = count(list(units(plan, machine_of(plan.device)))) if only is None else 1
        with progress_bar(total) as progress:
            if engine == "ray":
                return run_on_ray(plan, only, progress, workers, stop, gpus)
            return run(plan, only, progress, stop=stop)


def _estimate(plan: Plan) -> None:
    from negguide.batch.estimate import estimate, in_words
    from negguide.batch.notes import notes_before
    from negguide.batch.plan import ModelPlan
    from negguide.batch.process import pinned_threads
    from negguide.batch.store import Store
    from negguide.batch.units import machine_of, units
    from negguide.experiment.models import Model, load_model
    from negguide.names import bundled_model

    def load(model: ModelPlan) -> Model:
        if not bundled_model(model.name) and not Path(model.name).expanduser().is_dir():
            raise ValueError("a dry run downloads nothing")
        return load_model(model.name, model.dtype, plan.device)

    with one_line(), pinned_threads(plan.threads):
        all_units = list(units(plan, machine_of(plan.device)))
        store = Store(Path(plan.output))
        cost = estimate(all_units, store.missing(all_units), store, load)
    duration = (
        "unknown before the first picture" if cost.seconds is None else f"{in_words(cost.seconds)} ({cost.source})"
    )
    models, rows = len(plan.models), len(plan.variants())
    typer.echo(f"{models} model(s) x {len(plan.prompts)} prompts x {rows} methods x {len(plan.seeds)} seeds")
    typer.echo(f"pictures          {cost.pictures}, of which {cost.missing} are to be made in {cost.calls} calls")
    typer.echo(f"denoiser passes   about {cost.passes:.0f}")
    typer.echo(f"time, one device  {duration}")
    typer.echo(f"folder            {plan.output}")
    for note in notes_before(store, all_units):
        typer.echo(f"note: {note}")


def _tell(outcome: Outcome, plan: Plan) -> None:
    there = outcome.pictures - outcome.missing
    typer.echo(
        f"{there} of {outcome.pictures} pictures are in {plan.output}: {outcome.there} were there, "
        f"{outcome.made} made here in {outcome.seconds:.1f} s ({outcome.calling:.1f} s in the pipeline)"
    )


def _measure(plan: Plan, engine: str, workers: int | None) -> None:
    from negguide.batch.more import More
    from negguide.commands.measure import measure_and_tell
    from negguide.commands.report import report_and_tell

    with one_line():
        by, count = ("ray", workers) if engine == "ray" else ("here", None)
        more = More(tuple(plan.measures))
        measure_and_tell(plan.output, plan.clip, plan.baseline, more=more, engine=by, workers=count)
        report_and_tell(plan.output, plan.exports)


def _list_presets() -> None:
    from negguide.batch.read import presets, title_of

    for name, file in presets().items():
        typer.echo(f"{typer.style(name, bold=True)}  {title_of(file)}")
