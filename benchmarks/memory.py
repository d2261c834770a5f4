"""What several negatives cost in memory: the peak of live tensors in a call, and the time, as ratios to the plain pipeline.

    python benchmarks/memory.py

The Toybox's `sd`, 4 pictures, guidance 5. A dispatch mode counts every tensor that an operator makes until it is freed, weights
left out, so the peak is exact and the same at every run. Arms: four negatives as they run by default, no forward larger than the
pipeline's own; with `one_call=True`, all in one forward. Times are processor seconds of one thread, medians of interleaved
rounds, divided by the plain pipeline's of the same round. The exit code is 0 when the bars hold: a peak of at most 1.10 times
plain, and at most 1.03 times the time of one forward for all.
"""

from __future__ import annotations

import statistics
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import negguide as ng
from negguide.toybox.load import load_pipeline

NEGATIVES = ["cat", "dog", "hat", "tree"]
ROUNDS, STEPS, PICTURES = 9, 5, 4
PEAK, TIME = 1.10, 1.03


class Live(TorchDispatchMode):
    """Bytes of all tensors made inside that are alive, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {_storage(value).data_ptr() for value in tree_leaves((args, kwargs)) if torch.is_tensor(value)}
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if torch.is_tensor(value) and _storage(value).data_ptr() not in given:
                self._count(_storage(value))
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._known:
            return
        self._known.add(address)
        self.bytes += size
        self.peak = max(self.peak, self.bytes)
        weakref.finalize(storage, self._free, address, size)

    def _free(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.bytes -= size


def _storage(value: torch.Tensor) -> torch.UntypedStorage:
    return value.untyped_storage()


def arms(pipe: Any) -> dict[str, Callable[[], Any]]:
    """Label -> a call."""

    def call() -> Any:
        generator = torch.Generator().manual_seed(0)
        more = {"num_images_per_prompt": PICTURES, "num_inference_steps": STEPS, "output_type": "latent"}
        return pipe("a pet on grass", guidance_scale=5.0, generator=generator, **more)

    def attached(method: ng.Method, **settings: Any) -> Callable[[], Any]:
        def run() -> Any:
            with ng.attach(pipe, method, **settings):
                return call()

        return run

    return {
        "plain": call,
        "perp_neg, 4 negatives": attached(ng.PerpNeg(NEGATIVES)),
        "perp_neg, 4 negatives, one call": attached(ng.PerpNeg(NEGATIVES), one_call=True),
        "nag, 4 negatives": attached(ng.NAG(NEGATIVES)),
    }


def main() -> int:
    torch.set_num_threads(1)
    pipe = load_pipeline("sd")
    pipe.set_progress_bar_config(disable=True)
    peaks: dict[str, int] = {}
    seconds: dict[str, list[float]] = {}
    for name, run in arms(pipe).items():
        run()  # encodes the texts
        with torch.no_grad(), Live() as live:
            run()
        peaks[name] = live.peak
    for turn in range(ROUNDS + 1):
        for name, run in arms(pipe).items():
            started = time.process_time()
            run()
            if turn:
                seconds.setdefault(name, []).append(time.process_time() - started)

    def ratio(name: str, other: str) -> float:
        return statistics.median(a / b for a, b in zip(seconds[name], seconds[other], strict=True))

    print("| method | peak of live tensors / plain | time / plain |\n|---|---:|---:|")
    for name, peak in peaks.items():
        print(f"| {name} | {peak / peaks['plain']:.3f} | {ratio(name, 'plain'):.3f} |")
    split = ratio("perp_neg, 4 negatives", "perp_neg, 4 negatives, one call")
    print(f"\nFour negatives in several forwards take {split:.3f} times as long as in one.")
    return int(peaks["perp_neg, 4 negatives"] / peaks["plain"] > PEAK or split > TIME)


if __name__ == "__main__":
    sys.exit(main())
