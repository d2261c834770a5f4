"""The summary as LaTeX (booktabs), for a paper: means, intervals, stars, and a table of the p values."""

from __future__ import annotations

from collections.abc import Sequence

from negguide.batch import tables
from negguide.batch.measure import Measures
from negguide.batch.tables import Cell
from negguide.experiment.columns import Column

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "%": r"\%",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "$": r"\$",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "–": "--",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_ARROWS = {"low": r" $\downarrow$", "high": r" $\uparrow$", "": ""}


def latex(measures: Measures) -> str:
    """Tables of all prompts, of each tag and of the p values; a paper that uses booktabs takes them in as they stand."""
    shown = tables.columns(measures)
    means = f"95\\,\\% intervals over prompts; $*$: differs from {escaped(measures.baseline)} among all comparisons"
    parts = [_table(shown, tables.rows(measures), f"{escaped(tables.size(measures))}. {means} of the table (Holm).")]
    for tag, rows in tables.rows_by_tag(measures).items():
        about = f"{escaped(tables.tag_in_words(tag))}: {measures.tags[tag].prompts} prompts"
        parts.append(_table(shown, rows, f"{about}. {means} of all tags (Holm)."))
    if p_values := tables.adjusted(measures):
        judged = [column for column in shown if any(key == column.key for _, key in p_values)]
        labels = list(dict.fromkeys(label for label, _ in p_values))
        cells = [(label, [_p(p_values.get((label, column.key))) for column in judged]) for label in labels]
        baseline = escaped(measures.baseline)
        caption = (
            f"P values of the differences from {baseline} (Student's t, paired by prompt; after Holm's correction)."
        )
        parts.append(_lines([column.title for column in judged], cells, caption))
    return "\n".join(parts)


def escaped(text: str) -> str:
    """A text as LaTeX prints it: "perp_neg" gets a backslash before its underscore."""
    return "".join(_SPECIAL.get(letter, letter) for letter in text)


def _table(shown: Sequence[Column], rows: Sequence[tuple[str, Sequence[Cell]]], caption: str) -> str:
    cells = [(label, [_cell(cell) for cell in several]) for label, several in rows]
    return _lines([escaped(column.title) + _ARROWS[column.good] for column in shown], cells, caption)


def _lines(titles: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]], caption: str) -> str:
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
    lines += [rf"\begin{{tabular}}{{l{'r' * len(titles)}}}", r"\toprule"]
    lines += [" & ".join(["method", *titles]) + r" \\", r"\midrule"]
    lines += [" & ".join([escaped(label), *cells]) + r" \\" for label, cells in rows]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _cell(cell: Cell) -> str:
    text = escaped(cell.text)
    if cell.is_best:
        text = rf"\textbf{{{text}}}"
    if cell.verdict:
        text += "$^*$"
    return rf"{text} {{\scriptsize({escaped(cell.interval)})}}" if cell.interval else text


def _p(value: float | None) -> str:
    return "--" if value is None else r"$<$0.001" if value < 0.001 else f"{value:.3f}"
