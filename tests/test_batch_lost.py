"""Watchers that fail in a batch: their pictures are plain ones, and never filed as an adaptive method's."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from batch_parts import run_plan
from typer.testing import CliRunner

from negguide.batch.store import Store, read_table
from negguide.cli import app
from negguide.methods import AdaptiveNegatives, Interval
from negguide.watchers import register_watcher

PLAN: dict[str, Any] = {"prompts": ["a pet on grass"], "seeds": "0-1", "steps": 6, "batch": 2}
ADAPTIVE = "adaptive:watcher=of_lost_tests:looks=2"


class _Watcher:
    """Answers "cat", but fails at the calls of these numbers (all: None)."""

    def __init__(self, error: BaseException, at: tuple[int, ...] | None = None) -> None:
        self.error, self.at, self.asked = error, at, 0

    def __call__(self, images: Any, questions: Any) -> Any:
        self.asked += 1
        if self.at is None or self.asked in self.at:
            raise self.error
        return [[["cat"] for _ in questions] for _ in images]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], list[str]]:
    """Hashes of the adaptive pictures when the watcher answers, and of plain ones."""
    register_watcher("of_lost_tests", _Watcher(RuntimeError(), ()))
    out = tmp_path_factory.mktemp("healthy")
    assert run_plan(out, methods=[ADAPTIVE, "plain"], **PLAN).missing == 0
    hashes = [row["sha256"] for row in read_table(out)]
    return hashes[:2], hashes[2:]


@pytest.mark.parametrize(
    ("error", "at", "looks"),
    [
        (OSError("no such weights"), None, 1),
        (RuntimeError("the server is gone"), (2,), 2),
        (ValueError(""), (1,), 1),
    ],
)
@pytest.mark.parametrize("asynchronous", ["false", "true"])
@pytest.mark.filterwarnings("ignore:adaptive")
def test_a_lost_look_makes_the_unit_fail_and_resume_remakes_it(
    tmp_path: Path,
    healthy: tuple[list[str], list[str]],
    error: BaseException,
    at: tuple[int, ...] | None,
    looks: int,
    asynchronous: str,
) -> None:
    methods = [f"{ADAPTIVE}:asynchronous={asynchronous}", "plain"]
    register_watcher("of_lost_tests", _Watcher(error, at))
    outcome = run_plan(tmp_path, methods=methods, **PLAN)
    assert (outcome.made, outcome.missing) == (2, 2)
    (told,) = outcome.errors
    assert f"Lost: adaptive lost 1 of its {looks} looks" in told
    assert type(error).__name__ in told
    assert [row["label"] for row in read_table(tmp_path)] == ["plain", "plain"], (
        "only what was made stands in the table"
    )
    assert len(list(tmp_path.rglob("*.png"))) == 2
    (failure,) = Store(tmp_path).failures.values()
    assert "lost" in failure["error"]
    register_watcher("of_lost_tests", _Watcher(error, ()))
    outcome = run_plan(tmp_path, methods=methods, **PLAN)
    assert (outcome.there, outcome.made, outcome.missing, outcome.errors) == (2, 2, 0, [])
    rows = read_table(tmp_path)
    assert [row["sha256"] for row in rows[2:]] == healthy[1]
    if asynchronous == "false":
        assert {row["sha256"] for row in rows[:2]}.isdisjoint(healthy[1]), "adaptive pictures are not plain ones"


@pytest.mark.filterwarnings("ignore:adaptive")
def test_a_watcher_without_answer_stops_the_unit_at_once(tmp_path: Path) -> None:
    gate, steps = threading.Event(), []

    def stuck(images: Any, questions: Any) -> Any:
        steps.append(1)
        gate.wait(60)
        return ["cat"]

    register_watcher("of_lost_tests", stuck)
    try:
        outcome = run_plan(tmp_path, methods=[f"{ADAPTIVE}:timeout=0.01"], **PLAN)
    finally:
        gate.set()
    assert outcome.missing == 2 and "within 0.01 s" in outcome.errors[0]
    assert "1 of its 1 looks" in outcome.errors[0], "the rest of the steps would be for nothing"


@pytest.mark.filterwarnings("ignore:adaptive")
def test_a_pipeline_without_callbacks_is_looked_at_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from negguide.experiment import sampling

    real, seen = sampling.arguments, []

    def without(*rest: Any) -> dict[str, Any]:
        class Deaf(dict[str, Any]):
            def __setitem__(self, key: str, value: Any) -> None:
                seen.append(key)

        return Deaf(real(*rest))

    monkeypatch.setattr(sampling, "arguments", without)
    register_watcher("of_lost_tests", _Watcher(RuntimeError("gone")))
    outcome = run_plan(tmp_path, methods=[ADAPTIVE], **PLAN)
    assert seen == ["callback_on_step_end"] and outcome.missing == 2
    assert "2 of its 2 looks" in outcome.errors[0]


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), MemoryError()])
@pytest.mark.filterwarnings("ignore:adaptive")
def test_memory_that_runs_out_in_the_watcher_is_met_with_smaller_calls(tmp_path: Path, error: BaseException) -> None:
    class Small(_Watcher):
        def __call__(self, images: Any, questions: Any) -> Any:
            if len(images) > 1:
                raise self.error
            return super().__call__(images, questions)

    register_watcher("of_lost_tests", Small(error, ()))
    outcome = run_plan(tmp_path, methods=[ADAPTIVE], **PLAN)
    assert (outcome.made, outcome.errors) == (2, [])
    assert [row["calls"] for row in read_table(tmp_path)] == [2, 2]


@pytest.mark.filterwarnings("ignore:adaptive")
def test_a_look_is_lost_also_where_guidance_is_off_afterwards() -> None:
    import families

    from negguide import attach
    from negguide.experiment.sampling import lost_in

    broken = AdaptiveNegatives(_Watcher(RuntimeError("gone")), looks=(0.4,))
    with attach(families.build("sd15"), broken, Interval(window=(0.0, 0.5))) as attached:
        families.run("sd15", steps=6)
    assert lost_in(attached.trace) == "adaptive lost 1 of its 1 looks (RuntimeError: gone)"
    with attach(families.build("sd15"), AdaptiveNegatives(_Watcher(RuntimeError(), ()), looks=(0.4,))) as attached:
        families.run("sd15", steps=6)
    assert lost_in(attached.trace) is None


def test_the_report_and_the_exit_code_tell_of_lost_looks(tmp_path: Path) -> None:
    register_watcher("of_lost_tests", _Watcher(RuntimeError("the server is gone")))
    line = ["generate", "--methods", f"plain,{ADAPTIVE}", "--seeds", "0", "--steps", "3", "--out", str(tmp_path)]
    prompts = tmp_path.parent / f"{tmp_path.name}.txt"
    prompts.write_text("a pet on grass\n")
    result = CliRunner().invoke(app, [*line, "--prompts", str(prompts), "--model", "toybox"])
    assert result.exit_code == 1, result.output
    assert "the server is gone" in result.output
    assert "the server is gone" in (tmp_path / "report.html").read_text()
