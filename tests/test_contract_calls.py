"""The contract of every method under calls of other kinds: a negative prompt of the call, a mask, a half-open window, bfloat16,
takeover. A method is a row of `test_contract.METHODS`.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import families
import pytest
import torch
from test_contract import METHODS

from negguide.engine import attach
from negguide.methods import (
    NAG,
    VSF,
    ContrastiveNegative,
    DynamicNegative,
    Mask,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Recommended,
    Window,
)

FAMILIES = ["sd15", "sd3", "flux"]
WITH_NEGATIVES: dict[str, Any] = {
    "perp_neg": PerpNeg,
    "negative_prompt": NegativePrompt,
    "signed": functools.partial(NegativePrompt, mode="signed"),
    "contrastive": ContrastiveNegative,
    "dynamic": DynamicNegative,
    "nag": NAG,
    "recommended": Recommended,
    "vsf": VSF,
}
NO_MASKS = {"vsf"}
"""They say so when they are made."""


def several(name: str, **more: Any) -> dict[str, Any]:
    """Arguments for as many images as a method couples."""
    n = METHODS[name].images
    seeds = [torch.Generator().manual_seed(seed) for seed in range(n)]
    return {"num_images_per_prompt": n, "generator": seeds if n > 1 else seeds[0], **more}


def close(a: torch.Tensor, b: torch.Tensor, tolerance: float) -> bool:
    return float((a - b).abs().max()) <= tolerance * float(b.abs().max())


def test_every_method_with_negatives_is_here() -> None:
    assert {name for name, row in METHODS.items() if hasattr(row.active(), "negatives")} == set(WITH_NEGATIVES)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_beside_a_negative_prompt_of_the_call(method: str, family: str) -> None:
    row, pipe = METHODS[method], families.build(family)
    call = lambda: several(method, negative_prompt="blurry")  # noqa: E731
    plain = families.run(family, **call())
    if row.neutral is not None:
        with attach(pipe, row.neutral()):
            assert torch.equal(families.run(family, **call()), plain)
    with attach(pipe, row.on(family)):
        found = families.run(family, **call())
    assert found.isfinite().all() and not torch.equal(found, plain)
    assert torch.equal(families.run(family, **call()), plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", WITH_NEGATIVES)
def test_a_mask(method: str, family: str) -> None:
    make, pipe, plain = WITH_NEGATIVES[method], families.build(family), families.run(family)
    black, white = Mask(torch.zeros(8, 8)), Mask(torch.ones(8, 8))
    half = torch.zeros(8, 8)
    half[:, 4:] = 1
    if method in NO_MASKS:
        with pytest.raises(ValueError, match="mask; use"):
            make(Negative("cat", mask=white))
        return

    def run(mask: Mask | None) -> torch.Tensor:
        with attach(pipe, make(Negative("cat", mask=mask))):
            return families.run(family)

    whole = run(None)
    assert close(run(white), whole, 1e-4), "all of the picture is no mask"
    assert close(run(black), plain, 1e-4), "nothing of the picture is nothing"
    part = run(Mask(half))
    assert not close(part, whole, 1e-4) and not close(part, plain, 1e-4)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", WITH_NEGATIVES)
def test_a_half_open_window(method: str, family: str) -> None:
    """Before it opens, the run is the plain one; after it has closed, no pass is paid."""
    make, pipe, passes = WITH_NEGATIVES[method], families.build(family), METHODS[method].passes
    seen: list[torch.Tensor] = []

    def note(p: Any, i: int, t: Any, values: Any) -> Any:
        seen.append(values["latents"].clone())
        return values

    def run(*methods: Method) -> tuple[list[torch.Tensor], list[float]]:
        seen.clear()
        with attach(pipe, *methods) as attached:
            families.run(family, steps=4, callback_on_step_end=note)
        return list(seen), [record.passes for record in attached.trace]

    plain, _ = run()
    late, paid = run(make(Negative("cat", window=Window(0.5, 1.0))))
    assert all(torch.equal(a, b) for a, b in zip(late[:2], plain[:2], strict=True)) and paid[:2] == [2, 2]
    assert not torch.equal(late[2], plain[2]) and all(passed <= passes for passed in paid)
    early, paid = run(make(Negative("cat", window=Window(0.0, 0.5))))
    always, _ = run(make(Negative("cat", window=Window(0.0, 0.9))))  # of four steps all
    assert all(torch.equal(a, b) for a, b in zip(early[:2], always[:2], strict=True)) and paid[2:] == [2, 2]
    assert not torch.equal(early[3], always[3])


@functools.cache
def in_bfloat16(family: str) -> Any:
    pipe = copy.deepcopy(families.build(family)).to(torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_in_bfloat16(method: str, family: str) -> None:
    row, pipe = METHODS[method], in_bfloat16(family)
    plain = families.run(family, pipe, **several(method))
    if row.neutral is not None:
        with attach(pipe, row.neutral()):
            assert torch.equal(families.run(family, pipe, **several(method)), plain)
    with attach(pipe, row.on(family)):
        found = families.run(family, pipe, **several(method))
    assert found.dtype == plain.dtype == torch.bfloat16 and found.isfinite().all() and not torch.equal(found, plain)
    assert torch.equal(families.run(family, pipe, **several(method)), plain)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_takeover(method: str, family: str) -> None:
    """Negguide guides instead of the pipeline: the same pictures as with the pipeline's own guidance at that scale."""
    row, pipe, tiny = METHODS[method], families.build(family), families.FAMILIES[family]
    off = {**several(method), tiny.scale: tiny.off}
    if tiny.needs_negative:
        off["negative_prompt"] = None

    def run(make: Any) -> tuple[torch.Tensor, torch.Tensor]:
        with attach(pipe, make()):
            own = families.run(family, **several(method))
        with attach(pipe, make(), guidance_scale=tiny.w):
            taken = families.run(family, **{**off, "generator": several(method)["generator"]})
        return own, taken

    for make in (row.neutral, lambda: row.on(family)):
        if make is not None:
            own, taken = run(make)
            assert close(taken, own, 2e-3), f"takeover differs by {float((taken - own).abs().max()):.2g}"
