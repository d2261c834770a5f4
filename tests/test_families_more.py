"""A shorter contract for more families: neutral, the pipeline's own negative prompt, rows, one call, undone."""

from __future__ import annotations

import functools

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import Negative, NegativePrompt, PerpNeg

NAMES = list(families.MORE)
MIXES_ITS_ROWS = ("kandinsky5", "latte")
"""Stock pipelines whose picture depends on what else is in the batch."""
ONE_PICTURE = ("prx", "qwen_edit_plus")
"""Stock pipelines that fail for several prompts, or refuse them."""
PROMPTS = ["a pet on grass", "one red apple"]


@functools.cache
def plain(name: str) -> torch.Tensor:
    return families.run(name, steps=2)


def _off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_neutral_is_plain_and_so_is_what_follows(name: str) -> None:
    with attach(families.build(name), PerpNeg(Negative("cat", 0.0))) as attached:
        assert torch.equal(families.run(name, steps=2), plain(name))
    assert attached.passes == 2 * len(attached.trace)
    assert torch.equal(families.run(name, steps=2), plain(name))


@pytest.mark.parametrize("name", NAMES)
def test_a_negative_prompt_is_that_of_the_pipeline_itself(name: str) -> None:
    expected = families.run(name, steps=2, negative_prompt="a cat")
    assert _off(expected, plain(name)) > 5e-3
    with attach(families.build(name), NegativePrompt(["a cat"])) as attached:
        assert _off(families.run(name, steps=2), expected) < 5e-5
    assert attached.passes == 2 * len(attached.trace)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ONE_PICTURE])
def test_each_image_of_a_batch_is_the_image_alone(name: str) -> None:
    method, pipe = PerpNeg(["cat", Negative("hat", 0.6)]), families.build(name)
    with attach(pipe, method) as attached:
        both = families.run(name, prompt=PROMPTS, steps=2)
        assert attached.passes == 4 * len(attached.trace)
        alone = [families.run(name, prompt=prompt, seed=seed, steps=2) for seed, prompt in enumerate(PROMPTS)]
    assert both.isfinite().all() and _off(alone[0], plain(name)) > 5e-3
    if name not in MIXES_ITS_ROWS:
        assert max(_off(both[i : i + 1], alone[i]) for i in range(2)) < 2e-4
    with attach(pipe, method, one_call=True):
        assert _off(families.run(name, prompt=PROMPTS, steps=2), both) < 2e-4
