"""Batches at an address, for the commands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from negguide.commands.terminal import one_line, progress_bar

if TYPE_CHECKING:
    from negguide.batch.engine import Outcome
    from negguide.batch.plan import Plan


def run_at_address(
    plan: Plan, engine: str, workers: int | None, stop: Callable[[], bool], verify: bool, gpus: float
) -> Outcome:
    """Make the pictures of a plan whose output is an address."""
    from negguide.batch.sharded.on_ray import run_sharded_on_ray
    from negguide.batch.sharded.run import run_sharded

    pictures = len(plan.models) * len(plan.prompts) * len(plan.variants()) * len(plan.seeds)
    with one_line(), progress_bar(pictures) as progress:
        if engine == "ray":
            return run_sharded_on_ray(plan, progress, workers, stop, verify, gpus)
        return run_sharded(plan, progress, stop=stop, verify=verify)


def estimate_at_address(plan: Plan) -> None:
    """Say how much of a plan is at its address."""
    from negguide.batch.engine import Outcome
    from negguide.batch.sharded.layout import Layout
    from negguide.batch.sharded.run import check
    from negguide.batch.sharded.store import Shards
    from negguide.batch.units import machine_of

    with one_line():
        layout, outcome = Layout(plan, machine_of(plan.device)), Outcome()
        notes = check(layout, Shards(plan.output), outcome)
    typer.echo(f"pictures          {layout.pictures} in {len(layout.shards)} shards")
    typer.echo(f"to be made        {layout.pictures - outcome.there}")
    typer.echo(f"address           {plan.output}")
    for note in notes:
        typer.echo(f"note: {note}")


@contextmanager
def as_records(name: str) -> Iterator[tuple[Path, dict[str, str]]]:
    """What lies at an address as a folder without pictures, and the shard of each; then what was measured goes there."""
    from negguide.batch.sharded.mirror import records_of, send_results

    root, shard_of = records_of(name)
    yield root, shard_of
    for notice in send_results(root, name):
        typer.echo(f"{name.rstrip('/')}/{notice}")


@contextmanager
def as_folder(name: str) -> Iterator[Path]:
    """A folder, or what lies at an address as a folder of this machine; then what was measured goes to the address."""
    from negguide.batch.addresses import is_address

    if not is_address(name):
        yield Path(name)
        return
    from negguide.batch.sharded.mirror import mirror, send_results

    root = mirror(name)
    yield root
    for notice in send_results(root, name):
        typer.echo(f"{name.rstrip('/')}/{notice}")
