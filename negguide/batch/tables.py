"""The summary as tables: cells for the page, Markdown, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence

from negguide.batch.measure import Measures
from negguide.batch.more import all_columns
from negguide.experiment.columns import Column, best
from negguide.metrics import Interval
from negguide.metrics.intervals import LEAST, holm

EACH = "presence of "


@dataclasses.dataclass(frozen=True)
class Cell:
    """One number: `interval` as "0.1 to 0.3"; `against`: the paired difference to the baseline, with its interval.

    `verdict`: "better" or "worse" where the difference stands among all comparisons of the table (Holm), else "".
    """

    text: str
    interval: str = ""
    against: str = ""
    verdict: str = ""
    is_best: bool = False


def columns(measures: Measures) -> list[Column]:
    """The columns that there are values for; with several negatives, one for each of them too."""
    keys = {key for row in measures.means.values() for key in row}
    found = [column for column in all_columns() if column.key in keys]
    names = dict.fromkeys(key for row in measures.means.values() for key in row if key.startswith(EACH))
    if len(names) > 6:
        return found
    return [*found, *(Column(name, f"{name.removeprefix(EACH)} present", "{:.0%}", "low", name) for name in names)]


def rows(measures: Measures) -> list[tuple[str, list[Cell]]]:
    """(label, one cell for each of `columns`)."""
    plain = [{key: one.mean for key, one in row.items()} for row in measures.means.values()]
    table = []
    clear = clear_ones(measures)
    for label, means in measures.means.items():
        cells = []
        for column in columns(measures):
            top = best(column, plain) if column in all_columns() else None
            other = measures.differences.get(label, {}).get(column.key)
            cells.append(_cell(column, means.get(column.key), other, top, (label, column.key) in clear))
        table.append((label, cells))
    return table


def size(measures: Measures) -> str:
    """`"18 of the plan's 36 pictures, 3 prompts"`."""
    of = f" of the plan's {measures.planned}" if measures.planned is not None else ""
    return f"{measures.pictures}{of} pictures, {measures.prompts} prompts"


def adjusted(measures: Measures) -> dict[tuple[str, str], float]:
    """Holm's p value of each (label, score) of the table that has a better and a worse; among all of these."""
    keys = [column.key for column in columns(measures) if column.good]
    found = {
        (label, key): one.p
        for label, row in measures.differences.items()
        for key, one in row.items()
        if key in keys and one.p is not None
    }
    return dict(zip(found, holm([float(p) for p in found.values()]), strict=True))


def clear_ones(measures: Measures) -> set[tuple[str, str]]:
    """The comparisons that stand among all of the table; fewer than `LEAST` prompts never have a p value that small."""
    return {place for place, p in adjusted(measures).items() if p < 0.05}


def trust(measures: Measures) -> list[str]:
    """A line for each negative of which the truth is known: how well zero-shot CLIP sees it."""
    return [
        f"zero-shot {thing!r} at threshold {one.threshold:.3f}: precision {_share(one.precision)}, recall "
        f"{_share(one.recall)}, specificity {_share(one.specificity)} ({one.true_positive} true and {one.false_positive} "
        f"false positives, {one.true_negative} true and {one.false_negative} false negatives)"
        for thing, one in measures.detections.items()
    ]


def notes(measures: Measures) -> list[str]:
    """What the numbers rest on, where that is not everything: what is left out, and labels with fewer pictures than others."""
    told = list(measures.notes)
    shares = measures.shares
    most = max((share.pictures for share in shares.values()), default=0)
    prompts = max((share.prompts for share in shares.values()), default=0)
    base = shares.get(measures.baseline)
    for label, share in shares.items():
        if share.pictures < most or share.prompts < prompts:
            told.append(
                f"{label}: means over {share.prompts} of {prompts} prompts ({share.pictures} pictures, others {most})"
            )
        if label == measures.baseline or base is None:
            continue
        if not share.paired_pictures:
            told.append(f"{label}: not compared with {measures.baseline}, which has none of its prompts and seeds")
        elif share.paired_pictures < max(share.pictures, base.pictures):
            told.append(
                f"{label}: differences to {measures.baseline} on the {share.paired_pictures} pictures of "
                f"{share.paired_prompts} prompts whose seeds both have"
            )
    return told


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"


def markdown(measures: Measures) -> str:
    """A table for a README: means with 95 % intervals over prompts; `*` where the difference to the baseline is clear."""
    titles = [_title(column) for column in columns(measures)]
    lines = [f"| method | {' | '.join(titles)} |", "|---|" + "---:|" * len(titles)]
    for label, cells in rows(measures):
        texts = [_markdown(cell) for cell in cells]
        lines.append(f"| {label.replace('|', chr(92) + '|')} | {' | '.join(texts)} |")
    lines += [
        "",
        f"{size(measures)}; judged by {measures.judge}. In brackets: 95 % interval over prompts (Wilson for shares of "
        f"pictures, else Student). `*`: the paired difference to `{measures.baseline}` on the same prompts and seeds stands "
        f"among all comparisons of the table (Student's t, Holm's correction, at least {LEAST} prompts).",
        "",
        *(f"- {line}" for line in (*notes(measures), *trust(measures))),
    ]
    return "\n".join(lines)


def comma_separated(measures: Measures) -> str:
    """One line per method and score, for spreadsheets."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(
        (
            "method",
            "score",
            "mean",
            "low",
            "high",
            "prompts",
            "difference",
            "difference low",
            "difference high",
            "p",
            "p (Holm)",
        )
    )
    holms = adjusted(measures)
    for label, means in measures.means.items():
        for key, one in means.items():
            other = measures.differences.get(label, {}).get(key)
            found: Sequence[float | None] = (other.mean, other.low, other.high, other.p) if other else (None,) * 4
            found = (*found, holms.get((label, key)))
            table.writerow((label, key, one.mean, one.low, one.high, one.cases, *found))
    return buffer.getvalue()


def _cell(column: Column, mean: Interval | None, other: Interval | None, top: float | None, is_clear: bool) -> Cell:
    if mean is None:
        return Cell("–")
    text = column.write(mean.mean)
    interval = "" if mean.low is None else f"{column.write(mean.low)} to {column.write(mean.high)}"
    is_best = top is not None and text == column.write(top)
    if other is None:
        return Cell(text, interval, is_best=is_best)
    signed = dataclasses.replace(column, form=column.form.replace("{:", "{:+"))
    against = signed.write(other.mean)
    if other.low is not None:
        against += f" ({signed.write(other.low)} to {signed.write(other.high)})"
    against += f", n {other.cases}"
    verdict = ""
    if is_clear:
        verdict = "better" if (other.mean > 0) == (column.good == "high") else "worse"
    return Cell(text, interval, against, verdict, is_best)


def _title(column: Column) -> str:
    return column.title + {"low": " ↓", "high": " ↑", "": ""}[column.good]


def _markdown(cell: Cell) -> str:
    star = "*" if cell.verdict else ""
    return f"{cell.text}{star} ({cell.interval})" if cell.interval else f"{cell.text}{star}"
