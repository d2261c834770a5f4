"""The contract of every method on every family; a method is one row in `METHODS`, a family one row in `families`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import families
import pytest
import torch

from negguide.integration import attach
from negguide.methods import (
    APG,
    CFGZeroStar,
    ContrastiveNegative,
    DynamicNegative,
    Interval,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Rescale,
    Window,
    from_json,
    to_json,
)
from negguide.methods import METHODS as REGISTERED


@dataclasses.dataclass(frozen=True)
class Row:
    """A method under contract: at work, and with settings that must change nothing (None: it has none)."""

    active: Callable[[], Method]
    neutral: Callable[[], Method] | None
    passes: float
    """Of each step, at work."""


OFF = Negative("cat", 0.0)
NEVER = Negative("cat", window=Window(0.5, 0.5))
METHODS: dict[str, Row] = {
    "perp_neg": Row(lambda: PerpNeg(["cat", Negative("hat", 0.6)]), lambda: PerpNeg([OFF, NEVER]), 4),
    "negative_prompt": Row(lambda: NegativePrompt(["cat"]), lambda: NegativePrompt([OFF, NEVER]), 2),
    "signed": Row(
        lambda: NegativePrompt(["cat"], mode="signed"), lambda: NegativePrompt([OFF, NEVER], mode="signed"), 3
    ),
    "contrastive": Row(lambda: ContrastiveNegative(["cat"]), lambda: ContrastiveNegative([OFF, NEVER]), 3),
    "dynamic": Row(lambda: DynamicNegative(["cat"]), lambda: DynamicNegative([OFF, NEVER]), 3),
    "apg": Row(APG, None, 2),
    "cfg_zero_star": Row(CFGZeroStar, None, 2),
    "rescale": Row(lambda: Rescale(0.7), lambda: Rescale(0.0), 2),
    "interval": Row(lambda: Interval(Window(0.0, 0.5)), lambda: Interval(Window()), 2),
}
PIPELINES = list(families.FAMILIES)


def test_every_registered_method_is_under_contract() -> None:
    covered = {row.active().name for row in METHODS.values()}
    assert {entry.method.name for entry in REGISTERED.values()} <= covered


@pytest.mark.parametrize("family", PIPELINES)
@pytest.mark.parametrize("method", METHODS)
def test_contract(method: str, family: str) -> None:
    row, pipe = METHODS[method], families.build(family)
    plain = families.run(family)
    if row.neutral is not None:
        with attach(pipe, row.neutral()) as attached:
            assert torch.equal(families.run(family), plain), "neutral settings give the plain pixels"
        assert attached.passes == 2 * len(attached.trace)
    prompts = ["a pet on grass", "one red apple"]
    with attach(pipe, row.active()) as attached:
        seeds = [0, 0] if family == "inpaint" else [0, 1]
        both = families.run(family, prompt=prompts, generator=[torch.Generator().manual_seed(s) for s in seeds])
        assert attached.passes <= row.passes * len(attached.trace)
        for i, seed in enumerate(seeds):
            alone = families.run(family, prompt=prompts[i], seed=seed)
            error = float((both[i : i + 1] - alone).abs().max() / alone.abs().max())
            assert error < 2e-4, f"image {i} of the batch differs from the image alone"
        assert both.isfinite().all()
    assert not torch.equal(both[:1], plain), "at work it changes the picture"
    assert torch.equal(families.run(family), plain), "detached: the plain pixels"


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux", "wan", "zimage"])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "perp_neg"])
def test_two_methods_compose(method: str, family: str) -> None:
    with attach(families.build(family), METHODS["perp_neg"].active(), METHODS[method].active()) as attached:
        found = families.run(family)
        names = {name for record in attached.trace for name in record.methods}
    assert found.isfinite().all() and "perp_neg" in names and len(names) == 2


@pytest.mark.parametrize("method", METHODS)
def test_config_to_json_to_config(method: str) -> None:
    for make in (METHODS[method].active, METHODS[method].neutral):
        if make is not None:
            config = make()
            assert from_json(to_json(config)) == config
            json.loads(to_json(config))
