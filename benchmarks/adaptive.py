"""What negatives that watch cost on the Toybox with its trained watcher, as a ratio to the plain pipeline in the same run.

    python benchmarks/adaptive.py                     # batch 4, 25 steps, default looks
    python benchmarks/adaptive.py --rounds 5 --out adaptive.json

Rounds and ratios as in `cost.py`. The guard watches for things that the prompt never brings about, and counts only sightings
it is sure of (at half-formed pictures there are false ones), so that what it costs is the looking. It also tells the parts
of one look: the preview, the watcher. It prints a Markdown table, writes JSON, and exits with 1 if a bar is missed (0 with
`--no-bars`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import diffusers
import torch
from cost import Arm, missed_bars, usual_call

import negguide as ng
from negguide import formats
from negguide.experiment.models import load_model

ARMS: dict[str, tuple[ng.Method, ...] | None] = {
    "plain": None,
    "creative": (ng.AdaptiveNegatives("toybox"),),
    "creative, asynchronous": (ng.AdaptiveNegatives("toybox", asynchronous=True),),
    "guard, nothing seen": (ng.AdaptiveNegatives("toybox", "guard", watch=["castle"], min_confidence=0.9),),
    "guard of 3 things, nothing seen": (
        ng.AdaptiveNegatives("toybox", "guard", watch=["castle", "bus", "apple"], min_confidence=0.9),
    ),
    "creative with CLIP": (ng.AdaptiveNegatives("clip:toybox"),),
}
"""Label -> methods; None is the pipeline without negguide."""

TIME_BARS = {"creative": 1.15, "guard, nothing seen": 1.05}
PASS_BARS = {"creative": 1.0, "guard, nothing seen": 1.0}


class Parts:
    """Times the previews and the watcher's answers within the runs of an arm."""

    def __init__(self) -> None:
        self.looks, self.seconds = 0, 0.0

    def read(self, arm: Arm) -> None:
        """Add what the trace of the last call tells."""
        for record in arm.attached.trace if arm.attached else ():
            for note in record.notes:
                if "error" in note:
                    raise RuntimeError(f"a look was lost ({note['error']}): its time is that of no look")
                self.looks += 1
                self.seconds += note.get("seconds", 0.0)


def measure(batch: int, steps: int, rounds: int, prompt: str) -> dict[str, Any]:
    """Times and passes of every arm, as JSON."""
    diffusers.utils.logging.set_verbosity_error()
    loaded = load_model("toybox", device="cpu")
    call = usual_call(loaded.pipe, batch, steps, prompt)
    arms = {label: Arm(loaded.pipe, methods, call) for label, methods in ARMS.items()}
    parts = {label: Parts() for label in arms}
    order = list(arms)
    started = time.perf_counter()
    for turn in range(rounds):
        for label in order[turn % len(order) :] + order[: turn % len(order)]:
            arms[label].time()
            parts[label].read(arms[label])
    plain = arms["plain"]
    rows = {}
    for label, arm in arms.items():
        ratios = [own / base for own, base in zip(arm.times, plain.times, strict=True)]
        cpu = [own / base for own, base in zip(arm.cpu, plain.cpu, strict=True)]
        passes = 2.0 * steps if arm.attached is None else float(arm.attached.passes)
        rows[label] = {
            "passes": passes,
            "pass_ratio": passes / (2.0 * steps),
            "seconds": statistics.median(arm.times),
            "time_ratio": statistics.median(ratios),
            "time_ratio_range": [min(ratios), max(ratios)],
            "cpu_ratio": statistics.median(cpu),
            "looks": parts[label].looks / rounds,
            "watcher_seconds": parts[label].seconds / rounds,
        }
    return {
        "model": "toybox",
        "threads": torch.get_num_threads(),
        "batch": batch,
        "steps": steps,
        "rounds": rounds,
        "prompt": prompt,
        "wall_seconds": time.perf_counter() - started,
        "rows": rows,
    }


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"Toybox, batch {found['batch']}, {found['steps']} steps, {found['threads']} thread(s), median of "
        f"{found['rounds']} rounds",
        "",
        "| arm | passes / plain | looks | watcher's seconds | seconds per call | time / plain | CPU time / plain |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {label} | {row['pass_ratio']:.2f} | {row['looks']:g} | {row['watcher_seconds']:.3f} | {row['seconds']:.3f} "
        f"| {row['time_ratio']:.3f} | {row['cpu_ratio']:.3f} |"
        for label, row in found["rows"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompt", default="a pet on grass")
    parser.add_argument("--out", type=Path, default=Path("out/adaptive.json"))
    parser.add_argument("--no-bars", action="store_true")
    given = parser.parse_args()
    found = measure(given.batch, given.steps, given.rounds, given.prompt)
    missed = missed_bars(found["rows"], TIME_BARS, PASS_BARS)
    found["missed_bars"] = missed
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(formats.stamped(found), indent=2) + "\n")
    print(markdown(found))
    for line in missed:
        print(f"bar missed: {line}", file=sys.stderr)
    return 1 if missed and not given.no_bars else 0


if __name__ == "__main__":
    sys.exit(main())
