"""Images without a negative in a call where others have one: as if there were no method, their own negative prompt at work."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import (
    NAG,
    VSF,
    ContrastiveNegative,
    DynamicNegative,
    EachImage,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Positive,
)

PROMPTS = ["a pet on grass", "one red apple"]
MAKE: dict[str, Any] = {
    "perp_neg": PerpNeg,
    "perp_neg own": lambda negatives: PerpNeg(negatives, unconditional="own"),
    "replace": NegativePrompt,
    "half": lambda negatives: NegativePrompt([Negative(one.prompt, 0.6) for one in negatives]),
    "signed": lambda negatives: NegativePrompt(negatives, mode="signed"),
    "ccfg": lambda negatives: ContrastiveNegative(negatives, tau=0.01),
    "dynamic": lambda negatives: DynamicNegative(negatives, prior=0.3),
    "nag": NAG,
}
SPARING = {
    "tuple": lambda: [Negative(("cat", ""))],
    "each image": lambda: [Negative(EachImage(("cat", None)))],
    "blank": lambda: [Negative(EachImage(("cat", " ")))],
}


def _run(family: str, **more: Any) -> torch.Tensor:
    return families.run(family, steps=2, **more)


def _off(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "flux", "wan", "qwen", "zimage"])
@pytest.mark.parametrize("method", MAKE)
@pytest.mark.filterwarnings("ignore:the call's own negative_prompt")
def test_an_image_without_a_negative_is_plain(method: str, family: str) -> None:
    pipe = families.build(family)
    form = list(SPARING)[sorted(MAKE).index(method) % len(SPARING)]
    for own in (None, "a hat"):
        more = {} if own is None else {"negative_prompt": own}
        listed = {} if own is None else {"negative_prompt": [own] * 2}
        plain = _run(family, prompt=PROMPTS[1], seed=1, **more)
        with attach(pipe, MAKE[method]([Negative("cat")])):
            alone = _run(family, prompt=PROMPTS[0], **more)
        with attach(pipe, MAKE[method](SPARING[form]())):
            both = _run(family, prompt=PROMPTS, **listed)
        assert _off(both[:1], alone) < 2e-4 and _off(both[1:], plain) < 2e-4, own


@pytest.mark.parametrize("family", ["sd15", "sdxl", "wan"])
@pytest.mark.parametrize("method", MAKE)
def test_each_prompt_has_its_own_negative_among_several(method: str, family: str) -> None:
    pipe, make = families.build(family), MAKE[method]
    with attach(pipe, make([Negative("cat")])):
        first = _run(family, prompt=PROMPTS[0])
    with attach(pipe, make([Negative("hat")])):
        second = _run(family, prompt=PROMPTS[1], seed=1)
    with attach(pipe, make([Negative(("cat", "")), Negative(("", "hat"))])):
        both = _run(family, prompt=PROMPTS)
    assert _off(both[:1], first) < 2e-4 and _off(both[1:], second) < 2e-4


@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd3", "wan"])
def test_also_by_takeover(family: str) -> None:
    pipe = families.build(family)
    with attach(pipe, guidance_scale=5.0):
        plain = _run(family, prompt=PROMPTS[1], seed=1, guidance_scale=1.0)
    with attach(pipe, PerpNeg(Negative(("cat", ""))), guidance_scale=5.0):
        both = _run(family, prompt=PROMPTS, guidance_scale=1.0)
    assert _off(both[1:], plain) < 2e-4 and _off(both[:1], _run(family)) > 1e-3


def test_positives_may_spare_images_too() -> None:
    pipe = families.build("sd15")
    with attach(pipe, PerpNeg(Negative("cat"), positives=Positive(("hat", "")))):
        both = _run("sd15", prompt=PROMPTS)
    with attach(pipe, PerpNeg("cat")):
        assert _off(both[1:], _run("sd15", prompt=PROMPTS[1], seed=1)) < 2e-4


@pytest.mark.parametrize("method", [PerpNeg, NegativePrompt, NAG])
def test_a_negative_for_no_image_is_neutral(method: Any) -> None:
    negative: Method = method(Negative(EachImage(("", None))))
    assert negative.is_neutral or method is NAG
    plain = _run("sdxl", prompt=PROMPTS)
    with attach(families.build("sdxl"), negative) as attached:
        assert torch.equal(_run("sdxl", prompt=PROMPTS), plain)
    assert attached.passes == 4


def test_vsf_takes_one_text() -> None:
    with pytest.raises(ValueError, match="one text for all images"):
        VSF(Negative(("cat", "")))
