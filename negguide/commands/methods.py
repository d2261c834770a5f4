"""`negguide methods`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer


def methods(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the methods: what each does, what it costs, what it needs.

    Every name can be given to [bold]negguide compare --methods[/bold]; the classes are in [bold]negguide[/bold].
    """
    import json

    rows = table()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    plain = {
        "name": "plain",
        "does": "the pipeline as it is, without a negative",
        "cost": "2",
        "needs": "",
        "paper": "",
    }
    width = max(len(row["name"]) for row in rows)
    for row in [plain, *rows]:
        typer.echo(f"{typer.style(row['name'].ljust(width), bold=True)}  {row['does']}")
        needs = f"needs {row['needs']}" if row["needs"] else ""
        details = " · ".join(part for part in (f"passes per step: {row['cost']}", needs, row["paper"]) if part)
        typer.echo(f"{' ' * width}  {typer.style(details, dim=True)}")


def table() -> list[dict[str, str]]:
    """Every registered method with what there is to know of it, as texts."""
    from negguide.methods import METHODS

    return [
        {
            "name": entry.name,
            "class": entry.method.__name__,
            "does": entry.summary,
            "cost": entry.cost,
            "needs": "negatives" if entry.takes_negatives else "",
            "paper": entry.paper,
        }
        for entry in METHODS.values()
    ]
