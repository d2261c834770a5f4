"""NAG: the formula in float64 loops, hand-written attention in real denoisers, and its contract."""

from __future__ import annotations

import copy
import math
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide import maths
from negguide.engine import Unsupported, attach
from negguide.methods import NAG, Condition, Mask, Negative, NegativePrompt, PerpNeg, Window, from_json, to_json
from negguide.pipeline.families.parts import named_parts

S, TAU, ALPHA = 4.0, 1.3, 0.6
"""Far from neutral, and with a tau that bites."""


def loop_nag(z_pos: Tensor, z_neg: Tensor, s: float, tau: float, alpha: float) -> Tensor:
    """Token by token, in float64."""
    result = torch.zeros_like(z_pos, dtype=torch.float64)
    for b in range(z_pos.shape[0]):
        for n in range(z_pos.shape[1]):
            plus, minus = z_pos[b, n].tolist(), z_neg[b, n].tolist()
            far = [s * p - (s - 1) * m for p, m in zip(plus, minus, strict=True)]
            ratio = math.fsum(map(abs, far)) / math.fsum(map(abs, plus))
            short = [min(ratio, tau) / ratio * f for f in far]
            result[b, n] = torch.tensor([alpha * f + (1 - alpha) * p for f, p in zip(short, plus, strict=True)])
    return result


@pytest.mark.parametrize(("s", "tau", "alpha"), [(5.0, 2.5, 0.25), (3.0, 1.1, 1.0), (1.0, 1.0, 0.7), (9.0, 50.0, 0.5)])
def test_nag_is_its_formula(s: float, tau: float, alpha: float) -> None:
    draw = torch.Generator().manual_seed(0)
    z_pos, z_neg = (torch.randn(2, 6, 5, generator=draw) for _ in range(2))
    assert torch.allclose(
        maths.nag(z_pos, z_neg, s, tau, alpha).double(), loop_nag(z_pos, z_neg, s, tau, alpha), atol=1e-5
    )


def test_nag_at_its_borders() -> None:
    z = torch.randn(1, 3, 4)
    assert torch.equal(maths.nag(z, z, 5.0, 2.5, 0.5), z), "a negative equal to the prompt does nothing"
    assert not maths.nag(torch.zeros(1, 3, 4), z, 5.0, 2.5, 0.5).any(), "bounded by the positive's norm"
    half = maths.nag(z.half() * 1e4, -z.half() * 1e4, 11.0, 2.5, 0.25)
    assert half.dtype == torch.float32 and half.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nag_of_many_tokens_is_that_of_each(dtype: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    z_pos, z_neg = (torch.randn(2, 1031, 320, generator=draw).to(dtype) for _ in range(2))
    with torch.no_grad():
        whole = maths.nag(z_pos, z_neg, 5.0, 1.2, 0.25)
    plus, minus = z_pos.double(), z_neg.double()
    far = 5 * plus - 4 * minus
    ratio = far.abs().sum(-1, keepdim=True) / plus.abs().sum(-1, keepdim=True)
    expected = 0.25 * far * ratio.clamp(max=1.2) / ratio + 0.75 * plus
    assert whole.dtype == torch.float32 and torch.allclose(whole.double(), expected, atol=1e-5)


def test_modules_are_walked_as_torch_walks_them() -> None:
    for name in ("sdxl", "flux"):
        pipe = families.build(name)
        denoiser = getattr(pipe, "unet", None) or pipe.transformer
        denoiser.again = next(iter(denoiser.children()))  # one module under two names
        assert list(named_parts(denoiser)) == list(denoiser.named_modules())


EVERYWHERE = [name for name in families.FAMILIES if name not in ("img2img", "wan22")]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_family(name: str) -> None:
    pipe, plain = families.build(name), families.run(name)
    with attach(pipe, NAG("cat", scale=1.0)) as attached:
        assert torch.equal(families.run(name), plain) and attached.passes == 2 * len(attached.trace)
    prompts = ["a pet on grass", "one red apple"]
    with attach(pipe, NAG(["cat", Negative("hat", 0.5, Window(0, 0.5))])) as attached:
        seeds = [torch.Generator().manual_seed(0 if name == "inpaint" else i) for i in range(2)]
        both = families.run(name, prompt=prompts, generator=seeds)
        assert attached.passes <= 4 * len(attached.trace)
        assert [set(record.methods) for record in attached.trace] == [{"nag"}] * len(attached.trace)
        for i in range(2):
            alone = families.run(name, prompt=prompts[i], seed=0 if name == "inpaint" else i)
            assert float((both[i : i + 1] - alone).abs().max() / alone.abs().max()) < 2e-4
    assert not torch.equal(both[:1], plain)
    assert torch.equal(families.run(name), plain), "detached"


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux", "pixart", "wan", "zimage"])
def test_works_without_guidance_in_four_steps(name: str) -> None:
    tiny = families.FAMILIES[name]
    off = {tiny.scale: tiny.off}
    plain = families.run(name, steps=4, **off)
    with attach(families.build(name), NAG("cat")) as attached:
        found = families.run(name, steps=4, **off)
    assert found.isfinite().all() and not torch.equal(found, plain)
    assert attached.passes == len(attached.trace) * (1 if name in ("sd15", "sdxl", "pixart", "wan") else 2)


@pytest.mark.parametrize(
    "neutral",
    [NAG("cat", scale=1.0), NAG("cat", alpha=0.0), NAG(("cat", 0.0)), NAG(Negative("cat", window=Window(0.5, 0.5)))],
)
def test_neutral_is_bit_equal_and_free(neutral: NAG) -> None:
    for name in ("sd15", "sd3", "flux"):
        plain = families.run(name)
        with attach(families.build(name), neutral) as attached:
            assert torch.equal(families.run(name), plain)
            assert attached.passes == 2 * len(attached.trace) and attached.trace[0].methods == ()
    assert not neutral.companions(), "nor is its text encoded"


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux", "wan"])
def test_composes(name: str) -> None:
    with attach(families.build(name), NegativePrompt("hat"), PerpNeg("cat"), NAG("cat")) as attached:
        assert families.run(name).isfinite().all()
        assert set(attached.trace[0].methods) == {"negative", "perp_neg", "nag"}


def test_k_negatives_are_mixed() -> None:
    pipe = families.build("sd15")

    def with_negatives(*negatives: Any) -> Tensor:
        with attach(pipe, NAG(list(negatives), scale=S)):
            return families.run("sd15", guidance_scale=1.0)

    one = with_negatives("cat")
    assert torch.allclose(with_negatives("cat", "cat"), one, atol=1e-4), "the mean of twins is one of them"
    assert torch.allclose(with_negatives("cat", ("hat", 0.0)), one), "weight 0: as if it had never been there"
    assert not torch.allclose(with_negatives("cat", "hat"), one, atol=1e-2)


def test_a_mask_confines_it() -> None:
    region = torch.zeros(8, 8)
    region[:, 4:] = 1
    pipe = families.build("sd15")
    none, whole, right = (Mask(mask) for mask in (torch.zeros(8, 8), torch.ones(8, 8), region))
    plain = families.run("sd15")
    results = {}
    for key, mask in {"none": none, "whole": whole, "right": right}.items():
        with attach(pipe, NAG(Negative("cat", mask=mask))):
            results[key] = families.run("sd15", steps=1)
    with attach(pipe, NAG("cat")):
        everywhere = families.run("sd15", steps=1)
    plain = families.run("sd15", steps=1)
    assert torch.allclose(results["none"], plain, atol=1e-4) and torch.allclose(results["whole"], everywhere, atol=1e-4)
    change = (results["right"] - plain).abs().mean((0, 1, 2))
    assert change[8:].mean() > change[:8].mean()
    with attach(families.build("wan"), NAG(Negative("cat", mask=right))), pytest.raises(ValueError, match="no grid"):
        families.run("wan")


def test_options_are_checked_and_kept() -> None:
    config = NAG([Negative("cat", 0.5), "hat"], scale=4, tau=2, alpha=0.5)
    assert from_json(to_json(config)) == config and from_json(to_json(NAG("cat"))) == NAG("cat")
    assert config.companions() == (Condition("cat"), Condition("hat"))
    for options, message in [
        ({"scale": 0.5}, "scale is 0.5; possible: from 1"),
        ({"tau": 0.5}, "tau is 0.5; possible: from 1"),
        ({"alpha": 2}, "alpha is 2; possible: from 0 to 1"),
        ({"placement": "inside"}, "placement is 'inside'; possible: 'attention', 'layer'"),
        ({"pooled": "mine"}, "pooled is 'mine'; possible: 'prompt', 'own'"),
    ]:
        with pytest.raises(ValueError, match=message):
            NAG("cat", **options)
    with pytest.raises(ValueError, match="NAG got no negative"):
        NAG([])


def test_overflow_is_caught_with_the_methods_name() -> None:
    def spoil(module: Any, args: Any, output: Tensor) -> Tensor:
        return output * 1e36

    pipe = copy.deepcopy(families.build("sd15"))
    pipe.set_progress_bar_config(disable=True)
    handle = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v.register_forward_hook(spoil)
    with attach(pipe, NAG("cat", scale=1e6, tau=1e6)), pytest.raises(FloatingPointError, match="nag made NaN"):
        families.run("sd15", pipe, guidance_scale=1.0)
    handle.remove()


def test_unknown_denoisers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from negguide.engine import attention_layers

    monkeypatch.setattr(attention_layers, "rules_of", lambda name: [])
    with attach(families.build("sd15"), NAG("cat")), pytest.raises(Unsupported, match="nothing can listen"):
        families.run("sd15")
