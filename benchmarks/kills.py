"""Kill a batch at random moments, resume it each time, and compare every byte with an undisturbed run.

python benchmarks/kills.py [--pictures 200] [--kills 20] [--steps 2] [--out FOLDER]

It also runs the plan in two processes at once, and prints what the batch layer costs beside the pipeline calls.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PROMPTS = ("a pet on grass --no cat", "a face --no hat", "a fruit at night --no apple", "a vehicle in a room --no car")


def write_plan(file: Path, pictures: int, steps: int) -> None:
    plan = {
        "model": "toybox",
        "prompts": list(PROMPTS),
        "methods": ["plain", "perp_neg"],
        "seeds": f"0-{pictures // (2 * len(PROMPTS)) - 1}",
        "batch": 4,
        "steps": steps,
    }
    file.write_text(json.dumps(plan))


def start(plan: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "negguide.cli", "generate", str(plan), "--out", str(out), "--no-report"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def pictures_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in (out / "pictures").rglob("*") if file.is_file()}


def finish(run: subprocess.Popen[bytes]) -> str:
    text = run.communicate()[0].decode()
    assert run.returncode == 0, f"exit code {run.returncode}"
    return text.strip().splitlines()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/kills"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    plan = options.out / "plan.json"
    write_plan(plan, options.pictures, options.steps)

    started = time.monotonic()
    print("undisturbed:", finish(start(plan, options.out / "whole")), flush=True)
    seconds = time.monotonic() - started
    whole = pictures_of(options.out / "whole")

    rng = random.Random(options.seed)
    killed = 0
    while killed < options.kills:
        run = start(plan, options.out / "killed")
        try:
            run.wait(rng.uniform(0.2, 1.0) * seconds * 0.6)
            break  # it came to its end before the kill
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.wait()
            killed += 1
            print(f"kill {killed}: {len(list((options.out / 'killed').rglob('*.png')))} pictures", flush=True)
    print("resumed:", finish(start(plan, options.out / "killed")))
    print(f"{killed} kills, the same bytes: {pictures_of(options.out / 'killed') == whole}", flush=True)

    pair = [start(plan, options.out / "two") for _ in range(2)]
    print("two processes:", *(finish(run) for run in pair), sep="\n  ")
    print(f"two processes, the same bytes: {pictures_of(options.out / 'two') == whole}")


if __name__ == "__main__":
    main()
