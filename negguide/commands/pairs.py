"""`negguide pairs`: pictures with and without a thing, judged, for training."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from negguide.commands.compare_options import (
    ClipName,
    Device,
    DType,
    Guidance,
    ModelName,
    Negatives,
    Prompts,
    PromptsFile,
    Seeds,
    Size,
    Steps,
)
from negguide.commands.request import read_request
from negguide.commands.terminal import one_line, progress_bar, quiet_libraries

if TYPE_CHECKING:
    from negguide.experiment.models import Model
    from negguide.experiment.tasks import Request

Method = Annotated[str, typer.Option("--method", "-m", help="What takes the thing out, as in compare.")]
Say = Annotated[
    str,
    typer.Option(
        help='What the picture with the thing is asked for; "{prompt} with {thing}" where it is rarely there by itself.'
    ),
]
CaptionWith = Annotated[str, typer.Option(help="How pictures with the thing are described.")]
CaptionWithout = Annotated[str, typer.Option(help="How pictures without it are described.")]
Asked = Annotated[
    str | None,
    typer.Option(
        "--judge", help="A vision-language model that is asked, too: vqa:<model> or chat:<model>.", show_default=False
    ),
]
Layouts = Annotated[
    list[str] | None,
    typer.Option("--export", help="datasets (an image folder) or webdataset (a tar); repeat for both."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="A folder that is not there yet, or empty.")]


def pairs(
    prompts: Prompts = None,
    prompts_file: PromptsFile = None,
    negative: Negatives = None,
    method: Method = "recommended",
    seeds: Seeds = "0-7",
    say: Say = "{prompt}",
    caption_with: CaptionWith = "{prompt} with {thing}",
    caption_without: CaptionWithout = "{prompt} without {thing}",
    steps: Steps = None,
    guidance: Guidance = None,
    size: Size = None,
    model: ModelName = "toybox",
    dtype: DType = "auto",
    device: Device = "auto",
    clip: ClipName = None,
    judge: Asked = None,
    export: Layouts = None,
    out: Out = Path("out/pairs"),
) -> None:
    """Make pairs of pictures that differ in one thing: hard negatives for training, each kept for a reason.

    negguide pairs "a face --no glasses, hat" --say "{prompt} with {thing}" --seeds 0-31 --export datasets

    Both pictures of a pair start from the same noise; one has the thing, the other is made with it as a negative. A pair is
    kept where the judges see the thing in the one, not in the other, and the subject in both. Captions are each other's
    hard negatives.

    It writes pictures/, pairs.jsonl and rejected.jsonl, with the reason of each.
    """
    from negguide.experiment.models import check_model, load_model
    from negguide.experiment.tasks import prepare_folder
    from negguide.pairs.write import check_layouts

    with one_line():
        check_layouts(export or ())
        words = (say, caption_with, caption_without)
        _check_words(words)
        check_model(model, dtype)
        request = read_request(
            model, method, out, prompts, prompts_file, negative, seeds, steps=steps, guidance=guidance, size=size
        )
        _check_request(request, method)
        prepare_folder(out)
        if any(out.iterdir()):
            raise ValueError(f"{str(out)!r} is not empty; name a new folder with --out")
        quiet_libraries()
        _make(load_model(model, dtype, device), request, words, clip, judge, export or [])


def _check_words(words: Sequence[str]) -> None:
    for text in words:
        if "{prompt}" not in text:
            raise ValueError(
                f"{text!r} leaves the prompt out; write {{prompt}}, and {{thing}} where the thing is named"
            )


def _check_request(request: Request, method: str) -> None:
    if len(request.arms) != 1 or not request.arms[0].parts:
        raise ValueError(
            f"the method is {method!r}; one is needed that takes a thing out, such as recommended or perp_neg:weight=2"
        )
    if lacking := [task.prompt for task in request.tasks if not task.negatives]:
        raise ValueError(f"{lacking[0]!r} has no thing to be with and without; give -n THING, or write --no THING")


def _make(
    model: Model,
    request: Request,
    words: tuple[str, str, str],
    clip: str | None,
    asked: str | None,
    layouts: list[str],
) -> None:
    from negguide.experiment.asked import AskedJudge, in_order
    from negguide.experiment.judges import choose_judges
    from negguide.pairs.make import pairs as make_pairs
    from negguide.pairs.write import LIST, save

    judges = in_order([AskedJudge(asked)] if asked else [], choose_judges(model, clip))
    count = 2 * len(request.seeds) * sum(len(task.negatives) for task in request.tasks)
    with progress_bar(count) as tell:
        pairs_made = make_pairs(
            model,
            request.tasks,
            request.seeds,
            request.arms[0],
            judges,
            request,
            request.batch,
            words[0],
            words[1:],
            tell,
        )
        counts = save(pairs_made, request.out, layouts)
    kept = counts.pop("kept", 0)
    typer.echo(f"{kept} of {kept + sum(counts.values())} pairs kept: {request.out / LIST}")
    for reason, number in counts.most_common():
        print(f"negguide: left out {number}: {reason}", file=sys.stderr)
