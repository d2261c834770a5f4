"""What each method costs, as a ratio to the plain pipeline in the same run.

    python benchmarks/cost.py                         # the Toybox, batch 4, 25 steps
    python benchmarks/cost.py --model ./my-model --rounds 5 --out cost.json

Every arm has a pipeline of its own that shares the model; rounds are interleaved (each round times every arm once, in
an order that rotates), a round's times are divided by the plain ones of the same round, and the median is told. On a busy
machine the processor time is steadier than the wall time. It prints a Markdown table, writes JSON, and exits with 1 if
a bar is missed (0 with `--no-bars`).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import diffusers
import torch

import negguide as ng
from negguide import formats
from negguide.experiment.models import load_model

NEGATIVE = "cat"
WINDOWED = ng.Negative(NEGATIVE, window=ng.Window(0, 0.4))

ARMS: dict[str, tuple[ng.Method, ...] | None] = {
    "plain": None,
    "attached, neutral": (ng.PerpNeg((NEGATIVE, 0.0)),),
    "negative": (ng.NegativePrompt(NEGATIVE),),
    "signed": (ng.NegativePrompt(NEGATIVE, mode="signed"),),
    "perp_neg": (ng.PerpNeg(NEGATIVE),),
    "perp_neg, 2 negatives": (ng.PerpNeg([NEGATIVE, "hat"]),),
    "perp_neg, first 40 %": (ng.PerpNeg(WINDOWED),),
    "ccfg": (ng.ContrastiveNegative(NEGATIVE),),
    "dng": (ng.DynamicNegative(NEGATIVE),),
    "perp_neg+apg": (ng.PerpNeg(NEGATIVE), ng.APG()),
    "cfg_zero_star": (ng.CFGZeroStar(),),
}
"""Label -> methods; None is the pipeline without negguide."""

TIME_BARS = {"perp_neg": 1.55, "perp_neg, first 40 %": 1.25, "attached, neutral": 1.02}
PASS_BARS = {"perp_neg": 1.5, "attached, neutral": 1.0}


class Arm:
    """One way to make the same pictures, ready to be timed."""

    def __init__(self, pipe: Any, methods: tuple[ng.Method, ...] | None, call: dict[str, Any]) -> None:
        self.pipe = pipe if methods is None else type(pipe).from_pipe(pipe)
        self.pipe.set_progress_bar_config(disable=True)
        self.call = call
        self.attached = None
        started = time.perf_counter()
        if methods is not None:
            self.attached = ng.attach(self.pipe, *methods)
        self.run()
        self.first = time.perf_counter() - started
        self.times: list[float] = []
        self.cpu: list[float] = []

    def time(self) -> None:
        """Note the wall and processor seconds of one call."""
        wall, cpu = time.perf_counter(), time.process_time()
        self.run()
        self.times.append(time.perf_counter() - wall)
        self.cpu.append(time.process_time() - cpu)

    def run(self) -> None:
        seeds = range(self.call["num_images_per_prompt"])
        generator = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        self.pipe(**self.call, generator=generator)


def usual_call(pipe: Any, batch: int, steps: int, prompt: str) -> dict[str, Any]:
    """What every arm is called with, after a short call for whatever is set up once."""
    call = {
        "prompt": prompt,
        "num_images_per_prompt": batch,
        "num_inference_steps": steps,
        "guidance_scale": 5.0,
        "output_type": "pil",
    }
    Arm(pipe, None, {**call, "num_inference_steps": min(3, steps)})
    return call


def measure(model: str, device: str, batch: int, steps: int, rounds: int, prompt: str) -> dict[str, Any]:
    """Times and passes of every arm, as JSON."""
    diffusers.utils.logging.set_verbosity_error()
    loaded = load_model(model, device=device)
    call = usual_call(loaded.pipe, batch, steps, prompt)
    arms = {label: Arm(loaded.pipe, methods, call) for label, methods in ARMS.items()}
    order = list(arms)
    for turn in range(rounds):
        turned = order[turn % len(order) :] + order[: turn % len(order)]
        for label in turned:
            arms[label].time()
    plain = arms["plain"]
    rows = {}
    for label, arm in arms.items():
        ratios = [own / base for own, base in zip(arm.times, plain.times, strict=True)]
        cpu = [own / base for own, base in zip(arm.cpu, plain.cpu, strict=True)]
        passes = 2.0 * steps if arm.attached is None else arm.attached.passes
        rows[label] = {
            "passes": passes,
            "pass_ratio": passes / (2.0 * steps),
            "seconds": statistics.median(arm.times),
            "time_ratio": statistics.median(ratios),
            "time_ratio_range": [min(ratios), max(ratios)],
            "cpu_ratio": statistics.median(cpu),
            "first_call_ratio": arm.first / statistics.median(plain.times),
        }
    return {
        "model": model,
        "device": loaded.device,
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "batch": batch,
        "steps": steps,
        "rounds": rounds,
        "prompt": prompt,
        "rows": rows,
    }


def missed_bars(
    rows: dict[str, dict[str, Any]], time_bars: dict[str, float] = TIME_BARS, pass_bars: dict[str, float] = PASS_BARS
) -> list[str]:
    """One line per bar that is missed."""
    missed = [
        f"{label}: {rows[label]['time_ratio']:.3f} times the plain time, the bar is {bar}"
        for label, bar in time_bars.items()
        if rows[label]["time_ratio"] > bar
    ]
    return missed + [
        f"{label}: {rows[label]['pass_ratio']} times the plain passes, must be {bar}"
        for label, bar in pass_bars.items()
        if rows[label]["pass_ratio"] != bar
    ]


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"{found['model']}, {found['device']}, batch {found['batch']}, {found['steps']} steps, "
        f"{found['threads']} thread(s), median of {found['rounds']} rounds",
        "",
        "| method | passes per picture | passes / plain | seconds per call | time / plain | CPU time / plain "
        "| first call / plain |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {label} | {row['passes']:g} | {row['pass_ratio']:.2f} | {row['seconds']:.3f} | {row['time_ratio']:.3f} "
        f"| {row['cpu_ratio']:.3f} | {row['first_call_ratio']:.2f} |"
        for label, row in found["rows"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="toybox")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--prompt", default="a pet on grass")
    parser.add_argument("--out", type=Path, default=Path("out/cost.json"))
    parser.add_argument("--no-bars", action="store_true")
    given = parser.parse_args()
    found = measure(given.model, given.device, given.batch, given.steps, given.rounds, given.prompt)
    missed = missed_bars(found["rows"])
    found["missed_bars"] = missed
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(formats.stamped(found), indent=2) + "\n")
    print(markdown(found))
    for line in missed:
        print(f"bar missed: {line}", file=sys.stderr)
    return 1 if missed and not given.no_bars else 0


if __name__ == "__main__":
    sys.exit(main())
