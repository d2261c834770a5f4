"""The summary as tables: cells for the page, Markdown, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from negguide.batch.averages import EACH, Table
from negguide.batch.measure import Measures
from negguide.batch.more import all_columns
from negguide.experiment.columns import Column, best
from negguide.metrics import Interval
from negguide.metrics.intervals import LEAST, holm


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
    used = [column for column in all_columns() if column.key in keys]
    names = dict.fromkeys(key for row in measures.means.values() for key in row if key.startswith(EACH))
    if len(names) > 6:
        return used
    return [*used, *(Column(name, f"{name.removeprefix(EACH)} present", "{:.0%}", "low", name) for name in names)]


def rows(measures: Measures) -> list[tuple[str, list[Cell]]]:
    """(label, one cell for each of `columns`)."""
    return _rows(columns(measures), measures.means, measures.differences, clear_ones(measures))


def rows_by_tag(measures: Measures) -> dict[str, list[tuple[str, list[Cell]]]]:
    """The same for the prompts of each tag; what stands, stands among the comparisons of all tags."""
    shown, clear = columns(measures), {place for place, p in adjusted_by_tag(measures).items() if p < 0.05}
    return {
        tag: _rows(shown, part.means, part.differences, {place[1:] for place in clear if place[0] == tag})
        for tag, part in measures.tags.items()
    }


def _rows(
    shown: Sequence[Column], means: Table, differences: Table, clear: Collection[tuple[str, str]]
) -> list[tuple[str, list[Cell]]]:
    plain = [{key: interval.mean for key, interval in row.items()} for row in means.values()]
    table = []
    for label, row in means.items():
        cells = []
        for column in shown:
            top = best(column, plain) if column in all_columns() else None
            other = differences.get(label, {}).get(column.key)
            cells.append(_cell(column, row.get(column.key), other, top, (label, column.key) in clear))
        table.append((label, cells))
    return table


def size(measures: Measures) -> str:
    """`"18 of the plan's 36 pictures, 3 prompts"`."""
    of = f" of the plan's {measures.planned}" if measures.planned is not None else ""
    return f"{measures.pictures}{of} pictures, {measures.prompts} prompts"


def adjusted(measures: Measures) -> dict[tuple[str, str], float]:
    """Holm's p value of each (label, score) of the table that has a better and a worse; among all of these."""
    p_values = _p_values(columns(measures), measures.differences)
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def adjusted_by_tag(measures: Measures) -> dict[tuple[str, str, str], float]:
    """Holm's p value of each (tag, label, score), among all comparisons of all tags."""
    shown = columns(measures)
    p_values = {
        (tag, *place): p
        for tag, part in measures.tags.items()
        for place, p in _p_values(shown, part.differences).items()
    }
    return dict(zip(p_values, holm(list(p_values.values())), strict=True))


def _p_values(shown: Sequence[Column], differences: Table) -> dict[tuple[str, str], float]:
    keys = [column.key for column in shown if column.good]
    return {
        (label, key): interval.p
        for label, row in differences.items()
        for key, interval in row.items()
        if key in keys and interval.p is not None
    }


def clear_ones(measures: Measures) -> set[tuple[str, str]]:
    """The comparisons that stand among all of the table; fewer than `LEAST` prompts never have a p value that small."""
    return {place for place, p in adjusted(measures).items() if p < 0.05}


def trust(measures: Measures) -> list[str]:
    """A line for each negative of which the truth is known: how well zero-shot CLIP sees it."""
    return [
        f"zero-shot {thing!r} at threshold {detection.threshold:.3f}: precision {_share(detection.precision)}, recall "
        f"{_share(detection.recall)}, specificity {_share(detection.specificity)} "
        f"({detection.true_positive} true and {detection.false_positive} false positives, "
        f"{detection.true_negative} true and {detection.false_negative} false negatives)"
        for thing, detection in measures.detections.items()
    ]


def notes(measures: Measures) -> list[str]:
    """What the numbers rest on, where that is not everything: what is left out, and labels with fewer pictures than others."""
    texts = list(measures.notes)
    shares = measures.shares
    most = max((share.pictures for share in shares.values()), default=0)
    prompts = max((share.prompts for share in shares.values()), default=0)
    base = shares.get(measures.baseline)
    for label, share in shares.items():
        if share.pictures < most or share.prompts < prompts:
            texts.append(
                f"{label}: means over {share.prompts} of {prompts} prompts ({share.pictures} pictures, others {most})"
            )
        if label == measures.baseline or base is None:
            continue
        if not share.paired_pictures:
            texts.append(f"{label}: not compared with {measures.baseline}, which has none of its prompts and seeds")
        elif share.paired_pictures < max(share.pictures, base.pictures):
            texts.append(
                f"{label}: differences to {measures.baseline} on the {share.paired_pictures} pictures of "
                f"{share.paired_prompts} prompts whose seeds both have"
            )
    return texts


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.0%}"


def markdown(measures: Measures) -> str:
    """A table for a README: means with 95 % intervals over prompts; `*` where the difference to the baseline is clear."""
    titles = [_title(column) for column in columns(measures)]
    lines = [*_markdown_table(titles, rows(measures))]
    lines += [
        "",
        f"{size(measures)}; judged by {measures.judge}. In brackets: 95 % interval over prompts (Wilson for shares of "
        f"pictures, else Student). `*`: the paired difference to `{measures.baseline}` on the same prompts and seeds stands "
        f"among all comparisons of the table (Student's t, Holm's correction, at least {LEAST} prompts).",
        "",
        *(f"- {line}" for line in (*notes(measures), *trust(measures))),
    ]
    for tag, table in rows_by_tag(measures).items():
        lines += [
            "",
            f"### {tag_in_words(tag)} ({measures.tags[tag].prompts} prompts)",
            "",
            *_markdown_table(titles, table),
        ]
    if measures.tags:
        lines += ["", "`*` in these tables: among the comparisons of all tags.", ""]
    return "\n".join(lines)


def tag_in_words(tag: str) -> str:
    """The heading of a tag's table."""
    return tag or "without a tag"


def _markdown_table(titles: Sequence[str], table: Sequence[tuple[str, Sequence[Cell]]]) -> Iterator[str]:
    yield f"| method | {' | '.join(titles)} |"
    yield "|---|" + "---:|" * len(titles)
    for label, cells in table:
        texts = [_markdown(cell) for cell in cells]
        yield f"| {label.replace('|', chr(92) + '|')} | {' | '.join(texts)} |"


_CSV = (
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


def comma_separated(measures: Measures) -> str:
    """One line per method and score, for spreadsheets."""
    lines = _csv_lines(measures.means, measures.differences, adjusted(measures))
    return _csv(_CSV, lines)


def comma_separated_by_tag(measures: Measures) -> str:
    """The same for the prompts of each tag, which is the first column."""
    tagged = adjusted_by_tag(measures)
    lines: list[tuple[object, ...]] = []
    for tag, part in measures.tags.items():
        own = {place[1:]: p for place, p in tagged.items() if place[0] == tag}
        lines += [(tag_in_words(tag), *line) for line in _csv_lines(part.means, part.differences, own)]
    return _csv(("tag", *_CSV), lines)


def _csv(titles: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([titles, *lines])
    return buffer.getvalue()


def _csv_lines(
    means: Table, differences: Table, holms: Mapping[tuple[str, str], float]
) -> Iterator[tuple[object, ...]]:
    for label, row in means.items():
        for key, interval in row.items():
            other = differences.get(label, {}).get(key)
            numbers: Sequence[float | None] = (other.mean, other.low, other.high, other.p) if other else (None,) * 4
            yield (
                label,
                key,
                interval.mean,
                interval.low,
                interval.high,
                interval.cases,
                *numbers,
                holms.get((label, key)),
            )


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
