"""The command `negguide` and its parts. What a command needs is imported when it runs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from negguide import __version__
from negguide.commands.compare import compare
from negguide.commands.demo import demo
from negguide.commands.generate import generate
from negguide.commands.lazy import LazyGroup
from negguide.commands.learn import learn
from negguide.commands.measure import measure
from negguide.commands.merge import merge
from negguide.commands.methods import methods
from negguide.commands.missing import missing
from negguide.commands.pairs import pairs
from negguide.commands.report import report
from negguide.commands.threads import settle

INTERRUPTED = 130

app = typer.Typer(
    name="negguide",
    cls=LazyGroup,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Say [bold]no[/bold] to a diffusion model, and see what it does.",
)
app.command("compare")(compare)
app.command("generate")(generate)
app.command("measure")(measure)
app.command("report")(report)
app.command("merge")(merge)
app.command("learn")(learn)
app.command("pairs")(pairs)
app.command("methods")(methods)
app.command("demo")(demo)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"negguide {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options of the command as a whole."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code. Bad input is one line on stderr and 2, an interruption 130."""
    settle()
    try:
        code = app(arguments, prog_name="negguide", standalone_mode=False)
    except typer.TyperException as error:
        message = " ".join(error.format_message().split())
        if message:  # without one, help has been printed
            print(f"negguide: {message}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (line := missing(error)) is None:
            raise
        print(line, file=sys.stderr)
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("negguide: interrupted; what was made stays", file=sys.stderr)
    return code if isinstance(code, int) else 0


def run() -> None:
    """Entry point of the installed command."""
    sys.exit(main())


if __name__ == "__main__":
    run()
