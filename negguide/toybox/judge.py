"""The judge of the Toybox's pictures: its oracle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negguide.experiment.judges import Verdict, presence_of
from negguide.experiment.tasks import Task
from negguide.metrics import distinct, entropy
from negguide.toybox.phrases import parse

if TYPE_CHECKING:
    from PIL.Image import Image


class OracleJudge:
    """The Toybox oracle. Leaves out what the texts say in words that are not of its world."""

    knows_the_truth = True
    name = "Toybox oracle (presence, subject, match, kinds)"

    def __init__(self, oracle: Any) -> None:
        self.oracle = oracle

    def judge(self, pictures: Sequence[Image], task: Task) -> Verdict:
        seen = self.oracle.judge(list(pictures))
        verdict = Verdict({"valid": float((seen.kind != "none").mean())})
        kinds = [str(kind) for kind in seen.kind]
        verdict.scores |= {"kinds": float(distinct([k for k in kinds if k != "none"])), "entropy": entropy(kinds)}
        verdict.notes = [_note(row) for row in seen.rows()]
        try:
            asked = parse(task.prompt)
            verdict.scores["match"] = float(seen.has(task.prompt).mean())
            if asked.kinds is not None:
                verdict.scores["subject"] = sum(kind in asked.kinds for kind in kinds) / len(kinds)
        except ValueError:
            pass
        try:
            shown = [seen.has(str(negative.prompt)) for negative in task.negatives]
        except ValueError:
            return verdict
        if shown:
            verdict.shows_negative = [any(bool(shows_thing[i]) for shows_thing in shown) for i in range(len(kinds))]
            verdict.scores["presence"] = sum(verdict.shows_negative) / len(kinds)
            for negative, shows in zip(task.negatives, shown, strict=True):
                verdict.each[presence_of(negative)] = [float(value) for value in shows]
        return verdict


def _note(row: dict[str, Any]) -> str:
    """One picture in words: "orange cat with hat, grass"."""
    if row["kind"] == "none":
        return f"nothing known, {row['background']}"
    count = "two " if row["count"] == 2 else ""
    worn = f" with {' and '.join(row['accessories'])}" if row["accessories"] else ""
    view = f", {row['view']} view" if row["view"] != "front" else ""
    style = f", {row['style']}" if row["style"] != "clean" else ""
    return f"{count}{row['colour']} {row['kind']}{worn}, {row['background']}{view}{style}"
