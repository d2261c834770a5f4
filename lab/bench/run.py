"""Run the bench: the same pairs and seeds under every arm, judged by the oracle, one JSON line per picture."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.bench.arms import ONE_TEXT, AnyArm, Arm, arms
from lab.bench.pairs import Pair, pairs
from lab.generate import generate
from lab.score import SEED_START
from negguide.toybox.load import PIPELINES, load_pipeline

if TYPE_CHECKING:
    from negguide.toybox.oracle import Oracle
    from negguide.types import Pipeline
    from negguide.watchers.vqa import VisualQuestionAnswering

BATCH = 32
Case = tuple[Pair, int]
"""A pair and the seed of its picture."""
Row = dict[str, Any]
Result = tuple[np.ndarray, list[Row]]
"""Pictures of an arm (N, 64, 64, 3) uint8, and its rows, each with the seconds per picture."""


def run_bench(
    out: Path,
    seeds: int = 1,
    chosen: Sequence[Pair] | None = None,
    compared: Iterable[Arm] | None = None,
    jobs: int = 1,
    model: str = "sd",
    block: int = 0,
    **call: Any,
) -> list[dict[str, Any]]:
    """Rows of every arm, pair and seed, in the order of the arms; see `run_arms`.

    `block`: number of the first block of seeds; a value that is chosen on one block is reported on others.
    `call`: for the pipeline; the model's own steps and scale where it does not say otherwise.
    """
    cases = [
        (pair, SEED_START + 1000 * seed + place)
        for seed in range(block, block + seeds)
        for place, pair in enumerate(chosen or pairs())
    ]
    usual = PIPELINES[model]
    call = {"steps": usual.steps, "guidance_scale": usual.guidance_scale, **usual.more, **call}
    rows = run_arms(out, list(compared or arms(model)), partial(_run_arm, cases, model, call), jobs)
    order = {arm.name: place for place, arm in enumerate(arms(model))}
    return sorted(rows, key=lambda row: order[row["arm"]])


def run_arms(out: Path, wanted: Sequence[AnyArm], run: Callable[[AnyArm], Result], jobs: int) -> list[dict[str, Any]]:
    """Rows of all arms, made by `jobs` processes with one thread each (1: here, with torch's threads).

    Pictures go to `out/<arm>.npy`, rows to `out/rows.jsonl`. Arms already there are kept, so that a stopped bench goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {row["arm"] for row in rows}
    todo = [arm for arm in wanted if arm.name not in done]
    for arm, (images, fresh) in _results(todo, run, jobs):
        np.save(out / f"{arm.name.replace(' ', '-')}.npy", images)
        with file.open("a") as stream:
            stream.writelines(json.dumps({"arm": arm.name, **row}) + "\n" for row in fresh)
        rows += [{"arm": arm.name, **row} for row in fresh]
        print(f"{arm.name}: {fresh[0]['seconds'] * len(images):.0f} s", flush=True)
    return rows


def _results(todo: Sequence[AnyArm], run: Callable[[AnyArm], Result], jobs: int) -> Iterator[tuple[AnyArm, Result]]:
    if jobs == 1:
        yield from ((arm, run(arm)) for arm in todo)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        futures = {pool.submit(run, arm): arm for arm in todo}
        for future in as_completed(futures):
            yield futures[future], future.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@cache
def models(name: str = "sd") -> tuple[Pipeline, Oracle]:
    """A bundled pipeline and the oracle, loaded once in each process; on the GPU where there is one, in full float32."""
    import torch

    from lab.train.common import device
    from negguide.toybox.oracle import Oracle

    torch.backends.cudnn.allow_tf32 = False
    return load_pipeline(name).to(device()), Oracle.load()


@cache
def watcher() -> VisualQuestionAnswering:
    """The bundled watcher in float32, on the GPU where there is one."""
    from negguide.toybox.watcher import load_watcher

    return load_watcher(dtype="float32")


def _run_arm(cases: Sequence[Case], model: str, call: dict[str, Any], arm: Arm) -> Result:
    pipe, oracle = models(model)
    started = time.monotonic()
    images = _pictures(pipe, arm, cases, **call)
    seconds = (time.monotonic() - started) / len(cases)
    about = {"method": arm.method, "strength": arm.strength, "seconds": seconds}
    return images, [{**about, **row} for row in judge(oracle, images, cases)]


def _pictures(pipe: Pipeline, arm: Arm, cases: Sequence[Case], **call: Any) -> np.ndarray:
    made: list[Any] = [None] * len(cases)
    for places in _calls(cases, alike=arm.method in ONE_TEXT):
        part = [cases[place] for place in places]
        methods = arm.make(tuple(pair.negative for pair, _ in part))
        images = generate(
            pipe, [pair.prompt for pair, _ in part], [seed for _, seed in part], *methods, batch=BATCH, **call
        )
        for place, image in zip(places, images, strict=True):
            made[place] = image
    return np.stack(made)


def _calls(cases: Sequence[Case], alike: bool) -> Iterator[list[int]]:
    """Places of the cases, at most `BATCH` at a time; `alike`: together only those with the same negative."""
    groups: dict[str, list[int]] = {}
    for place, (pair, _) in enumerate(cases):
        groups.setdefault(pair.negative if alike else "", []).append(place)
    for group in groups.values():
        yield from (group[start : start + BATCH] for start in range(0, len(group), BATCH))


def judge(oracle: Oracle, images: np.ndarray, cases: Sequence[Case]) -> list[dict[str, Any]]:
    """What the oracle says of every picture, beside its pair and seed."""
    rows = []
    for start in range(0, len(cases), 200):
        part = cases[start : start + 200]
        judged = oracle.judge(images[start : start + 200])
        asked = {text: judged.has(text) for pair, _ in part for text in (pair.subject, pair.gone) if text is not None}
        matched = {pair.prompt: judged.matches(pair.prompt) for pair, _ in part}
        for place, (pair, seed) in enumerate(part):
            rows.append(
                {
                    "prompt": pair.prompt,
                    "negative": pair.negative,
                    "split": pair.split,
                    "theme": pair.theme,
                    "seed": seed,
                    "present": None if pair.gone is None else bool(asked[pair.gone][place]),
                    "kept": bool(asked[pair.subject][place]),
                    "match": bool(matched[pair.prompt][place]),
                    "kind": judged.kind[place],
                }
            )
    return rows
