"""`negguide toybox`: draw the bundled world; in a checkout also train it, score it and bench the methods on it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, help="The bundled world: draw it; in a checkout also train, score and bench it."
)

LABORATORY = {
    "train": "Train the Toybox models with the committed recipe.",
    "card": "Measure the bundled models again and write their model cards anew.",
    "score": "Score a bundled generator with the oracle.",
    "bench": "Easy and hard negatives: every method over a sweep of strengths.",
    "diversity": "Eight pictures for each open prompt: how different?",
    "avoid": "A picture to avoid: how much of it comes back?",
    "adaptive": "Negatives that watch.",
}
"""Commands of `lab/`, which is part of a checkout and not of the installed package, with what they do."""


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
    sheet = contact_sheet([draw(scene) for scene in scenes], columns, labels=[full_caption(scene) for scene in scenes])
    try:
        sheet.save(out)
    except (OSError, ValueError) as error:  # no such folder, or an ending that names no kind of picture
        raise typer.TyperException(
            f"{str(out)!r} cannot be written: {getattr(error, 'strerror', None) or error}"
        ) from error
    typer.echo(f"{count} scenes in {out}")


def _checkout() -> Path | None:
    """The root of the checkout that this package lies in, or None where it is installed without its laboratory."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "lab" / "commands.py").is_file() else None


def _add_laboratory(group: typer.Typer) -> None:
    root = _checkout()
    if root is None:
        for name, summary in LABORATORY.items():
            group.command(
                name,
                help=f"{summary} (In a checkout of the repository only.)",
                context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
            )(_needs_checkout)
        return
    if str(root) not in sys.path:
        sys.path.append(str(root))
    from lab.commands import app as laboratory

    group.registered_commands.extend(laboratory.registered_commands)


def _needs_checkout(context: typer.Context) -> None:
    raise typer.BadParameter(
        f"`negguide toybox {context.info_name}` runs in a checkout of the repository: its laboratory (lab/) is no part of "
        "the installed package"
    )


_add_laboratory(app)
