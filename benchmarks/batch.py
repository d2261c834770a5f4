"""What the batch layer costs: its share of a run, the check of pictures that are there, the measuring.

python benchmarks/batch.py [--pictures 64] [--checked 10000] [--measured 1000] [--out FOLDER]
python benchmarks/batch.py --units 1000000    # only the bookkeeping of so many calls, without pipeline and pictures

Wall time and processor time are both printed: on a machine that does other work too, only the second tells.
The exit code is 0 when the bars hold (in processor time): 5 % of a run, 10 s, 60 s.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from negguide.batch.claims import Claims
from negguide.batch.engine import run
from negguide.batch.gather import look_into
from negguide.batch.measure import measure
from negguide.batch.plan import Plan
from negguide.batch.read import load_plan
from negguide.batch.store import Store, labels
from negguide.batch.units import Unit, machine_of, units
from negguide.commands.terminal import quiet_libraries
from negguide.experiment.sampling import png

PROMPTS = ("a pet on grass --no cat", "a face --no hat", "a fruit at night --no apple", "a vehicle in a room --no car")


class Clock:
    """Seconds of a block: `wall`, and `cpu` of all threads."""

    wall = cpu = 0.0


@contextmanager
def clock() -> Iterator[Clock]:
    found, wall, cpu = Clock(), time.monotonic(), processor()
    yield found
    found.wall, found.cpu = time.monotonic() - wall, processor() - cpu


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def overhead(out: Path, pictures: int) -> bool:
    """A run of the Toybox at its usual steps; what is neither in the pipeline nor loading is the batch's."""
    changes = {"prompts": list(PROMPTS), "methods": ["plain", "perp_neg"], "output": str(out), "device": "cpu"}
    plan = load_plan(None, {**changes, "seeds": f"0-{pictures // (2 * len(PROMPTS)) - 1}", "batch": 4})
    with clock() as whole:
        found = run(plan)
    own = found.seconds - found.calling - found.loading
    share = own / found.seconds
    print(
        f"a run of {found.made} pictures: {found.seconds:.1f} s, of which {found.calling:.1f} s in the pipeline, "
        f"{found.loading:.1f} s loading the model, {own:.2f} s the batch's own: {share:.1%} (processor {whole.cpu:.1f} s)",
        flush=True,
    )
    return share <= 0.05


def painted(out: Path, pictures: int, per_group: int, prompts: int) -> tuple[Plan, list[Unit]]:
    """A batch's folder with that many painted 64x64 pictures in it."""
    texts = [f"{PROMPTS[place % len(PROMPTS)].replace(' --no', f', {place} --no')}" for place in range(prompts)]
    count = pictures // prompts // 2
    changes = {"prompts": texts, "methods": ["plain", "perp_neg"], "seeds": f"0-{count - 1}", "batch": per_group}
    plan = load_plan(None, {**changes, "output": str(out), "device": "cpu"})
    found = list(units(plan, machine_of("cpu")))
    store = Store(out, "painter")
    store.save_plan(plan)
    rng = np.random.default_rng(0)
    lines = []
    for unit in found:
        for seed in unit.seeds:
            noise = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((64, 64))
            data = png(noise, {"key": unit.key(seed), "more": "x" * 2000})
            file = out / unit.file(seed)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
            line = {"key": unit.key(seed), "file": unit.file(seed), "sha256": hashlib.sha256(data).hexdigest()}
            lines.append({**line, **labels(unit, seed), "passes": 75.0, "seconds": 0.5, "versions": {}, "time": "1"})
    store.record(lines)
    store.merge(found)
    return plan, found


def resume(out: Path, pictures: int) -> bool:
    plan, _ = painted(out, pictures, 10, max(1, pictures // 20))
    with clock() as checking:
        missing = Store(out).missing(list(units(plan, machine_of("cpu"))))
    assert not missing
    print(f"{pictures} pictures checked for resume: {checking.wall:.1f} s (processor {checking.cpu:.1f} s)", flush=True)
    return checking.cpu < 10


def measuring(out: Path, pictures: int) -> bool:
    painted(out, pictures, 10, max(1, pictures // 20))
    with clock() as spent:
        measures = measure(out)
    assert measures.pictures == pictures and not measures.skipped
    print(
        f"{pictures} pictures measured by {measures.judge}: {spent.wall:.1f} s (processor {spent.cpu:.1f} s)",
        flush=True,
    )
    return spent.cpu < 60


def bookkeeping(out: Path, count: int) -> None:
    """Plan, claim, record, resume and gather so many units of one picture; a picture is a file of a few bytes."""

    def tell(what: str, spent: Clock) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{what}: {spent.wall:.1f} s, {spent.cpu:.1f} s of the processor, {1000 * spent.wall / len(found):.3f} ms a unit, "
            f"at most {peak:.0f} MiB until here",
            flush=True,
        )

    with clock() as spent:
        texts = [f"a pet number {place} --no cat" for place in range(max(1, count // 20))]
        changes = {"prompts": texts, "methods": ["plain", "perp_neg"], "seeds": "0-9", "batch": 1, "device": "cpu"}
        plan = load_plan(None, {**changes, "output": str(out)})
        found = list(units(plan, machine_of("cpu")))
    tell(f"{len(found)} units planned", spent)
    store = Store(out, "simulated")
    store.save_plan(plan)
    with Claims(out) as claims, clock() as spent:
        for unit in found:
            assert claims.take(unit.id) == "mine"
            claims.finish(unit.id)
    tell("claimed and finished", spent)
    with clock() as spent, Claims(out):
        pass
    tell("another worker joins", spent)
    claims.clear()
    data = b"no picture"
    about = {"sha256": hashlib.sha256(data).hexdigest(), "passes": 75.0, "seconds": 0.5, "versions": {}, "time": "1"}
    lines = []
    for unit in found:
        file = unit.file(unit.seeds[0])
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).write_bytes(data)
        lines.append({"key": unit.key(unit.seeds[0]), "file": file, **about, **labels(unit, unit.seeds[0])})
    store.record(lines)
    del lines
    with clock() as spent:
        store = Store(out)
    tell("records read", spent)
    with clock() as spent:
        assert not store.missing(found)
    tell("files checked", spent)
    with clock() as spent:
        store.merge(found)
    tell("table written", spent)
    del store
    with clock() as spent:
        assert look_into(out).planned == len(found)
    tell("gathered to be measured", spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=64)
    parser.add_argument("--checked", type=int, default=10_000)
    parser.add_argument("--measured", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("out/batch-cost"))
    parser.add_argument("--units", type=int, help="only simulate the bookkeeping of so many units")
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    quiet_libraries()
    if options.units:
        bookkeeping(options.out / "simulated", options.units)
        return
    held = [
        resume(options.out / "checked", options.checked),
        measuring(options.out / "measured", options.measured),
        overhead(options.out / "run", options.pictures),
    ]
    sys.exit(0 if all(held) else 1)


if __name__ == "__main__":
    main()
