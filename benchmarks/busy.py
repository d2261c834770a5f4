"""How much longer the main command takes beside another process that never rests.

    python benchmarks/busy.py [--rounds 3]

Times `negguide compare "a pet" --negative cat` alone and beside one process that computes without end, in turns, and prints the
medians and their ratio. The exit code is 0 when the ratio is at most 2. Let nothing else run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time

COMMAND = [sys.executable, "-m", "negguide", "compare", "a pet", "--negative", "cat"]


def seconds() -> float:
    """Wall time of one comparison."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.monotonic()
        subprocess.run([*COMMAND, "--out", folder], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return time.monotonic() - started


def seconds_beside() -> float:
    """The same beside a process that never rests."""
    rival = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        return seconds()
    finally:
        rival.kill()
        rival.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    seconds()  # warms the disk's cache
    pairs = [(seconds(), seconds_beside()) for _ in range(rounds)]
    alone, beside = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(busy / calm for calm, busy in pairs)
    print(
        f"{os.cpu_count()} processors, {rounds} rounds: alone {alone:.1f} s, beside a busy process {beside:.1f} s, "
        f"{ratio:.2f} times as long"
    )
    return int(ratio > 2)


if __name__ == "__main__":
    sys.exit(main())
