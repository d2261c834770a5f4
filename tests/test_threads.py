"""The commands' threads sleep while they wait; what the user has set stays, and the library sets nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from negguide.commands import threads

NAMES = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")


def test_threads_sleep_unless_the_user_says_how_they_wait() -> None:
    nothing: dict[str, str] = {}
    threads.settle(nothing)
    assert nothing["GOMP_SPINCOUNT"] == "1000" and nothing["KMP_BLOCKTIME"] == "1"
    own = {"GOMP_SPINCOUNT": "7", "OMP_NUM_THREADS": "5"}
    threads.settle(own)
    assert own["GOMP_SPINCOUNT"] == "7" and own["OMP_NUM_THREADS"] == "5"
    active = {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "1"}
    threads.settle(active)
    assert active == {"OMP_WAIT_POLICY": "ACTIVE", "OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("quota", "most"), [("150000 100000", 2), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_no_more_threads_than_the_container_allows(
    quota: str, most: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    file = tmp_path / "cpu.max"
    file.write_text(quota)
    assert threads.processors(file) == (8 if most is None else most)
    monkeypatch.setattr(threads, "processors", lambda: 8 if most is None else most)
    environment: dict[str, str] = {}
    threads.settle(environment)
    assert environment.get("OMP_NUM_THREADS") == (None if most is None else str(most))


def test_it_is_settled_before_torch_and_only_by_the_command() -> None:
    code = (
        "import os, sys\n"
        "import negguide as ng; ng.PerpNeg('cat')\n"
        f"print([name for name in {NAMES} if name in os.environ])\n"
        "from negguide.commands import threads\n"
        "before = threads.settle\n"
        "import negguide.cli as cli\n"
        "cli.settle = lambda: (print('torch' in sys.modules), before())\n"
        "cli.main(['--version'])\n"
        "print(os.environ['GOMP_SPINCOUNT'])\n"
    )
    environment = {name: value for name, value in os.environ.items() if name not in NAMES}
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    lines = printed.stdout.split("\n")
    assert lines[0] == "[]" and lines[1] == "False" and lines[3] == "1000"
