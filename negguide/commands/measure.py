"""`negguide measure`: numbers about a batch, or about any folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negguide.commands.addresses import as_folder, as_records
from negguide.commands.terminal import one_line, quiet_libraries

if TYPE_CHECKING:
    from negguide.batch.measure import Measures
    from negguide.batch.more import More

Folder = Annotated[str, typer.Argument(help="The folder or address of a batch, or any folder of pictures.")]
ClipName = Annotated[
    str | None, typer.Option("--clip", help="open_clip model that judges, e.g. ViT-B-32/laion2b_s34b_b79k, or toybox.")
]
Baseline = Annotated[str | None, typer.Option(help="The method that others are compared with; plain if it is there.")]
With = Annotated[
    list[str] | None,
    typer.Option(
        "--with", help="lpips, lpips=squeeze, dreamsim, dino, dino=<model>; repeat for more.", show_default=False
    ),
]
Against = Annotated[
    Path | None, typer.Option(help="A folder of pictures: FID, KID, CMMD and novelty of each method against it.")
]
References = Annotated[
    Path | None, typer.Option(help="A folder of pictures to look for: how like them each picture is.")
]
Truth = Annotated[
    Path | None,
    typer.Option(help=r'JSON lines {"file": ..., "shows": \[negatives]} of pictures that somebody looked at.'),
]
AskedJudge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        help="A vision-language model that is asked what is there: vqa:<model> or chat:<model>.",
        show_default=False,
    ),
]
Engine = Annotated[
    str, typer.Option(help="ray: pictures at an address are judged by a Ray cluster, or by several processes here.")
]
Workers = Annotated[int | None, typer.Option(help="With --engine ray: at most so many.", min=1, show_default=False)]
Prompt = Annotated[str | None, typer.Option(help="The prompt of all pictures of a foreign folder.")]
Negatives = Annotated[
    list[str] | None, typer.Option("--negative", "-n", help="What to look for in a foreign folder; repeat for more.")
]


def measure(
    folder: Folder,
    clip: ClipName = None,
    baseline: Baseline = None,
    prompt: Prompt = None,
    negative: Negatives = None,
    more: With = None,
    against: Against = None,
    references: References = None,
    truth: Truth = None,
    judge: AskedJudge = None,
    engine: Engine = "here",
    workers: Workers = None,
) -> None:
    """Measure diversity, alignment and the presence of what was negated.

    A batch is measured per prompt and method, with intervals over prompts and paired differences. Of a foreign folder
    the subfolders are the methods; prompts come from [bold]--prompt[/bold], the pictures' metadata, a .txt beside a
    picture, or a metadata.jsonl (GenEval). Without a CLIP, only the diversity of pixels is measured.

    Nothing is downloaded: a measure whose weights are not here is named, with what to fetch. Zero-shot presence is held
    against the truth where it is known (the Toybox oracle, or [bold]--truth[/bold]): threshold and confusion matrix.

    It writes measures.json, measures.parquet (a row per picture and measure), summary.md, .csv and .tex into the folder.
    """
    with one_line():
        _check(folder, engine, workers, against)
        from negguide.batch.more import More

        asked = More(tuple(more or ()), against, references, truth, judge)
        measure_and_tell(folder, clip, baseline, prompt, negative or [], asked, engine, workers)


def measure_and_tell(
    name: str,
    clip: str | None = None,
    baseline: str | None = None,
    prompt: str | None = None,
    negatives: Sequence[str] = (),
    more: More | None = None,
    engine: str = "here",
    workers: int | None = None,
) -> None:
    """Measure a folder or what is at an address, write the tables, and print them."""
    from negguide.batch.measure import NOTHING_MORE
    from negguide.batch.measure import measure as run

    more = more or NOTHING_MORE
    quiet_libraries()
    if engine == "here":
        with as_folder(name) as folder:
            _tell(folder, run(folder, clip, baseline, prompt, negatives, more=more))
        return
    from negguide.batch.sharded.measure_on_ray import RayJudging

    with as_records(name) as (folder, shard_of):
        judging = partial(RayJudging, url=name, shard_of=shard_of, clip=clip, more=more, workers=workers)
        _tell(folder, run(folder, clip, baseline, prompt, negatives, more=more, judging=judging))


def _check(place: str, engine: str, workers: int | None, against: Path | None) -> None:
    """`ValueError` for what cannot be, before anything heavy is loaded."""
    from negguide.batch.addresses import is_address
    from negguide.experiment.tasks import check_folder

    if engine not in ("here", "ray"):
        raise ValueError(f"unknown engine {engine!r}; possible: here, ray")
    if workers is not None and engine != "ray":
        raise ValueError("--workers goes with --engine ray")
    if engine == "ray" and not is_address(place):
        raise ValueError(f"--engine ray measures what lies at an address; {place!r} is a folder: leave it out")
    if engine == "ray" and against is not None:
        raise ValueError("--against needs all pictures in one place: measure with it without --engine ray")
    if not is_address(place):
        check_folder(place)
        if not Path(place).is_dir():
            raise ValueError(f"there is no folder {place!r}")


def _tell(folder: Path, measures: Measures) -> None:
    from rich.console import Console
    from rich.table import Table

    from negguide.batch import tables
    from negguide.batch.report import write_tables

    write_tables(folder, measures)
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", style="dim", no_wrap=True)
    rows = tables.rows(measures)
    for label, _ in rows:
        table.add_column(label, justify="right", overflow="fold")
    for place, column in enumerate(tables.columns(measures)):
        arrow = {"low": " ↓", "high": " ↑", "": ""}[column.good]
        cells = [cells[place] for _, cells in rows]
        table.add_row(
            column.title + arrow, *(f"[bold green]{cell.text}[/]" if cell.is_best else cell.text for cell in cells)
        )
        if any(cell.interval for cell in cells):
            table.add_row("", *(f"[dim]{cell.interval}[/]" for cell in cells))
    console.print(table)
    summary = f"\n{tables.size(measures)}; judged by: {measures.judge}"
    console.print(summary, style="dim", soft_wrap=True, markup=False)
    for line in (*tables.notes(measures), *tables.trust(measures)):
        console.print(line, soft_wrap=True, markup=False)
    for line in measures.absent:
        console.print(f"not measured: {line}", soft_wrap=True, markup=False)
    for line in measures.skipped[:10]:
        console.print(f"not measured: {line}", soft_wrap=True, markup=False)
    if len(measures.skipped) > 10:
        console.print(f"and {len(measures.skipped) - 10} more", markup=False)
