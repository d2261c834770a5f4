"""`accelerate launch`, really run with two processes on the CPU: they know each other, share the work, make the same files."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from batch_parts import PICTURES, PLAN, plan_of
from standin import standin_folder

from negguide.batch.engine import run
from negguide.batch.store import Store, read_table


def _pictures(out: Path) -> dict[str, bytes]:
    return {file.relative_to(out).as_posix(): file.read_bytes() for file in (out / "pictures").rglob("*.png")}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_two_launched_processes_make_the_files_of_one(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({**PLAN, "model": standin_folder(), "device": "cpu", "output": str(tmp_path / "two")}))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    command += ["--main_process_port", str(_free_port()), "-m", "negguide.cli", "generate", str(plan), "--no-report"]
    # Another number of threads than the tests have: a batch must not depend on it.
    launched = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True)
    assert launched.returncode == 0, launched.stderr[-3000:]
    assert launched.stdout.count(f"{PICTURES} of {PICTURES} pictures are in") == 1, "only the main process tells"
    run(plan_of(tmp_path / "one", device="cpu"))
    assert _pictures(tmp_path / "two") == _pictures(tmp_path / "one")
    assert len(read_table(tmp_path / "two")) == PICTURES
    records = Store(tmp_path / "two").records.values()
    assert {record["rank"] for record in records} <= {0, 1}
    lines = [line for file in (tmp_path / "two" / "records").iterdir() for line in file.read_text().splitlines()]
    assert len(lines) == PICTURES, "none was made twice"
    assert not (tmp_path / "two" / "claims").exists()
