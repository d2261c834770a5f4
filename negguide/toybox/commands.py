"""`negguide toybox`: train, render, score and bench the bundled world."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="The bundled world: train it, draw it, score it.")


@app.callback()
def _toybox() -> None:
    """Make a group of it, whatever the number of commands."""
