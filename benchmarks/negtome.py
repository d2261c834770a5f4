"""What NegToMe costs: its matching against a literal implementation, and whole calls against the plain pipeline.

    python benchmarks/negtome.py                            # 4096 tokens x 640 x 4 images; the Toybox, batch 4, 25 steps
    python benchmarks/negtome.py --rounds 3 --steps 10 --out negtome.json

The literal implementation holds the whole similarity tensor. Rounds are interleaved, ratios are taken inside a round, the
median is told. Extra memory is what a call has allocated at its peak beyond its result, by counting every tensor that is
born and dies. It prints Markdown tables, writes JSON, and exits with 1 if a bar is missed (0 with `--no-bars`).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import statistics
import sys
import time
import weakref
from collections.abc import Callable
from itertools import cycle, pairwise, permutations
from pathlib import Path
from typing import Any, ClassVar

import diffusers
import torch
from cost import Arm, usual_call
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import negguide as ng
from negguide import formats
from negguide.experiment.models import load_model
from negguide.maths.negtome import best_among_others, best_match, push_apart, push_from
from negguide.methods.tokens import Tokens

ALPHA, THRESHOLD = 0.9, 0.1
SPEED_BAR, MEMORY_BAR, TOLERANCE = 1.5, 0.1, 1e-5
CALL_BARS = {"first": 1.04, "all": 1.10}


def literal_first(x: Tensor) -> Tensor:
    """Section 3 of the paper as it stands, every image from the first one."""
    unit = torch.nn.functional.normalize(x, dim=-1)
    similarity, index = (unit @ unit[:1].transpose(-1, -2)).max(dim=-1)
    pushed = (1 + ALPHA) * x - ALPHA * x[0][index]
    pushed = torch.where((similarity > THRESHOLD).unsqueeze(-1), pushed, x)
    return torch.cat([x[:1], pushed[1:]])


def literal_all(x: Tensor) -> Tensor:
    """The same, every image from all others."""
    k, n, _ = x.shape
    flat = x.flatten(0, 1)
    unit = torch.nn.functional.normalize(flat, dim=-1)
    similarity = (unit @ unit.T).view(k, n, k, n)
    similarity.diagonal(dim1=0, dim2=2).fill_(-torch.inf)
    best, index = similarity.view(k, n, k * n).max(dim=-1)
    pushed = (1 + ALPHA) * x - ALPHA * flat[index]
    return torch.where((best > THRESHOLD).unsqueeze(-1), pushed, x)


def blockwise_first(x: Tensor) -> Tensor:
    result = x.clone()
    push_from(x[1:], x[0], ALPHA, THRESHOLD, out=result[1:])
    return result


def blockwise_all(x: Tensor) -> Tensor:
    return push_apart(x, ALPHA, THRESHOLD)


PAIRS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "first": (literal_first, blockwise_first),
    "all": (literal_all, blockwise_all),
}


class Allocations(TorchDispatchMode):
    """Bytes of the tensors made inside, alive now and at their peak. Views of known storage count once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        torch.utils._pytree.tree_map_only(Tensor, self._count, result)
        return result

    def know(self, tensor: Tensor) -> None:
        """Leave a tensor that was there before out of the count."""
        self._known.add(tensor.untyped_storage().data_ptr())

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        place, size = storage.data_ptr(), storage.nbytes()
        if place in self._known:
            return
        self._known.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, place, size)

    def _gone(self, place: int, size: int) -> None:
        self._known.discard(place)
        self.now -= size


def extra_bytes(function: Callable[[Tensor], Tensor], x: Tensor) -> int:
    """Peak of a call beyond its result."""
    with Allocations() as counted:
        counted.know(x)
        result = function(x)
    return counted.peak - result.untyped_storage().nbytes()


def seconds(function: Callable[[Any], Any], argument: Any) -> float:
    started = time.perf_counter()
    function(argument)
    return time.perf_counter() - started


def matching(images: int, tokens: int, width: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Both ways of matching, literal and in blocks."""
    generator = torch.Generator().manual_seed(0)
    # Tokens of several images of one prompt: a shared part makes cosines as high as the features' are.
    shared = torch.randn(1, tokens, width, generator=generator)
    x = (shared + torch.randn(images, tokens, width, generator=generator)).to(device)
    rows = {}
    for name, (literal, blockwise) in PAIRS.items():
        close = (literal(x) - blockwise(x)).abs().amax(-1) <= TOLERANCE * float(x.abs().max())
        times: list[tuple[float, float]] = []
        for _ in range(rounds):
            times.append((seconds(literal, x), seconds(blockwise, x)))
        memory = extra_bytes(literal, x), extra_bytes(blockwise, x)
        rows[name] = {
            "literal_seconds": statistics.median(a for a, _ in times),
            "seconds": statistics.median(b for _, b in times),
            "speedup": statistics.median(a / b for a, b in times),
            "literal_extra_mb": memory[0] / 2**20,
            "extra_mb": memory[1] / 2**20,
            "memory_ratio": memory[1] / memory[0],
            "share_equal": float(close.float().mean()),
            "share_over_threshold": float((best_match(x[1], x[0])[0] > THRESHOLD).float().mean()),
        }
    return rows


def calls(model: str, device: str, batch: int, steps: int, rounds: int, prompt: str) -> dict[str, dict[str, Any]]:
    """Whole calls with the defaults of NegToMe, as `cost.py` times them; every order of the arms comes in its turn.

    "first_call": attaching and a first call, over the plain median; it makes the plan that equal calls use again.
    """
    diffusers.utils.logging.set_verbosity_error()
    loaded = load_model(model, device=device)
    call = usual_call(loaded.pipe, batch, steps, prompt)
    methods = {"plain": None, "first": (ng.NegToMe("first"),), "all": (ng.NegToMe("all"),)}
    arms = {name: Arm(loaded.pipe, chosen, call) for name, chosen in methods.items()}
    for order, _ in zip(cycle(permutations(arms)), range(rounds)):
        for name in order:
            arms[name].time()
    plain = arms["plain"]
    return {
        name: {
            "seconds": statistics.median(arm.times),
            "ratio": statistics.median(a / b for a, b in zip(arm.times, plain.times, strict=True)),
            "cpu_ratio": statistics.median(a / b for a, b in zip(arm.cpu, plain.cpu, strict=True)),
            "first_call": arm.first / statistics.median(plain.times),
        }
        for name, arm in arms.items()
    }


@dataclasses.dataclass(frozen=True)
class Remember(ng.NegToMe):
    """Listens where NegToMe acts, keeps its matches, and changes nothing."""

    name: ClassVar[str] = "remember"
    found: dict[tuple[int, str], tuple[Tensor, Tensor]] = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)

    def tokens(self, tokens: Tokens, state: dict[str, Any]) -> None:
        started = time.perf_counter()
        x = tokens["cond"]
        index = best_among_others(x)[1]
        self.seconds.append((time.perf_counter() - started) * len(tokens.branches))
        self.found[tokens.step.index, tokens.layer.name] = (x.float(), index)


def reuse(model: str, device: str, batch: int, steps: int, prompt: str) -> dict[str, Any]:
    """Could matches be used again? How many are the same one layer (of the same size) or one step later, and what all cost.

    "cosine lost": mean cosine with the best match less that with the match of before.
    """
    loaded = load_model(model, device=device)
    loaded.pipe.set_progress_bar_config(disable=True)
    seeds = [torch.Generator("cpu").manual_seed(seed) for seed in range(batch)]
    method = Remember("all")
    with ng.attach(loaded.pipe, method):
        started = time.perf_counter()
        loaded.pipe(prompt, num_images_per_prompt=batch, num_inference_steps=steps, guidance_scale=5.0, generator=seeds)
        taken = time.perf_counter() - started
    steps_seen, layers = (list(dict.fromkeys(parts)) for parts in zip(*method.found, strict=True))
    earlier = {
        "one step later": [((i, layer), (j, layer)) for i, j in pairwise(steps_seen) for layer in layers],
        "one layer later": [((step, a), (step, b)) for step in steps_seen for a, b in pairwise(layers)],
    }
    rows = {name: [compared(method.found[a], method.found[b]) for a, b in pairs] for name, pairs in earlier.items()}
    means = {name: [row for row in several if row] for name, several in rows.items()}
    return {
        "matching_share_of_call": sum(method.seconds) / taken,
        **{
            name: dict(zip(("equal", "cosine_lost"), map(statistics.mean, zip(*several, strict=True)), strict=True))
            for name, several in means.items()
            if several
        },
    }


def compared(before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]) -> tuple[float, float] | None:
    """(share of equal matches, cosine lost) if those of `before` were used for the tokens of `after`; None: other sizes."""
    x, index = after
    if before[1].shape != index.shape:
        return None
    unit = torch.nn.functional.normalize(x, dim=-1).flatten(0, 1)
    best, reused = ((unit * unit[which.flatten()]).sum(-1).mean() for which in (index, before[1]))
    return float((index == before[1]).float().mean()), float(best - reused)


def missed_bars(found: dict[str, Any]) -> list[str]:
    """One line per bar that is missed."""
    missed = []
    for name, row in found["matching"].items():
        if row["speedup"] < SPEED_BAR:
            missed.append(f"matching {name}: {row['speedup']:.2f} times as fast, the bar is {SPEED_BAR}")
        if row["memory_ratio"] > MEMORY_BAR:
            missed.append(f"matching {name}: {row['memory_ratio']:.3f} of the memory, the bar is {MEMORY_BAR}")
        if row["share_equal"] < 1.0:
            missed.append(f"matching {name}: {row['share_equal']:.6f} of the tokens are equal, all must be")
    for name, bar in CALL_BARS.items():
        if name in found["calls"] and found["calls"][name]["ratio"] > bar:
            missed.append(f"call {name}: {found['calls'][name]['ratio']:.3f} times the plain time, the bar is {bar}")
    return missed


def markdown(found: dict[str, Any]) -> str:
    """Both tables."""
    lines = [
        f"{found['tokens']} tokens x {found['width']} x {found['images']} images, {found['device']}, "
        f"{found['threads']} thread(s), median of {found['rounds']} rounds",
        "",
        "| matching | literal s | s | times as fast | literal extra MB | extra MB | memory | equal tokens |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {r['literal_seconds']:.3f} | {r['seconds']:.3f} | {r['speedup']:.2f} | {r['literal_extra_mb']:.0f} "
        f"| {r['extra_mb']:.0f} | {r['memory_ratio']:.3f} | {r['share_equal']:.4%} |"
        for name, r in found["matching"].items()
    ]
    lines += ["", f"{found['model']}, batch {found['batch']}, {found['steps']} steps", ""]
    lines += ["| call | seconds | time / plain | CPU time / plain | first call |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {name} | {row['seconds']:.3f} | {row['ratio']:.3f} | {row['cpu_ratio']:.3f} | {row['first_call']:.2f} |"
        for name, row in found["calls"].items()
    ]
    if "reuse" in found:
        share = found["reuse"]["matching_share_of_call"]
        rows = {name: row for name, row in found["reuse"].items() if isinstance(row, dict)}
        lines += ["", f"Matching (all) takes {share:.1%} of the call. If the matches of before were used again:", ""]
        lines += ["| matches | equal | cosine lost |", "|---|---:|---:|"]
        lines += [f"| {name} | {row['equal']:.1%} | {row['cosine_lost']:.3f} |" for name, row in rows.items()]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="toybox", help="'none' leaves the calls out")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--prompt", default="a pet on grass")
    parser.add_argument("--out", type=Path, default=Path("out/negtome.json"))
    parser.add_argument("--no-bars", action="store_true")
    given = parser.parse_args()
    found: dict[str, Any] = {key: value for key, value in vars(given).items() if key not in ("out", "no_bars")}
    found["threads"] = torch.get_num_threads()
    with torch.no_grad():
        found["matching"] = matching(given.images, given.tokens, given.width, given.rounds, given.device)
    found["calls"] = {}
    if given.model != "none":
        found["calls"] = calls(given.model, given.device, given.batch, given.steps, given.rounds, given.prompt)
        found["reuse"] = reuse(given.model, given.device, given.batch, given.steps, given.prompt)
    found["missed_bars"] = missed_bars(found)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(formats.stamped(found), indent=2) + "\n")
    print(markdown(found))
    for line in found["missed_bars"]:
        print(f"bar missed: {line}", file=sys.stderr)
    return 1 if found["missed_bars"] and not given.no_bars else 0


if __name__ == "__main__":
    sys.exit(main())
