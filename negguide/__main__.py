"""The command `negguide`, as it is installed and as `python -m negguide`: it says what to install where that is missing."""

from __future__ import annotations

import sys

from negguide.commands.missing import missing


def run() -> None:
    """Run the command line, or say in one line what it needs."""
    try:
        from negguide.cli import run as command
    except ModuleNotFoundError as error:
        if (line := missing(error)) is None:
            raise
        print(line, file=sys.stderr)
        sys.exit(2)
    command()


if __name__ == "__main__":
    run()
