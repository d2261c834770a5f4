"""`negguide methods`: what there is to choose from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from negguide.commands.terminal import one_line
from negguide.formats import stamped


def methods(
    name: Annotated[str | None, typer.Argument(help="A method: its options, what they mean, their ranges.")] = None,
    families: Annotated[
        bool, typer.Option("--families", help="Every pipeline class of diffusers, and which methods work on it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the methods: what each does, what it costs, what it needs.

    Every name can be given to [bold]negguide compare --methods[/bold]; the classes are in [bold]negguide[/bold].
    """
    import json

    from negguide.methods.listing import describe, table

    if families:
        typer.echo(_of_families(as_json).rstrip("\n"))
        return
    if name is not None:
        with one_line():
            described = describe(name)
        typer.echo(json.dumps(stamped(described), indent=2) if as_json else _described(described))
        return
    rows = table()
    if as_json:
        typer.echo(json.dumps(stamped({"methods": rows}), indent=2))
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


def _of_families(as_json: bool) -> str:
    """The matrix of pipelines and methods, as JSON or as the tables of docs/families.md."""
    import json

    from negguide.pipeline.families.matrix import as_markdown, counts, matrix, works_on

    rows = matrix()
    if as_json:
        return json.dumps(stamped({"counts": counts(rows), "works_on": works_on(rows), "pipelines": rows}), indent=2)
    return as_markdown(rows)


def _described(method: dict[str, Any]) -> str:
    """A method as a text of the terminal."""
    import textwrap

    def wrapped(text: str) -> list[str]:
        return textwrap.wrap(text, 100, initial_indent="    ", subsequent_indent="    ")

    lines = [
        f"{typer.style(method['name'], bold=True)}  {method['does']}",
        f"passes per step: {method['cost']} · {method['paper']}",
    ]
    if method["needs"]:
        lines += ["", typer.style("weight", bold=True), *wrapped("Multiplies the weights of the negatives.")]
    for option in method["options"]:
        facts = [option["range"] and f"{option['range'][:1].upper()}{option['range'][1:]}."]
        facts += [option["possible"] and f"Possible: {', '.join(option['possible'])}."]
        facts += [option["default"] and f"Default: {option['default']}."]
        lines += [
            "",
            typer.style(option["name"], bold=True),
            *wrapped(" ".join(filter(None, [option["help"], *facts]))),
        ]
    return "\n".join(lines)
