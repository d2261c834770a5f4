"""`negguide merge`: weights away from weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from negguide.commands.terminal import one_line

Base = Annotated[Path, typer.Argument(help="A safetensors file, or the folder of a model or pipeline.")]
Tuned = Annotated[Path, typer.Argument(help="The same, trained further; or an adapter (LoRA) that was trained on it.")]
Away = Annotated[float, typer.Option(help="How far from what was tuned; 0 is the base, -1 what was tuned.")]
Out = Annotated[
    Path, typer.Option("--out", "-o", help="Where the merged weights go: a file or folder that is not there yet.")
]


def merge(base: Base, tuned: Tuned, out: Out, away: Away = 0.5) -> None:
    """Write base - away * (tuned - base): a model away from what further training made of it (Neon).

    Trained for a moment on its own samples, a model errs more where it errs already; the other way it errs less. Of an
    adapter the output is the adapter turned round, to be loaded beside the base.
    """
    from negguide import weights

    with one_line():
        for file in weights.merge(base, tuned, away, out):
            typer.echo(str(file))
