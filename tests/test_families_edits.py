"""Edit models: methods inside attention act on the picture that is made, and never touch the tokens of the one that is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_families_relatives import RELATIVES, run_relative

from negguide.engine import attach
from negguide.methods import NAG, Method, NegToMe, PerpNeg, Window


def _behind_first_layer(pipe: Any, *methods: Method, **more: Any) -> torch.Tensor:
    """The image stream of the prompt's first row behind the first attention layer of the first step: (picture | given, d)."""
    seen: list[torch.Tensor] = []
    module = pipe.transformer.transformer_blocks[0].norm2
    handle = module.register_forward_pre_hook(lambda module, args: seen.append(args[0][0].clone()))
    try:
        if methods:
            with attach(pipe, *methods):
                run_relative("flux_kontext", pipe, **more)
        else:
            run_relative("flux_kontext", pipe, **more)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        # Without guidance the first forward is the prompt's.
        (NAG("cat"), {"true_cfg_scale": 1.0}),
        (NAG("cat", placement="layer"), {"true_cfg_scale": 1.0}),
        (NegToMe("all", 0.5, -1.0, Window()), {"num_images_per_prompt": 2}),
        (PerpNeg("cat"), {}),
    ],
)
def test_tokens_of_the_given_picture_are_never_touched(method: Method, more: dict[str, Any]) -> None:
    pipe = RELATIVES["flux_kontext"].build()
    plain, found = _behind_first_layer(pipe, **more), _behind_first_layer(pipe, method, **more)
    count = len(plain) // 2
    assert plain.shape == found.shape and torch.allclose(plain[count:], found[count:], atol=1e-6)
    inside = not isinstance(method, PerpNeg)
    assert torch.allclose(plain[:count], found[:count], atol=1e-6) != inside


def test_the_edited_picture_changes() -> None:
    pipe = RELATIVES["flux_kontext"].build()
    plain = run_relative("flux_kontext", pipe)
    for method in (NAG("cat"), PerpNeg("cat")):
        with attach(pipe, method):
            found = run_relative("flux_kontext", pipe)
        assert found.shape == plain.shape and not torch.allclose(found, plain, atol=1e-4)
