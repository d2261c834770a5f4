"""What programs and agents ask for in plain values: checked away from the event loop, waited for, told as JSON."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from negguide.demo.engine import Engine, explain
from negguide.demo.results import Board
from negguide.demo.settings import make_settings
from negguide.experiment.arms import PLAIN

METHOD, METHODS = "recommended", "negative recommended"
"""How to say no, and what is compared, where nobody says."""


async def ask(engine: Engine, values: Mapping[str, object], person: str, session: str) -> Board:
    """Make a comparison and wait for it.

    Args:
        engine: makes it.
        values: those of `Settings`, as they came; None leaves one to its default, but for the prompt, which must be given.
        person: who asks.
        session: what a later `stop` of theirs ends.

    Returns:
        The finished comparison.

    Raises:
        ValueError: in one line, what is wrong with the values, that nobody else can wait, or why nothing was made.
    """
    prompt = values.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("the prompt is empty; say what the picture should show")
    given = {key: value for key, value in values.items() if value is not None}
    given |= {"model": given.get("model") or engine.options.model, "negatives": given.get("negatives", "")}
    settings = await asyncio.to_thread(make_settings, given, engine.options)
    if made_before := engine.known(settings):
        return made_before
    blank = await asyncio.to_thread(engine.blank, settings)
    job = engine.stand_in_line(blank, person, session)
    async for _ in job.follow():
        pass
    if job.error is not None or job.news.state != "done":
        raise ValueError(explain(job.error) if job.error else job.news.message)
    board: Board = job.news
    return board


def one_method(method: object, negatives: object) -> tuple[object, ...]:
    """The arms beside plain: none for "plain" and "", for None `METHOD` where there is a negative."""
    if method is None:
        method = METHOD if negatives else PLAIN
    return () if method in ("", PLAIN) else (method,)


def many_methods(methods: object, negatives: object) -> Sequence[object]:
    """Names with spaces between, or a list of them; None: `METHODS` where there is a negative. `ValueError` for others."""
    if methods is None:
        methods = METHODS if negatives else ""
    if isinstance(methods, str):
        return methods.split()
    if isinstance(methods, list | tuple):
        return list(methods)
    raise ValueError(f"methods is {methods!r:.40}; give names with spaces between, such as {METHODS!r}")
