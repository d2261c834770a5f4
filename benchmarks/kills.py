"""Kill a batch at random moments, resume it each time, and compare every byte with an undisturbed run.

python benchmarks/kills.py [--pictures 200] [--kills 20] [--steps 2] [--out FOLDER]

Leave negguide and its models as they are while it runs: other code makes other keys.

It also runs the plan in two processes at once. The exit code is 0 when every comparison holds.
"""

from __future__ import annotations

import argparse
import io
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
LATE = 0.8
"""What is made when the last kills come."""
EVERY = 5
"""One kill in so many comes while a process starts, before it makes anything."""


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
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def pictures_of(out: Path) -> dict[str, bytes]:
    return {str(file.relative_to(out)): file.read_bytes() for file in (out / "pictures").rglob("*") if file.is_file()}


def torn(out: Path) -> list[str]:
    """Pictures with a name that cannot be read to the end."""
    from PIL import Image

    found = []
    for name, data in pictures_of(out).items():
        if name.endswith(".tmp"):
            continue  # without its name it is no picture yet
        try:
            Image.open(io.BytesIO(data)).load()
        except (OSError, SyntaxError):
            found.append(name)
    return found


def finish(run: subprocess.Popen[bytes]) -> str:
    text = run.communicate()[0].decode()
    assert run.returncode == 0, f"exit code {run.returncode}"
    return text.strip().splitlines()[0]


def made(out: Path) -> int:
    return len(list(out.rglob("*.png")))


def wait_for_work(run: subprocess.Popen[bytes], out: Path) -> float:
    """Seconds until the process has made its first picture."""
    before, begun = made(out), time.monotonic()
    while run.poll() is None and made(out) <= before:
        time.sleep(0.01)
    return time.monotonic() - begun


def kill(run: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a process in so many seconds; False if it came to its end before."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        run.send_signal(signal.SIGKILL)
        run.wait()
        return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--late", type=int, default=3, help="so many of the kills wait until 80 %% are made")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out/kills"))
    options = parser.parse_args()
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    plan = options.out / "plan.json"
    write_plan(plan, options.pictures, options.steps)

    run = start(plan, options.out / "whole")
    starting = wait_for_work(run, options.out / "whole")
    begun = time.monotonic()
    print("undisturbed:", finish(run), flush=True)
    pace = (time.monotonic() - begun) / options.pictures
    whole = pictures_of(options.out / "whole")

    rng = random.Random(options.seed)
    out = options.out / "killed"
    damaged: list[str] = []
    killed = early = late = 0
    while killed < options.kills:
        left = options.pictures - made(out)
        run = start(plan, out)
        if killed % EVERY == EVERY - 1:
            was_killed = kill(run, rng.uniform(0, starting))
            early += was_killed
        elif options.kills - killed <= options.late:
            while run.poll() is None and made(out) < LATE * options.pictures:
                time.sleep(0.01)
            was_killed = kill(run, rng.uniform(0, 2 * pace))
        else:
            wait_for_work(run, out)
            was_killed = kill(run, rng.uniform(0, 1.5 * LATE * left * pace / (options.kills - killed + 1)))
        if made(out) >= LATE * options.pictures:
            late += was_killed
        killed += was_killed
        damaged += torn(out)
        print(f"kill {killed}: {made(out)} pictures", flush=True)
        if not was_killed:
            finish(run)  # an error ends the benchmark
            break  # everything is there
    print("resumed:", finish(start(plan, out)))
    after_kills = pictures_of(out) == whole
    print(
        f"{killed} kills ({early} while starting, {late} with {LATE:.0%} done), torn pictures: {len(damaged)}, "
        f"the same bytes: {after_kills}",
        flush=True,
    )

    pair = [start(plan, options.out / "two") for _ in range(2)]
    print("two processes:", *(finish(run) for run in pair), sep="\n  ")
    together = pictures_of(options.out / "two") == whole
    print(f"two processes, the same bytes: {together}")
    sys.exit(0 if after_kills and together and not damaged and killed == options.kills else 1)


if __name__ == "__main__":
    main()
