"""Run the bench: the same pairs and seeds under every arm, judged by the oracle, one JSON line per picture."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from negguide.toybox.bench.arms import Arm, arms
from negguide.toybox.bench.pairs import Pair, pairs
from negguide.toybox.generate import generate
from negguide.toybox.score import SEED_START

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from negguide.toybox.oracle import Oracle

BATCH = 32
Case = tuple[Pair, int]
"""A pair and the seed of its picture."""


def run_bench(
    out: Path,
    seeds: int = 1,
    chosen: Sequence[Pair] | None = None,
    compared: Iterable[Arm] | None = None,
    jobs: int = 1,
    **call: Any,
) -> list[dict[str, Any]]:
    """Rows of every arm, pair and seed, made by `jobs` processes with one thread each (1: here, with torch's threads).

    Arms already in `out/rows.jsonl` are kept, so that a stopped bench goes on.
    """
    out.mkdir(parents=True, exist_ok=True)
    file = out / "rows.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {row["arm"] for row in rows}
    cases = [
        (pair, SEED_START + 1000 * seed + place)
        for seed in range(seeds)
        for place, pair in enumerate(chosen or pairs())
    ]
    wanted = list(compared or arms())
    for arm, images, fresh in _results([arm for arm in wanted if arm.name not in done], cases, jobs, call):
        np.save(out / f"{arm.name.replace(' ', '-')}.npy", images)
        with file.open("a") as stream:
            stream.writelines(json.dumps(row) + "\n" for row in fresh)
        rows += fresh
        print(f"{arm.name}: {fresh[0]['seconds'] * len(cases):.0f} s", flush=True)
    order = {arm.name: place for place, arm in enumerate(arms())}
    return sorted(rows, key=lambda row: order[row["arm"]])


Result = tuple[Arm, np.ndarray, list[dict[str, Any]]]


def _results(todo: Sequence[Arm], cases: Sequence[Case], jobs: int, call: dict[str, Any]) -> Iterable[Result]:
    if jobs == 1:
        yield from (_run_arm(arm, cases, call) for arm in todo)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _one_thread) as pool:
        for future in as_completed([pool.submit(_run_arm, arm, cases, call) for arm in todo]):
            yield future.result()


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@cache
def _models() -> tuple[DiffusionPipeline, Oracle]:
    """Of this process."""
    from negguide.toybox.load import load_pipeline
    from negguide.toybox.oracle import Oracle

    return load_pipeline("sd"), Oracle.load()


def _run_arm(arm: Arm, cases: Sequence[Case], call: dict[str, Any]) -> Result:
    """The pictures of an arm, (N, 64, 64, 3) uint8, and what the oracle says of them."""
    pipe, oracle = _models()
    started = time.monotonic()
    images = _pictures(pipe, arm, cases, **call)
    seconds = (time.monotonic() - started) / len(cases)
    about = {"arm": arm.name, "method": arm.method, "strength": arm.strength, "seconds": seconds}
    return arm, images, [{**about, **row} for row in _judge(oracle, images, cases)]


def _pictures(pipe: DiffusionPipeline, arm: Arm, cases: Sequence[Case], **call: Any) -> np.ndarray:
    parts = []
    for start in range(0, len(cases), BATCH):
        part = cases[start : start + BATCH]
        methods = arm.make(tuple(pair.negative for pair, _ in part))
        parts.append(
            generate(pipe, [pair.prompt for pair, _ in part], [seed for _, seed in part], *methods, batch=BATCH, **call)
        )
    return np.concatenate(parts)


def _judge(oracle: Oracle, images: np.ndarray, cases: Sequence[Case]) -> list[dict[str, Any]]:
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
