"""How the commands' threads wait for each other: settled before torch is imported, and never over what the user has set."""

from __future__ import annotations

import math
import os
from collections.abc import MutableMapping
from pathlib import Path

WAITING = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "1"}
"""How long threads of GNU's and of LLVM's OpenMP spin before they sleep: turns, milliseconds.

By default they spin for as long as another process has the processor that the last of them waits for: beside one busy process
a small model on two cores is then several times slower (`python benchmarks/busy.py`).
"""
_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let threads sleep while they wait, and have no more of them than the processors that this process may use."""
    if "OMP_WAIT_POLICY" not in environment:
        for name, value in WAITING.items():
            environment.setdefault(name, value)
    count = processors()
    if count < (os.cpu_count() or 1):
        environment.setdefault("OMP_NUM_THREADS", str(count))


def processors(quota: Path = _QUOTA) -> int:
    """Processors that this process may use: those it is bound to, and no more than its container's share of them."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        share, period = quota.read_text().split()
        count = min(count, max(1, math.ceil(int(share) / int(period))))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        pass
    return count
