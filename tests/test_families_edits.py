"""Edit models: methods inside attention act on the picture that is made, and never touch the tokens of the one that is given."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from test_families_relatives import RELATIVES, run_relative

from negguide.engine import attach
from negguide.methods import NAG, Method, NegToMe, PerpNeg, Window

BEHIND = {"flux_kontext": "norm2", "qwen_edit": "img_norm2", "qwen_edit_plus": "img_norm2"}
"""Pipeline -> what a block does to the image stream, picture and then given ones, behind its attention."""


def _build(name: str) -> Any:
    return RELATIVES[name].build() if name in RELATIVES else families.build(name)


def _run(name: str, pipe: Any, **more: Any) -> torch.Tensor:
    return run_relative(name, pipe, **more) if name in RELATIVES else families.run(name, pipe, **more)


def _behind_first_layer(name: str, pipe: Any, *methods: Method, **more: Any) -> torch.Tensor:
    """The image stream of the prompt's first row behind the first attention layer of the first step: (picture | given, d)."""
    seen: list[torch.Tensor] = []
    module = getattr(pipe.transformer.transformer_blocks[0], BEHIND[name])
    handle = module.register_forward_pre_hook(lambda module, args: seen.append(args[0][0].clone()))
    try:
        if methods:
            with attach(pipe, *methods):
                _run(name, pipe, **more)
        else:
            _run(name, pipe, **more)
    finally:
        handle.remove()
    return seen[0]


@pytest.mark.parametrize("name", BEHIND)
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
def test_tokens_of_the_given_picture_are_never_touched(name: str, method: Method, more: dict[str, Any]) -> None:
    pipe = _build(name)
    plain, found = _behind_first_layer(name, pipe, **more), _behind_first_layer(name, pipe, method, **more)
    count = len(plain) // (3 if name == "qwen_edit_plus" else 2)
    assert plain.shape == found.shape and torch.allclose(plain[count:], found[count:], atol=1e-6)
    inside = not isinstance(method, PerpNeg)
    assert torch.allclose(plain[:count], found[:count], atol=1e-6) != inside


@pytest.mark.parametrize("name", BEHIND)
def test_the_edited_picture_changes(name: str) -> None:
    pipe = _build(name)
    plain = _run(name, pipe)
    for method in (NAG("cat"), PerpNeg("cat")):
        with attach(pipe, method):
            found = _run(name, pipe)
        assert found.shape == plain.shape and not torch.allclose(found, plain, atol=1e-4)
