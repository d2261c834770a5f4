"""What should be known of a batch before its pictures are made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from negguide.batch.store import Store
from negguide.batch.units import Unit
from negguide.experiment.recipe import versions


def notes_before(store: Store, found: Sequence[Unit]) -> list[str]:
    """A line for each thing that the plan and what is there have between them."""
    return _other_versions(store, found)


def _other_versions(store: Store, found: Sequence[Unit]) -> list[str]:
    """Whether pictures of this plan were made with other versions than those at work here."""
    here: Mapping[str, str] = versions()
    others: dict[str, set[str]] = {}
    for unit in found:
        record = store.records.get(unit.key(unit.seeds[0]))
        for name, version in (record or {}).get("versions", {}).items():
            if here.get(name) != version:
                others.setdefault(name, set()).add(version)
    told = [f"{name} {', '.join(sorted(seen))} (now {here.get(name)})" for name, seen in others.items()]
    return (
        [f"pictures that are there were made with {'; '.join(told)}: for one version, use a new folder"] if told else []
    )
