"""What the commands share: one line for bad input, quiet libraries, a bar of progress."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from negguide.compare.run import Progress


_FLAGS = {
    "call it with true_cfg_scale above 1, or give guidance_scale= to attach": "give --guidance above 1, or --takeover --guidance 4",
    "call it with guidance_scale above 1, or give guidance_scale= to attach": "give --guidance above 1, or --takeover --guidance 4",
    "call it with guidance_scale above 0, or give guidance_scale= to attach": "give --guidance above 0, or --takeover --guidance 4",
    "give guidance_scale= to attach": "give --takeover --guidance 4",
    "guidance_scale= given to attach": "--takeover --guidance",
    "num_images_per_prompt=4": "--batch 4",
    "guidance_scale=": "--guidance ",
}
"""Advice as it is given in Python -> as it can be followed on the command line."""


def in_flags(text: str) -> str:
    """A message in the language of the command line."""
    for python, flags in _FLAGS.items():
        text = text.replace(python, flags)
    return text


@contextmanager
def one_line() -> Iterator[None]:
    """Bad input becomes one line, without a traceback."""
    try:
        yield
    except (ValueError, TypeError, OSError) as error:
        raise typer.TyperException(in_flags(str(error))) from error


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
    """A bar on stderr; a line every half minute where stderr is no terminal (a log file, a notebook, CI)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(pictures)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} pictures"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=pictures)

        def tell(what: str, more: float) -> None:
            bar.update(task, description=what[:48], advance=more)

        yield tell


def _lines(pictures: int, every: float = 30.0) -> Progress:
    """Progress for a log: what is being made, how many pictures are done, how long the rest will take."""
    started = last_line = time.monotonic()
    done = 0.0

    def tell(what: str, more: float) -> None:
        nonlocal done, last_line
        done += more
        now = time.monotonic()
        if now - last_line < every:
            return
        last_line = now
        left = (now - started) * (pictures - done) / done if done else 0.0
        print(
            f"negguide: {done:.0f} of {pictures} pictures, about {left:.0f} s left ({what[:48]})",
            file=sys.stderr,
            flush=True,
        )

    return tell
