"""How the recommended negative was chosen: variants on hard pairs, on a block of seeds that nothing is reported on.

python -m lab.bench.choose sd            all variants, one line each; some minutes each
python -m lab.bench.choose sd3 "nag 5 alpha 0.25 until 0.5" plain
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from lab.bench.pairs import pairs
from lab.bench.run import BATCH, Row, judge, models
from lab.generate import generate
from lab.score import SEED_START
from negguide.methods import NAG, Method, Negative, NegativePrompt, PerpNeg, Window
from negguide.toybox.load import PIPELINES

BLOCK = 7
"""The block of seeds; the benches report blocks 0 and 1."""

Texts = tuple[str, ...]
Make = Callable[[Texts], tuple[Method, ...]]


def _negative(texts: Texts, weight: float = 1.0, until: float = 1.0) -> list[Negative]:
    return [Negative(texts, weight, Window(0, until))]


def _nag(scale: float, alpha: float, until: float) -> Make:
    return lambda texts: (NAG(_negative(texts, until=until), scale=scale, alpha=alpha),)


def _perp_neg(weight: float, until: float) -> Make:
    return lambda texts: (PerpNeg(_negative(texts, weight, until)),)


NAG_TRIED: dict[str, tuple[tuple[float, float, float], ...]] = {
    "sd": (
        *((scale, 0.5, until) for scale in (1.5, 2, 3, 5) for until in (1.0, 0.5)),
        *((4, 0.5, 0.5), (4, 0.5, 0.4), (5, 0.5, 0.4), (7, 0.5, 0.4), (7, 0.5, 0.5), (5, 0.5, 0.6)),
    ),
    "sd3": tuple(
        (scale, alpha, until)
        for scale, alpha in ((3, 0.25), (5, 0.25), (2, 0.5), (3, 0.5), (5, 0.5), (1.5, 1.0))
        for until in (1.0, 0.5)
    ),
}
"""Model -> (scale, alpha, until when) of every NAG that was tried."""


def variants(model: str) -> dict[str, Make]:
    """Everything that was tried on a model, by name."""
    tried: dict[str, Make] = {
        "plain": lambda texts: (),
        "negative 1": lambda texts: (NegativePrompt(_negative(texts)),),
        "negative 1 until 0.4": lambda texts: (NegativePrompt(_negative(texts, until=0.4)),),
    }
    for weight, until in ((1, 1.0), (2, 1.0), (2, 0.5), (3, 0.5)):
        tried[f"perp_neg {weight}{'' if until == 1 else f' until {until:g}'}"] = _perp_neg(weight, until)
    for scale, alpha, until in NAG_TRIED[model]:
        tried[f"nag {scale:g} alpha {alpha:g}{'' if until == 1 else f' until {until:g}'}"] = _nag(scale, alpha, until)
    return tried


def rows(model: str, make: Make) -> list[Row]:
    """The judged pictures of a variant."""
    pipe, oracle = models(model)
    usual = PIPELINES[model]
    cases = [(pair, SEED_START + 1000 * BLOCK + place) for place, pair in enumerate(pairs()) if pair.split == "hard"]
    found: list[Row] = []
    for start in range(0, len(cases), BATCH):
        part = cases[start : start + BATCH]
        images = generate(
            pipe,
            [pair.prompt for pair, _ in part],
            [seed for _, seed in part],
            *make(tuple(pair.negative for pair, _ in part)),
            batch=BATCH,
            steps=usual.steps,
            guidance_scale=usual.guidance_scale,
            **usual.more,
        )
        found += judge(oracle, images, part)
    return found


def line(name: str, judged: list[Row]) -> str:
    """A line of the table: gone and kept, where there was something to remove; unharmed, where there was not; percent."""
    removable = [row for row in judged if row["present"] is not None]
    idle = [row for row in judged if row["present"] is None]
    clean = sum(row["kept"] and not row["present"] for row in removable) / len(removable)
    unharmed = sum(row["match"] for row in idle) / len(idle)
    return f"| {name} | {100 * clean:.1f} | {100 * unharmed:.1f} |"


if __name__ == "__main__":
    model, *names = sys.argv[1:] or ["sd"]
    possible = variants(model)
    print("| variant | gone and kept | unharmed |\n|---|---:|---:|", flush=True)
    for name in names or possible:
        print(line(name, rows(model, possible[name])), flush=True)
