"""Ends that come from outside, places that are no folders, and exports that others can read."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest
from batch_parts import model, plan_of, run_plan
from standin import standin_folder

from negguide.batch import engine
from negguide.batch.export import export
from negguide.batch.store import read_table
from negguide.cli import main

FORK = multiprocessing.get_context("fork")


def _line(out: Path, *more: str) -> list[str]:
    prompts = out.parent / "prompts.txt"
    prompts.write_text("a pet on grass --no cat\na face --no hat\n")
    plan = [
        "--model",
        standin_folder(),
        "--methods",
        "plain,perp_neg",
        "--seeds",
        "0-5",
        "--steps",
        "2",
        "--batch",
        "1",
    ]
    return ["generate", "--prompts", str(prompts), *plan, "--device", "cpu", "--out", str(out), *more]


@pytest.mark.parametrize("more", [(), ("--engine", "ray", "--workers", "2")], ids=["here", "on Ray"])
def test_sigterm_finishes_the_unit_writes_the_table_and_says_so(tmp_path: Path, more: tuple[str, ...]) -> None:
    if more:
        pytest.importorskip("ray")
    out = tmp_path / "out"

    context = multiprocessing.get_context("spawn" if more else "fork")  # Ray and forks do not go together
    worker = context.Process(target=_work, args=(out, tmp_path / "said", more))
    worker.start()
    while not list(out.rglob("*.png")) and worker.is_alive():
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(60)
    said = (tmp_path / "said").read_text()
    assert worker.exitcode == 143 and "ended by SIGTERM; the same line goes on" in said
    made = len(list((out / "pictures").rglob("*.png")))
    assert 0 < made < 24 and len(read_table(out)) == made, "the table knows what is there"
    assert not (out / "report.html").exists() and not list(out.rglob(".*.tmp"))
    assert main(_line(out, "--no-report")) == 0
    assert len(read_table(out)) == 24


def _work(out: Path, said: Path, more: tuple[str, ...]) -> None:
    sys.stderr = said.open("w", buffering=1)
    os.environ.update({"RAY_worker_niceness": "0"})
    sys.exit(main(_line(out, *more)))


def test_a_second_sigterm_ends_at_once(tmp_path: Path) -> None:
    def work() -> None:
        def hang(*rest: Any) -> Any:
            (tmp_path / "ready").touch()
            time.sleep(60)

        engine.make_unit = hang  # type: ignore[assignment]
        main(_line(tmp_path / "out"))

    worker = FORK.Process(target=work)
    worker.start()
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGTERM)
    time.sleep(0.2)
    assert worker.is_alive()
    os.kill(worker.pid, signal.SIGTERM)
    worker.join(10)
    assert worker.exitcode == -signal.SIGTERM


def test_a_run_that_is_told_to_stop_makes_no_more(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 2

    outcome = engine.run(plan_of(tmp_path), load=lambda plan, device: model(), stop=stop)
    assert outcome.stopped and outcome.made == 3 and len(read_table(tmp_path)) == 3, "two units, of 2 pictures and of 1"


@pytest.mark.parametrize("address", ["s3://bucket/x", "memory://x", "s3:/bucket/x"])
def test_addresses_are_refused_where_a_folder_is_needed(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [["compare", "a pet", "-n", "cat", "--out", address]]
    if "://" not in address:  # a batch may have a real address: see test_batch_addresses
        lines += [["generate", "--preset", "easy-hard", "--out", address], ["measure", address]]
    for line in lines:
        assert main(line) == 2
        told = capsys.readouterr().err
        assert "is an address and no folder" in told and "mount it" in told, line
    assert list(tmp_path.iterdir()) == [], "no folder named s3: is made"


def test_a_folder_with_a_colon_in_its_name_is_a_folder(tmp_path: Path) -> None:
    assert plan_of(tmp_path / "12:30").output.endswith("12:30")
    assert plan_of(Path("run:1")).output == "run:1"


def test_every_picture_of_the_tar_has_the_same_schema(tmp_path: Path) -> None:
    """As `datasets` reads a WebDataset: one type for each field, over all pictures and methods."""
    prompts = [{"prompt": "a pet", "negatives": ["cat"], "tag": "easy"}, "a face --no hat@0-0.5"]
    run_plan(tmp_path, prompts=prompts, methods=["plain", "perp_neg:weight=2", "perp_neg+apg"], seeds="0-1")
    import pyarrow.json

    with tarfile.open(export(tmp_path, "webdataset")) as tar:
        texts = [tar.extractfile(name).read() for name in tar.getnames() if name.endswith(".json")]  # type: ignore[union-attr]
    schemas = {str(pyarrow.json.read_json(io.BytesIO(text)).schema).replace("null", "string") for text in texts}
    assert len(texts) == 12 and len(schemas) == 1
    rows = [json.loads(text) for text in texts]
    assert all(isinstance(row["methods"], str) and isinstance(row["metadata"], str) for row in rows)
    assert json.loads(rows[0]["metadata"]) == {"tag": "easy"}
    assert {len(json.loads(row["methods"])) for row in rows} == {0, 1, 2}
