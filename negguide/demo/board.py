"""The page's own HTML: how a comparison stands, its results side by side, the timeline of an adaptive method."""

from __future__ import annotations

import dataclasses

from negguide.demo.pictures import thumb
from negguide.demo.results import Board, Result
from negguide.experiment.columns import COLUMNS, best
from negguide.experiment.html import environment
from negguide.methods import METHODS

SHOWN = ("seconds", "passes", "vendi", "mss", "alignment", "presence", "match", "subject")
"""Scores under a result, in this order."""


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number under a result."""

    title: str
    text: str
    help: str
    is_best: bool


def status(board: Board | None, ahead: int = 0, error: str = "", note: str = "") -> str:
    """One line and a bar: waiting, loading, at work with the time left, done, stopped or wrong; and the board's remarks."""
    words = note or _words(board, ahead)
    return _render("status.html.jinja", board=board, ahead=ahead, error=error, words=words)


def results(board: Board) -> str:
    """All arms side by side."""
    figures = {result.label: _figures(result, board) for result in board.results}
    return _render("board.html.jinja", board=board, figures=figures, seeds=board.settings.seeds, name=_name)


def timeline(result: Result | None, seeds: tuple[int, ...]) -> str:
    """What an adaptive method saw and did, picture by picture."""
    rows = []
    for seed, looks in zip(seeds, result.looks if result else (), strict=False):
        rows.append((seed, [(look, thumb(look.picture) if look.picture else "") for look in looks]))
    return _render("timeline.html.jinja", rows=rows)


def _figures(result: Result, board: Board) -> list[Figure]:
    done = [outcome.scores for outcome in board.results if outcome.state == "done"]
    figures = []
    columns = {column.key: column for column in COLUMNS}
    for key in SHOWN:
        if key in result.scores and not (key == "presence" and len(result.presence) == 1):
            column = columns[key]
            text, top = column.write(result.scores[key]), best(column, done)
            if key == "alignment":
                column = dataclasses.replace(column, title="CLIP score")
            figures.append(Figure(column.title, text, column.help, top is not None and text == column.write(top)))
    return figures


def _name(label: str) -> str:
    """What a method does, where the label is that of one."""
    names = [word.partition(":")[0] for word in label.split("+")]
    return "; ".join(METHODS[name].summary for name in names if name in METHODS) or "the pipeline as it is"


def _words(board: Board | None, ahead: int) -> str:
    if board is None:
        return ""
    if board.state == "waiting":
        return f"In line: {ahead} before you" if ahead else "Starting …"
    if board.state == "running" and board.message:
        return board.message
    if board.state == "running":
        now = next((result for result in board.results if result.state == "running"), None)
        left = "" if board.left is None else f" · about {max(1, round(board.left))} s left"
        return f"{now.label}: step {now.step} of {now.steps}{left}" if now else "Working …"
    return board.message


def _render(template: str, **values: object) -> str:
    return environment("negguide.demo").get_template(template).render(**values)
