"""Batches at addresses: the pictures of a folder, in shards, whatever is killed, fails or is damaged."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_parts import PICTURES, load, model, plan_of, run_plan
from standin import standin_folder

import negguide as ng
from negguide.batch.addresses import CACHE, Address
from negguide.batch.engine import Outcome
from negguide.batch.plan import ModelPlan, Plan
from negguide.batch.read import load_plan
from negguide.batch.sharded import run as sharded
from negguide.batch.sharded.layout import Layout
from negguide.batch.sharded.leases import Leases
from negguide.batch.sharded.mirror import mirror
from negguide.batch.sharded.run import run_sharded
from negguide.batch.sharded.store import Shards
from negguide.batch.units import Machine, units
from negguide.cli import main
from negguide.experiment.models import Model

FORK = multiprocessing.get_context("fork")
MACHINE = Machine("cpu", "float32")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The pictures of the same plan in a folder."""
    out = tmp_path_factory.mktemp("alone")
    assert run_plan(out).missing == 0
    return _pictures(out)


def _pictures(root: Path) -> dict[str, bytes]:
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in (root / "pictures").rglob("*.png")}


def _plan(url: str, **changes: Any) -> Plan:
    return plan_of(Path("x"), **{"output": url, "shard": 4, **changes})


def _run(url: str, **changes: Any) -> Outcome:
    return run_sharded(_plan(url, **changes), load=load)


def _tars(url: str) -> dict[str, bytes]:
    address = Address(url)
    return {name: address.read(f"pictures/{name}") for name in address.names("pictures")}


def _fails(model: ModelPlan, device: str) -> Model:
    raise AssertionError("nothing is to be made, so no model is needed")


@pytest.fixture
def at(tmp_path: Path) -> str:
    return (tmp_path / "bucket").as_uri()


def test_shards_hold_the_units_of_the_plan_in_its_order() -> None:
    plan = _plan("memory://never", seeds="0-4", shard=3)
    layout = Layout(plan, MACHINE)
    found = [unit for shard in layout.shards for unit in layout.units(shard)]
    assert [unit.id for unit in found] == [unit.id for unit in units(plan, MACHINE)]
    assert [shard.pictures for shard in layout.shards] == [
        sum(len(unit.seeds) for unit in layout.units(shard)) for shard in layout.shards
    ]
    assert layout.pictures == 2 * 3 * 5 and len({shard.name for shard in layout.shards}) == len(layout.shards)


def test_a_name_says_all_that_determines_the_pictures() -> None:
    def names(**changes: Any) -> list[str]:
        return [shard.name for shard in Layout(_plan("memory://never", **changes), MACHINE).shards]

    prompts = ["a pet on grass --no cat", "a face --no hat", "a fruit --no apple"]
    before = names(prompts=prompts, shard=6)
    assert len(before) == 6 and names(prompts=prompts, shard=6, title="x", lease=3) == before
    more = names(prompts=[*prompts, "a tree --no leaf"], shard=6)
    assert more[:6] == before, "prompts at the end change nothing"
    other = names(prompts=[prompts[0], "another face --no hat", prompts[2]], shard=6)
    assert [a == b for a, b in zip(before, other, strict=True)] == [True, True, False, False, True, True]
    for changes in ({"steps": 3}, {"seeds": "1-3"}, {"guidance": 2}, {"threads": 2}, {"methods": ["plain", "apg"]}):
        assert not set(names(prompts=prompts, shard=6, **changes)) & set(before), changes


def test_the_same_pictures_as_in_a_folder(alone: dict[str, bytes]) -> None:
    outcome = _run("memory://same/batch")
    assert (outcome.pictures, outcome.there, outcome.made, outcome.missing) == (PICTURES, 0, PICTURES, 0)
    root = mirror("memory://same/batch")
    assert _pictures(root) == alone
    shards = Shards("memory://same/batch")
    rows = [row for name in sorted(shards.names("done")) for row in shards.records(name)]
    assert [row["seed"] for row in rows[:3]] == [0, 1, 2] and rows[0]["negatives"] == ["cat"]
    assert rows[3]["methods"][0]["method"] == "perp_neg"
    assert load_plan("memory://same/batch").prompts == _plan("memory://x").prompts


def test_what_is_done_costs_a_listing(alone: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    _run("memory://again")
    read: list[str] = []
    before = Address.read

    def counted(self: Address, name: str) -> bytes:
        read.append(name)
        return before(self, name)

    monkeypatch.setattr(Address, "read", counted)
    outcome = run_sharded(_plan("memory://again"), load=_fails)
    assert (outcome.there, outcome.made, outcome.missing, read) == (PICTURES, 0, 0, [])


def test_killed_and_resumed_gives_the_same_bytes(at: str, alone: dict[str, bytes]) -> None:
    model()  # before the fork

    def doomed() -> None:
        original, calls = sharded.make_unit, []

        def make(*rest: Any) -> Any:
            calls.append(1)
            if len(calls) == 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*rest)

        before = sharded.ShardWorker.__init__

        def patched(self: Any, *rest: Any, **named: Any) -> None:
            before(self, *rest, **{**named, "make": make})

        sharded.ShardWorker.__init__ = patched  # type: ignore[method-assign]  # in the forked process only
        _run(at)

    worker = FORK.Process(target=doomed)
    worker.start()
    worker.join()
    assert worker.exitcode == -signal.SIGKILL
    assert 0 < len(Shards(at).names("done")) < 5
    leases = Leases(Address(at), "other", beats=False)
    assert len(leases.held()) == 1, "of the killed one"
    Address(at).remove(f"work/{leases.held().pop()}")  # instead of a minute's waiting
    outcome = _run(at)
    assert outcome.missing == 0 and outcome.made < PICTURES - outcome.there, "what waited on this machine is used"
    assert _pictures(mirror(at)) == alone
    _run("memory://undisturbed")
    assert _tars(at) == _tars("memory://undisturbed")
    assert Address(at).names("work") == []


def test_workers_share_the_shards(at: str, alone: dict[str, bytes]) -> None:
    model()
    workers = [FORK.Process(target=_run, args=(at,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    assert _pictures(mirror(at)) == alone
    made = [row["worker"] for name in Shards(at).names("done") for row in Shards(at).records(name)]
    assert len(made) == PICTURES and len(set(made)) == 2


def test_what_failed_is_told_and_made_later(monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes]) -> None:
    def combine(self: Any, guidance: Any, state: Any) -> None:
        raise RuntimeError("out of patience")

    with monkeypatch.context() as patch:
        patch.setattr(ng.PerpNeg, "combine", combine)
        outcome = _run("memory://failing")
    assert outcome.missing == 12 and len(outcome.errors) == 8 and outcome.made == 6
    assert outcome.errors[0].endswith("RuntimeError: out of patience")
    shards = Shards("memory://failing")
    assert shards.names("failed") and sum(shards.marker(n, "failed")["pictures"] for n in shards.names("failed")) <= 6
    outcome = _run("memory://failing")
    assert (outcome.there, outcome.made, outcome.missing, shards.names("failed")) == (6, 12, 0, set())
    assert _pictures(mirror("memory://failing")) == alone


def test_who_is_asked_to_stop_publishes_what_is_made(alone: dict[str, bytes]) -> None:
    plan = _plan("memory://stopped", shard=100)
    done: list[float] = []
    stopped = run_sharded(plan, lambda what, more: done.append(more), load, stop=lambda: sum(done) >= 5)
    assert stopped.stopped and 0 < stopped.made < PICTURES == stopped.missing + stopped.made
    assert len(Shards(plan.output).names("begun")) == 1 and len(_pictures(mirror(plan.output))) == stopped.made
    outcome = _run(plan.output, shard=100)
    assert (outcome.there, outcome.missing, Shards(plan.output).names("begun")) == (stopped.made, 0, set())
    assert outcome.made == PICTURES - stopped.made, "what was published is not made again"
    assert _pictures(mirror(plan.output)) == alone


def test_damage_is_found_when_asked_for(alone: dict[str, bytes]) -> None:
    _run("memory://damaged")
    whole = _tars("memory://damaged")
    name = sorted(whole)[2]
    Address("memory://damaged").write(f"pictures/{name}", whole[name][:-2000] + bytes(2000)[::-1] + b"!")
    assert run_sharded(_plan("memory://damaged"), load=_fails).made == 0
    outcome = run_sharded(_plan("memory://damaged"), load=load, verify=True)
    assert 0 < outcome.made <= 4 and outcome.missing == 0
    assert any("1 of them are not as they were published" in note for note in outcome.notes)
    assert _tars("memory://damaged") == whole


def test_of_a_silent_worker_the_shard_is_taken_after_a_minute() -> None:
    now = [0.0]
    one, two = (Leases(Address("memory://leases"), name, beats=False, clock=lambda: now[0]) for name in ("1", "2"))
    one.take("a")
    for now[0] in (0.0, 30.0, 59.0):
        assert two.held() == {"a"}
    one.take("a")  # a sign of life
    for now[0] in (70.0, 129.0):
        assert two.held() == {"a"}
    now[0] = 130.0
    assert two.held() == set()
    two.take("a")
    one.leave()
    assert two.held() == set()


def test_an_address_that_takes_nothing_ends_the_run(monkeypatch: pytest.MonkeyPatch, alone: dict[str, bytes]) -> None:
    monkeypatch.setattr(sharded, "PAUSE", 0.0)
    with monkeypatch.context() as patch:

        def refuse(self: Address, file: Path, name: str) -> None:
            raise PermissionError("no rights")

        patch.setattr(Address, "put", refuse)
        outcome = _run("memory://refusing")
    assert len(outcome.errors) == 1 and "no rights" in outcome.errors[0] and outcome.missing == PICTURES
    assert outcome.made <= 4, "no further shard is begun"
    again = _run("memory://refusing")
    assert again.missing == 0 and again.made == PICTURES - outcome.made, "what was made waited here"
    assert _pictures(mirror("memory://refusing")) == alone


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    pytest.importorskip("s3fs")
    server_of = pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = server_of.ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        import s3fs

        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket/batch"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def test_from_the_command_line_to_a_bucket(
    bucket: str,
    tmp_path: Path,
    alone: dict[str, bytes],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sharded, "load_here", load)  # the very pipeline that made the others
    plan = tmp_path / "plan.json"
    plan.write_text(_plan(bucket, device="cpu").model_dump_json())
    assert main(["generate", str(plan), "--no-report"]) == 0
    assert f"{PICTURES} of {PICTURES} pictures are in {bucket}" in capsys.readouterr().out
    assert main(["generate", bucket, "--dry-run"]) == 0
    assert "to be made        0" in capsys.readouterr().out
    assert main(["generate", bucket]) == 0, "an address is a plan; now it is measured, too"
    told = capsys.readouterr().out
    assert "0 made here" in told and f"{bucket}/report.html" in told
    address = Address(bucket)
    assert json.loads(address.read("measures.json"))["pictures"] == PICTURES
    assert b"perp_neg" in address.read("report.html")
    assert _pictures(mirror(bucket)) == alone
    (tmp_path / "one.tar").write_bytes(address.read(f"pictures/{address.names('pictures')[0]}"))
    with tarfile.open(tmp_path / "one.tar") as tar:
        assert {Path(name).suffix for name in tar.getnames()} == {".png", ".txt", ".json"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--out", "nothing://x"), "'nothing://x' cannot be written to"),
        (("--out", "memory://x", "--only", "3f"), "--only goes with a folder"),
        (("--verify",), "--verify goes with an address"),
    ],
)
def test_what_does_not_go_together_is_told(
    more: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--preset", "easy-hard", "--model", standin_folder(), *more]) == 2
    assert message in capsys.readouterr().err


def test_measure_of_an_address_without_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["measure", "memory://empty"]) == 2
    assert "there is no batch at 'memory://empty'" in capsys.readouterr().err
