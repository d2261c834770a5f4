"""`negguide compare`: the main job from the command line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negguide.commands.compare_options import (
    METHODS,
    Batch,
    ClipName,
    ControlImage,
    ControlNet,
    Device,
    DType,
    Guidance,
    IPAdapter,
    IPImage,
    Loras,
    Mask,
    MethodNames,
    ModelName,
    Negatives,
    Out,
    Prompts,
    PromptsFile,
    Scheduler,
    Seeds,
    Size,
    StartImage,
    Steps,
    Strength,
    Takeover,
    UseJudge,
    Weight,
)
from negguide.commands.request import read_request
from negguide.commands.terminal import in_flags, one_line, progress_bar, quiet_libraries

if TYPE_CHECKING:
    from negguide.compare import Request, Results


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
    lora: Loras = None,
    scheduler: Scheduler = None,
    image: StartImage = None,
    mask: Mask = None,
    strength: Strength = None,
    controlnet: ControlNet = None,
    control_image: ControlImage = None,
    ip_adapter: IPAdapter = None,
    ip_image: IPImage = None,
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
    negguide compare "a cat" -n hat --model org/name --lora org/style:0.8
    negguide compare "a face" -n hat --image photo.png --strength 0.6

    [bold]What it writes[/bold], into --out:

    PROMPT/METHOD/SEED.png   each picture, with its settings inside
    PROMPT/sheet.png         contact sheet: methods x seeds
    report.html              everything in one file, to look at and to send
    results.json             the same for programs

    [bold]Exit codes[/bold]: 0 fine; 1 a method failed (the report says why, the others
    are there); 2 the command was wrong; 130 interrupted, what was made stays.
    """
    from negguide.experiment.inputs import Inputs, parse_loras
    from negguide.experiment.models import check_model
    from negguide.experiment.tasks import prepare_folder

    with one_line():
        check_model(model, dtype)
        inputs = Inputs(
            image=image,
            mask=mask,
            strength=strength,
            control_image=control_image,
            controlnet=controlnet,
            ip_image=ip_image,
            ip_adapter=ip_adapter,
            loras=parse_loras(lora or []),
            scheduler=scheduler,
        )
        request = read_request(
            model,
            methods,
            out,
            prompts,
            prompts_file,
            negative,
            seeds,
            weight,
            steps=steps,
            guidance=guidance,
            size=size,
            batch=batch,
            takeover=takeover,
            inputs=inputs,
        )
        inputs.check()
        prepare_folder(out)
    results, warned = _run(request, model, dtype, device, clip, judge)
    _tell(results, request.out)
    if results.earlier:
        print(
            f"negguide: the comparison that lay in {request.out} is now in {request.out / results.earlier}",
            file=sys.stderr,
        )
    for remark in [*results.remarks, *warned]:
        print(f"negguide: {in_flags(remark)}", file=sys.stderr)
    if results.errors:
        for error in results.errors:
            print(f"negguide: failed: {in_flags(error)}", file=sys.stderr)
        raise typer.Exit(1)


def _run(
    request: Request, model: str, dtype: str, device: str, clip: str | None, judge: bool
) -> tuple[Results, list[str]]:
    """The results, and what was warned of that stands in none of their rows."""
    from negguide.compare.run import compare
    from negguide.experiment.judges import choose_judges
    from negguide.experiment.models import load_model

    quiet_libraries()
    with one_line():
        loaded = load_model(model, dtype, device, request.inputs)
        judges = choose_judges(loaded, clip) if judge else []
    with (
        progress_bar(len(request.tasks) * len(request.arms) * len(request.seeds)) as progress,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always", UserWarning)
        results = compare(loaded, request, judges, progress=progress)
    in_rows = {remark for comparison in results.comparisons for row in comparison.rows for remark in row.remarks}
    texts = [" ".join(str(warning.message).split()) for warning in caught if issubclass(warning.category, UserWarning)]
    return results, [text for text in dict.fromkeys(texts) if text not in in_rows]


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
