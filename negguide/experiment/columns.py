"""The columns of the metrics table: their titles, how they are written, and which direction is good."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from negguide.metrics.column import Column

Scores = Mapping[str, float]


COLUMNS: tuple[Column, ...] = (
    Column(
        "presence",
        "negative present",
        "{:.0%}",
        "low",
        "share of pictures with what was negated (CLIP: mean probability)",
    ),
    Column("subject", "subject kept", "{:.0%}", "high", "share of pictures with a kind that the prompt allows"),
    Column("match", "prompt match", "{:.0%}", "high", "share of pictures that show all that the prompt names"),
    Column("valid", "recognisable", "{:.0%}", "high", "share of pictures on which the oracle recognises a thing"),
    Column(
        "asked_presence", "negative seen", "{:.0%}", "low", "share of pictures with what was negated, says the judge"
    ),
    Column(
        "asked_subject",
        "subject seen",
        "{:.0%}",
        "high",
        "share of pictures with the prompt's main thing, says the judge",
    ),
    Column("asked_clean", "gone and kept", "{:.0%}", "high", "the subject and not what was negated, says the judge"),
    Column("asked_quality", "quality", "{:.2f}", "high", "the judge's mark, from 0 to 1, mean"),
    Column("alignment", "alignment", "{:.3f}", "high", "CLIP cosine between picture and prompt, mean"),
    Column(
        "vendi",
        "Vendi",
        "{:.2f}",
        "high",
        "effective number of different pictures (CLIP features, or pixels without CLIP)",
    ),
    Column(
        "mss",
        "similarity",
        "{:.3f}",
        "low",
        "mean cosine between pictures (MSS; CLIP features, or pixels without CLIP)",
    ),
    Column("kinds", "kinds", "{:.3g}", "high", "distinct kinds among the pictures"),
    Column("entropy", "entropy", "{:.2f}", "high", "entropy of the kinds, in bits"),
    Column("passes", "passes", "{:.4g}", "", "denoiser passes per picture"),
    Column("seconds", "seconds", "{:.3g}", "", "wall time per picture"),
)


def used(rows: Iterable[Scores]) -> list[Column]:
    """The columns that at least one row has a value for."""
    keys = {key for row in rows for key in row}
    return [column for column in COLUMNS if column.key in keys]


def best(column: Column, rows: Iterable[Scores]) -> float | None:
    """The best value of a column, or None where there is no better or worse, or all are alike."""
    values = [row[column.key] for row in rows if column.key in row]
    if not column.good or len({column.write(value) for value in values}) < 2:
        return None
    return min(values) if column.good == "low" else max(values)


def mean_scores(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each score over the rows that have it."""
    keys = dict.fromkeys(key for row in rows for key in row)
    values = {key: [row[key] for row in rows if key in row] for key in keys}
    return {key: sum(scores_of_key) / len(scores_of_key) for key, scores_of_key in values.items()}
