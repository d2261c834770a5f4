"""What is recorded of a picture or a failure, beside where it lies."""

from __future__ import annotations

import datetime

from negguide.batch.make import Result
from negguide.batch.process import hardware
from negguide.batch.store import Record, labels
from negguide.batch.units import Unit
from negguide.experiment.recipe import versions
from negguide.wording import in_one_line


def about_picture(unit: Unit, seed: int, result: Result) -> Record:
    """How a picture is called, what was asked for and what it took."""
    return {
        **labels(unit, seed),
        "group": list(unit.seeds),
        "methods": unit.about["methods"],
        "steps": unit.settings.steps,
        "guidance": unit.settings.guidance_scale,
        "size": unit.settings.size,
        "takeover": unit.settings.takeover,
        "threads": unit.about.get("threads"),
        "dtype": unit.about["dtype"],
        "device": unit.about["device"],
        "hardware": hardware(unit.about["device"]),
        **result.about,
        "seconds": result.seconds / len(unit.seeds),
        "calls": result.calls,
        "versions": versions(),
    }


def about_failure(unit: Unit, error: BaseException) -> tuple[Record, str]:
    """What to record of a unit that could not be made, and the line that tells it."""
    message = in_one_line(error)
    record = {"unit": unit.id, "error": message, **labels(unit, unit.seeds[0]), "group": list(unit.seeds)}
    return record, f"{unit.variant.label} on {unit.task.text!r}: {message}"


def made_now(worker: str, rank: int) -> Record:
    """When, and by whom."""
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds")
    return {"time": now, "rank": rank, "worker": worker}
