"""Which recorded pictures are those of a plan: by their keys, or on another machine by what was asked for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from negguide.batch.plan import Plan
from negguide.batch.store import Record, labels
from negguide.batch.units import Machine, Unit, count, machine_of, units


def of_plan(plan: Plan, records: Mapping[str, Record]) -> tuple[list[Record], int]:
    """(rows of the plan's pictures that are recorded, in its order and under its labels; how many it has in all).

    `records`: by their keys. A picture whose key is not that of this machine (another device, a model that is not here) is
    found by its request; of several that answer to it the latest counts.
    """
    try:
        all_units = list(units(plan, machine_of(plan.device)))
    except ValueError:  # the plan's device is not here
        all_units = list(units(plan, Machine("", ""), lambda name: name))
    by_request: dict[str, list[Record]] | None = None
    rows = []
    for unit in all_units:
        about = None
        for seed in unit.seeds:
            record = records.get(unit.key(seed))
            if record is None:
                by_request = by_request if by_request is not None else _by_request(records.values())
                about = about or about_unit(unit)
                record = next(
                    (
                        candidate
                        for candidate in by_request.get(_asked(about, seed), ())
                        if _agrees(candidate, unit, plan)
                    ),
                    None,
                )
            if record is not None:
                rows.append({**record, **labels(unit, seed)})
    return rows, count(all_units)


def _by_request(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records that say what was asked for, the latest first."""
    by_request: dict[str, list[Record]] = defaultdict(list)
    for record in sorted(records, key=lambda record: str(record.get("time", "")), reverse=True):
        if "methods" in record and "seed" in record:
            by_request[_asked(record, record["seed"])].append(record)
    return by_request


def about_unit(unit: Unit) -> Record:
    """A unit in the words of its records."""
    settings = unit.settings
    return {
        "model": unit.model.name,
        "prompt": unit.task.prompt,
        "methods": unit.about["methods"],
        "steps": settings.steps,
        "guidance": settings.guidance_scale,
        "size": settings.size,
        "group": unit.seeds,
    }


def _asked(record: Mapping[str, object], seed: int) -> str:
    """All that a record says of what was asked for, and that a plan says without a model or a device."""
    names = ("model", "prompt", "steps", "guidance", "size", "group")
    request = {name: record.get(name) for name in names} | {"methods": without_content(record.get("methods"))}
    return json.dumps({**request, "seed": seed}, sort_keys=True, ensure_ascii=False)


def without_content(value: object) -> Any:
    """Methods without the hashes of the pictures they name, which may lie elsewhere by now."""
    if isinstance(value, Mapping):
        return {key: without_content(item) for key, item in value.items() if key != "content"}
    return [without_content(item) for item in value] if isinstance(value, list | tuple) else value


def _agrees(record: Record, unit: Unit, plan: Plan) -> bool:
    """Whether nothing that the plan insists on is recorded otherwise; what a record of an old version leaves out may be."""
    wanted: dict[str, object] = {"takeover": unit.settings.takeover}
    if unit.model.dtype != "auto":
        wanted["dtype"] = unit.model.dtype
    if plan.device != "auto":
        wanted["device"] = plan.device.partition(":")[0]
    if record.get("device") == "cpu":
        wanted["threads"] = plan.threads
    return all(record.get(name) in (None, value) for name, value in wanted.items())
