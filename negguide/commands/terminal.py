"""What the commands share: one line for bad input, quiet libraries, a bar of progress."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from negguide.compare.run import Progress


@contextmanager
def one_line() -> Iterator[None]:
    """Bad input becomes one line, without a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise typer.TyperException(str(error)) from error


@contextmanager
def until_terminated() -> Iterator[Callable[[], bool]]:
    """Gives a function that says whether SIGTERM came; a second one ends the process as ever."""
    came = threading.Event()

    def note(number: int, frame: object) -> None:
        came.set()
        signal.signal(signal.SIGTERM, before)

    if threading.current_thread() is not threading.main_thread():  # Python hands signals to the main thread only
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, note)
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


def quiet_libraries() -> None:
    """No progress bars and advice of the libraries."""
    import diffusers.utils.logging as diffusers_logging
    import transformers.utils.logging as transformers_logging

    for logging in (diffusers_logging, transformers_logging):
        logging.set_verbosity_error()
        logging.disable_progress_bar()


@contextmanager
def progress_bar(pictures: int) -> Iterator[Progress]:
    """A bar on stderr; silent where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} pictures"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=pictures)

        def tell(what: str, more: float) -> None:
            bar.update(task, description=what[:48], advance=more)

        yield tell
