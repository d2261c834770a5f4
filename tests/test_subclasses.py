"""Pipelines of the user's: a subclass that hands its arguments on works as the stock class does, or says why not."""

from __future__ import annotations

import copy
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import NAG, Negative, NegativePrompt, PerpNeg
from negguide.pipeline.call import Call

NEUTRAL = PerpNeg(Negative("cat", 0.0))


def of_class(family: str, call: Any) -> Any:
    """A pipeline whose class is a user's, with another `__call__`."""
    pipe = copy.deepcopy(families.build(family))
    pipe.__class__ = type("Mine", (type(pipe),), {"__call__": call, "__module__": "mine"})
    return pipe


def stock(family: str) -> type:
    return type(families.build(family))


def keywords(family: str) -> Any:
    def call(self: Any, prompt: Any, style: str = "", **more: Any) -> Any:
        prompt = [one + style for one in prompt] if isinstance(prompt, list) else prompt + style
        return stock(family).__call__(self, prompt, **more)

    return call


def everything(family: str) -> Any:
    def call(self: Any, *args: Any, **more: Any) -> Any:
        return stock(family).__call__(self, *args, **more)

    return call


def read_by_position(family: str) -> Any:
    def call(self: Any, *args: Any, **more: Any) -> Any:
        return stock(family).__call__(self, args[0], *args[1:], **more)

    return call


def run(family: str, pipe: Any, by_position: bool = False, **more: Any) -> torch.Tensor:
    given = families.arguments(family, steps=2, **more)
    output = pipe(given.pop("prompt"), **given) if by_position else pipe(**given)
    return output[0] if isinstance(output, tuple) else output.images


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return float((found - wanted).abs().max()) <= 1e-5 * float(wanted.abs().max())


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux"])
@pytest.mark.parametrize("kind", [keywords, everything, read_by_position], ids=lambda kind: kind.__name__)
def test_what_a_subclass_hands_on_reaches_the_stock_class(family: str, kind: Any) -> None:
    pipe, by_position = of_class(family, kind(family)), kind is not keywords
    style = {"style": " on water"} if kind is keywords else {}
    prompt = "a pet on grass" + style.get("style", "")
    plain = run(family, pipe, by_position, **style)
    assert torch.equal(plain, run(family, families.build(family), prompt=prompt))
    with attach(pipe, NEUTRAL):
        assert torch.equal(run(family, pipe, by_position, **style), plain)
    for method in (NegativePrompt("cat"), PerpNeg(["cat", "hat"]), NAG("cat")):
        with attach(pipe, method):
            found = run(family, pipe, by_position, **style)
        with attach(families.build(family), method):
            wanted = run(family, families.build(family), prompt=prompt)
        assert close(found, wanted) and not close(found, plain), method
    with attach(pipe, NegativePrompt("cat")):
        assert close(
            run(family, pipe, by_position, **style), run(family, pipe, by_position, **style, negative_prompt="cat")
        )


def test_names_of_arguments_of_a_class_and_its_parents() -> None:
    cls = stock("sd15")
    both = type("B", (cls,), {"__call__": lambda self, prompt, style=1, *args, **more: None, "__module__": "mine"})
    call = Call(both, ("a pet", 2, None, 32), {"negative_prompt": "cat"})
    names = [name for name in Call.parameters_of(cls) if name not in ("self", "prompt")]
    assert call.arguments == {"prompt": "a pet", "style": 2, names[0]: None, names[1]: 32, "negative_prompt": "cat"}
    assert call.positional == ("prompt", "style", names[0], names[1])
    again = type("C", (both,), {"__call__": lambda self, seed=0, **more: None, "__module__": "mine"})
    assert Call(again, (), {"prompt": "x", "guidance_scale": 2.0}).complete["guidance_scale"] == 2.0
    with pytest.raises(TypeError):
        Call(again, (0, "x"), {})  # positions end where a class takes only names


def fixed(family: str) -> Any:
    """Takes no negative prompt at all, and guides nevertheless."""

    def call(self: Any, prompt: str, num_inference_steps: int = 2, generator: Any = None) -> Any:
        given = families.arguments(family, prompt, steps=num_inference_steps)
        return stock(family).__call__(self, **{**given, "generator": generator})

    return call


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_without_a_negative_prompt_a_negative_is_encoded_as_a_prompt(family: str) -> None:
    pipe = of_class(family, fixed(family))

    def seed() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    with attach(pipe, NegativePrompt("cat")) as attached:
        found = pipe("a pet on grass", 2, seed()).images
        assert attached.passes == 4
    wanted = families.run(family, steps=2, negative_prompt="cat")
    assert close(found, wanted) and not close(found, families.run(family, steps=2))


def swallowed(family: str) -> Any:
    def call(self: Any, prompt: str, **more: Any) -> Any:
        more["negative_prompt"] = None
        return stock(family).__call__(self, prompt, **more)

    return call


@pytest.mark.parametrize("method", [NegativePrompt("cat"), PerpNeg("cat"), NAG("cat")], ids=lambda method: method.name)
@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_text_that_changes_nothing_is_refused(family: str, method: Any) -> None:
    pipe = of_class(family, swallowed(family))
    with (
        attach(pipe, method),
        pytest.raises(ValueError, match=r"'cat' changes nothing .* feeds for ''\. .*negative_prompt="),
    ):
        run(family, pipe)


@pytest.mark.parametrize("text", ["", "  "])
def test_what_says_nothing_may_change_nothing(text: str) -> None:
    """Given for one of two prompts; and in other letters it says what the call says."""
    pipe = families.build("sd15")
    with attach(pipe, PerpNeg(Negative(("cat", text)))):
        run("sd15", pipe, prompt=["a", "b"])
    with attach(pipe, PerpNeg("CAT ", unconditional="own")):
        run("sd15", pipe, negative_prompt="cat")
