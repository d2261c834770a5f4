"""`negguide compare`: the main job from the command line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negguide.commands.terminal import in_flags, one_line, progress_bar, quiet_libraries

if TYPE_CHECKING:
    from negguide.compare import Request, Results
    from negguide.names import Sampling

METHODS = "plain,negative,signed,perp_neg,ccfg"
WHAT, HOW, WHERE = "What to make", "How to make it", "Model, judge and output"

Prompts = Annotated[
    list[str] | None,
    typer.Argument(help='Prompts. One may hold its own negatives: "a pet --no cat:0.8, hat".', show_default=False),
]
PromptsFile = Annotated[
    Path | None, typer.Option("--prompts", help="More prompts from a text file, one a line.", rich_help_panel=WHAT)
]
Negatives = Annotated[
    list[str] | None,
    typer.Option(
        "--negative",
        "-n",
        metavar="TEXT[:W[@A-B]]",
        help="What is not wanted, in all prompts; repeat for more. W: weight; A-B: fractions of sampling when it holds.",
        rich_help_panel=WHAT,
    ),
]
MethodNames = Annotated[
    str,
    typer.Option(
        "--methods",
        "-m",
        help="What is compared; [bold]negguide methods[/bold] lists them. Options: perp_neg:weight=2. Together: perp_neg+apg.",
        rich_help_panel=WHAT,
    ),
]
Seeds = Annotated[str, typer.Option(help="One picture per seed and method: 0,1,2 or 0-7.", rich_help_panel=WHAT)]
Weight = Annotated[float, typer.Option(help="Multiplies the weight of every negative.", rich_help_panel=HOW)]
Steps = Annotated[
    int | None,
    typer.Option(
        help="Steps of sampling; left out, 25, for toybox/few-step 4.", rich_help_panel=HOW, show_default=False
    ),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        help="Guidance scale; left out, the Toybox takes 5 (few-step 1) and any other model its own default.",
        rich_help_panel=HOW,
    ),
]
Size = Annotated[str | None, typer.Option(help="512 or 768x512; left out, the model's own.", rich_help_panel=HOW)]
Batch = Annotated[
    int | None, typer.Option(help="Pictures per call; left out, 8 for the Toybox and 1 otherwise.", rich_help_panel=HOW)
]
Takeover = Annotated[
    bool,
    typer.Option(
        "--takeover", help="negguide guides, for distilled models without guidance of their own.", rich_help_panel=HOW
    ),
]
ModelName = Annotated[
    str,
    typer.Option(
        help="toybox, toybox/sd3, toybox/few-step (bundled), a folder, or a model of the Hub such as org/name.",
        rich_help_panel=WHERE,
    ),
]
DType = Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.", rich_help_panel=WHERE)]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=WHERE)]
ClipName = Annotated[
    str | None,
    typer.Option(
        "--clip",
        help="open_clip model that judges, e.g. ViT-B-32/laion2b_s34b_b79k; the Toybox brings its own.",
        rich_help_panel=WHERE,
    ),
]
UseJudge = Annotated[
    bool, typer.Option("--judge/--no-judge", help="Judge the pictures, or only make them.", rich_help_panel=WHERE)
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for everything.", rich_help_panel=WHERE)]


def compare(
    prompts: Prompts = None,
    prompts_file: PromptsFile = None,
    negative: Negatives = None,
    methods: MethodNames = METHODS,
    seeds: Seeds = "0-7",
    weight: Weight = 1.0,
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    batch: Batch = None,
    takeover: Takeover = False,
    model: ModelName = "toybox",
    dtype: DType = "auto",
    device: Device = "auto",
    clip: ClipName = None,
    judge: UseJudge = True,
    out: Out = Path("out/compare"),
) -> None:
    """Make the same pictures with several methods, and measure what each did.

    [bold]On the bundled Toybox model: no GPU, no download, no token[/bold]

    negguide compare "a pet on grass" --negative cat
    negguide compare "a face --no hat:1.5, glasses" --seeds 0-15
    negguide compare "a pet --no cat" --methods plain,perp_neg,perp_neg+apg
    negguide compare --prompts prompts.txt -n blurry -n watermark:0.5@0-0.4

    [bold]On a model of your own, with any open_clip model as the judge[/bold]

    negguide compare "a portrait" -n glasses --seeds 0-3 --model ./my-model
    negguide compare "a cat" -n "orange fur" --model org/name
       --clip ViT-B-32/laion2b_s34b_b79k

    [bold]What it writes[/bold], into --out:

    PROMPT/METHOD/SEED.png   each picture, with its settings inside
    PROMPT/sheet.png         contact sheet: methods x seeds
    report.html              everything in one file, to look at and to send
    results.json             the same for programs

    [bold]Exit codes[/bold]: 0 fine; 1 a method failed (the report says why, the others
    are there); 2 the command was wrong; 130 interrupted, what was made stays.
    """
    from negguide.experiment.models import check_model
    from negguide.experiment.tasks import STEPS
    from negguide.names import bundled_model

    with one_line():
        check_model(model, dtype)
        bundled = bundled_model(model)
        usual = bundled.sampling if bundled else None
        request = _request(
            prompts or [],
            prompts_file,
            negative or [],
            methods,
            seeds,
            weight,
            steps=steps if steps is not None else (usual.steps if usual else STEPS),
            size=size,
            out=out,
            watcher=bundled.bundle.name if bundled and bundled.bundle.watcher else None,
        )
        request = _with_defaults(request, usual, guidance, batch, takeover)
    results = _run(request, model, dtype, device, clip, judge)
    _tell(results, request.out)
    if results.earlier:
        print(
            f"negguide: the comparison that lay in {request.out} is now in {request.out / results.earlier}",
            file=sys.stderr,
        )
    for remark in results.remarks:
        print(f"negguide: {in_flags(remark)}", file=sys.stderr)
    if results.errors:
        for error in results.errors:
            print(f"negguide: failed: {in_flags(error)}", file=sys.stderr)
        raise typer.Exit(1)


def _request(
    prompts: list[str],
    prompts_file: Path | None,
    negatives: list[str],
    methods: str,
    seeds: str,
    weight: float,
    steps: int,
    size: str | None,
    out: Path,
    watcher: str | None,
) -> Request:
    """Everything that can be checked without a model, checked."""
    from negguide.experiment.arms import parse_arms
    from negguide.experiment.tasks import (
        Request,
        make_tasks,
        parse_seeds,
        parse_size,
        prepare_folder,
        read_prompts,
    )

    texts = [*prompts, *(read_prompts(prompts_file) if prompts_file else [])]
    return Request(
        tasks=make_tasks(texts, negatives, weight),
        arms=parse_arms(methods, watcher),
        seeds=parse_seeds(seeds),
        out=prepare_folder(out),
        steps=steps,
        size=parse_size(size),
    )


def _with_defaults(
    request: Request, usual: Sampling | None, guidance: float | None, batch: int | None, takeover: bool
) -> Request:
    import dataclasses

    if usual and guidance is None:
        guidance = usual.guidance_scale
    batch = batch if batch is not None else (8 if usual else 1)
    return dataclasses.replace(request, guidance_scale=guidance, batch=batch, takeover=takeover)


def _run(request: Request, model: str, dtype: str, device: str, clip: str | None, judge: bool) -> Results:
    from negguide.compare.run import compare
    from negguide.experiment.judges import choose_judges
    from negguide.experiment.models import load_model

    quiet_libraries()
    with one_line():
        loaded = load_model(model, dtype, device)
        judges = choose_judges(loaded, clip) if judge else []
    with (
        progress_bar(len(request.tasks) * len(request.arms) * len(request.seeds)) as progress,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore", UserWarning)  # they stand in the results, and are told once, in one line
        return compare(loaded, request, judges, progress=progress)


def _tell(results: Results, out: Path) -> None:
    """The numbers, one column per method so that they fit a terminal, and where everything lies."""
    from rich.console import Console
    from rich.table import Table

    from negguide.experiment.columns import best, used

    console = Console(highlight=False)
    totals = results.totals
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim", no_wrap=True)
    for label in totals:
        table.add_column(label, justify="right", overflow="fold")
    for column in used(totals.values()):
        arrow = {"low": " ↓", "high": " ↑", "": ""}[column.good]
        top = column.write(best(column, totals.values()))
        texts = [column.write(scores.get(column.key)) for scores in totals.values()]
        table.add_row(
            column.title + arrow, *(f"[bold green]{text}[/]" if text == top != "–" else text for text in texts)
        )
    console.print(table)
    console.print(f"\njudged by: {results.judge}", style="dim", soft_wrap=True, markup=False)
    for name in ("report.html", "results.json"):
        console.print(str(out / name), soft_wrap=True, markup=False)
