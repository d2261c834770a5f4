"""What should be known of a batch before its pictures are made: why some are made again, and which are of no use any more."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence

from negguide.batch.planned import about_unit, without_content
from negguide.batch.store import Record, Store
from negguide.batch.units import Unit
from negguide.experiment.recipe import versions


def notes_before(store: Store, all_units: Sequence[Unit]) -> list[str]:
    """A line for each thing that the plan and what is there have between them."""
    keys = {unit.key(seed) for unit in all_units for seed in unit.seeds}
    orphans = [record for key, record in store.records.items() if key not in keys and "methods" in record]
    return [*_other_versions(store, all_units), *_why_again(store, all_units, orphans), *_orphans(orphans)]


REASONS = {
    "group": "other seeds share a call (batch and seeds of the plan; the companions are part of a key)",
    "model": "the model is another one",
    "steps": "another number of steps",
    "guidance": "another guidance scale",
    "size": "another size",
    "takeover": "takeover was switched",
    "dtype": "another dtype",
    "device": "another kind of device",
    "threads": "another number of threads",
}
"""What may differ between a picture that is there and one that is to be made, in words."""
LISTED = 3
"""So many files of orphans are named."""


def _why_again(store: Store, all_units: Sequence[Unit], orphans: Sequence[Record]) -> list[str]:
    """Why pictures are made that seem to be there: what else than the prompt, the method and the seed differs."""
    if not orphans:
        return []
    by_likeness: dict[str, Record] = {_same(record, record["seed"]): record for record in orphans if "seed" in record}
    reasons: Counter[tuple[str, ...]] = Counter()
    for unit in all_units:
        about = {**unit.about, **about_unit(unit), "takeover": unit.settings.takeover}
        for seed in unit.seeds:
            if unit.key(seed) not in store.records and (old := by_likeness.get(_same(about, seed))):
                reasons[tuple(name for name in REASONS if _differ(name, about.get(name), old.get(name)))] += 1
    return [
        f"{number} pictures are made again: {', '.join(REASONS[name] for name in names) or 'the content of the model changed'}"
        for names, number in reasons.items()
    ]


def _same(record: Mapping[str, object], seed: int) -> str:
    """Prompt, methods and seed: what a person takes for the same picture."""
    return json.dumps([record.get("prompt"), without_content(record.get("methods")), seed], sort_keys=True)


def _differ(name: str, wanted: object, recorded: object) -> bool:
    """Whether a record says otherwise; old records leave some things out."""
    if recorded is None and name in ("takeover", "threads"):
        return False
    return bool(json.dumps(wanted) != json.dumps(recorded))


def _orphans(orphans: Sequence[Record]) -> list[str]:
    """Pictures of earlier plans in the same folder, which this plan does not use."""
    files = sorted(str(record["file"]) for record in orphans if "file" in record)
    if not files:
        return []
    more = f" and {len(files) - LISTED} more" if len(files) > LISTED else ""
    return [f"{len(files)} pictures there are not of this plan: {', '.join(files[:LISTED])}{more}"]


def _other_versions(store: Store, all_units: Sequence[Unit]) -> list[str]:
    """Whether pictures of this plan were made with other versions than those at work here."""
    here: Mapping[str, str] = versions()
    others: dict[str, set[str]] = {}
    for unit in all_units:
        record = store.records.get(unit.key(unit.seeds[0]))
        for name, version in (record or {}).get("versions", {}).items():
            if here.get(name) != version:
                others.setdefault(name, set()).add(version)
    changes = [f"{name} {', '.join(sorted(seen))} (now {here.get(name)})" for name, seen in others.items()]
    return (
        [f"pictures that are there were made with {'; '.join(changes)}: for one version, use a new folder"]
        if changes
        else []
    )
