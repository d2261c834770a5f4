"""The node pack's negatives in words, and its nodes that change what is read of the prompt, in a stand-in for ComfyUI."""

from __future__ import annotations

import itertools
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import SIGMAS, attend, noise, patcher, sample, text
from torch import Tensor

WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}


class Clip:
    """A tokenizer with a begin mark 1, an end mark 2 as padding, and a word for each letter."""

    def tokenize(self, words: str) -> dict[str, Any]:
        numbers = [1, *(ord(letter) for letter in words), 2, 2, 2, 2][:5]
        return {"l": [[(number, 1.0) for number in numbers]]}

    def encode_from_tokens_scheduled(self, tokens: Any) -> Any:
        return text(3)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


def in_words(nodes: Any, words: str = "ab", weight: float = 1.0, **more: Any) -> Any:
    return nodes.NegativeTextNode.execute(Clip(), words, weight, **{**WINDOW, **more}).args[0]


def method_node(nodes: Any, name: str, **values: Any) -> Any:
    cls = next(cls for cls in nodes.METHOD_NODES if cls.method == name)
    given = {one.id: one.about["default"] for one in cls.GET_SCHEMA().inputs if "default" in one.about}
    return cls.execute(patcher(), **{**given, **values}).args[0]


def vsf_by_hand(x: Tensor, scale: float, words: Tensor) -> Tensor:
    """The tiny UNet and Euler written out for one picture at cfg 1, with the words' values turned round in every layer."""
    unet, own = patcher().model.diffusion_model, text(1)[0][0]
    x = x * SIGMAS[0]
    for sigma, following in itertools.pairwise(SIGMAS):
        tokens = unet.inside((x / (sigma**2 + 1).sqrt()).flatten(2).transpose(1, 2))
        for name in ("input_blocks.1", "middle_block", "output_blocks.0"):
            block = unet.get_submodule(name)
            n, one, two = block.norm(tokens), block.attn1, block.attn2
            tokens = tokens + one.to_out(attend(one.to_q(n), one.to_k(n), one.to_v(n), comfy.HEADS))
            n = block.norm(tokens)
            keys = two.to_k(torch.cat([own, words], 1))
            values = torch.cat([two.to_v(own), two.to_v(words) * -scale], 1)
            tokens = tokens + two.to_out(attend(two.to_q(n), keys, values, comfy.HEADS))
        x = x + unet.outside(tokens).transpose(1, 2).reshape(x.shape) * (following - sigma)
    return x


def test_vsf_turns_the_words_values_round_and_leaves_out_marks_and_padding(nodes: Any) -> None:
    chain = in_words(nodes, weight=0.5)
    assert chain[0].words == (1, 2)
    (model,) = nodes.VSFNode.execute(patcher(), chain, scale=3.0).args
    expected = vsf_by_hand(noise(1), 1.5, text(3)[0][0][:, 1:3])
    assert torch.allclose(sample(model, noise(1), 1.0), expected, rtol=1e-4, atol=1e-4)
    together = sample(model, noise(2))
    assert torch.allclose(together[:1], sample(model, noise(2)[:1]), rtol=1e-5, atol=1e-5)
    for neutral in (
        nodes.VSFNode.execute(patcher(), chain, scale=0.0),
        nodes.VSFNode.execute(patcher(), in_words(nodes, weight=0.0), scale=3.0),
    ):
        assert torch.equal(sample(neutral.args[0], noise(2)), sample(patcher(), noise(2)))


def test_vsf_wants_words(nodes: Any) -> None:
    plain = nodes.NegativeNode.execute(text(3), 1.0, **WINDOW).args[0]
    with pytest.raises(ValueError, match="make it by Negative text"):
        nodes.VSFNode.execute(patcher(), plain, scale=1.5)
    with pytest.raises(ValueError, match="cannot confine"):
        nodes.VSFNode.execute(patcher(), in_words(nodes, mask=torch.ones(1, 6, 6)), scale=1.5)


@pytest.mark.parametrize(("cfg", "scale", "stop"), [(1.0, 3.0, 1.0), (4.0, 4.0, 0.5)])
def test_recommended_is_nag_by_the_figures_for_guided_and_unguided_sampling(
    nodes: Any, cfg: float, scale: float, stop: float
) -> None:
    (model,) = nodes.RecommendedNode.execute(patcher(), in_words(nodes)).args
    nag = nodes.NAGNode.execute(patcher(), in_words(nodes, stop=stop), scale=scale, tau=2.5, alpha=0.5).args[0]
    assert torch.equal(sample(model, noise(2), cfg), sample(nag, noise(2), cfg))
    assert not torch.equal(sample(model, noise(2), cfg), sample(patcher(), noise(2), cfg))


@pytest.mark.parametrize("name", ["cads", "seed_variance"])
def test_noise_on_the_prompt_is_each_pictures_own_and_gone_in_the_end(nodes: Any, name: str) -> None:
    model = method_node(nodes, name)
    together = sample(model, noise())
    assert not torch.allclose(together, sample(patcher(), noise()), atol=1e-3)
    for at, one in enumerate(noise().split(1)):
        assert torch.allclose(sample(model, one)[0], together[at], rtol=1e-5, atol=1e-5)
    assert torch.equal(sample(model, noise()), together)
    off = {"scale": 0.0} if name == "cads" else {"strength": 0.0}
    assert torch.equal(sample(method_node(nodes, name, **off), noise()), sample(patcher(), noise()))


def test_cads_noises_the_prompt_and_not_the_negative_prompt(nodes: Any) -> None:
    seen: list[Tensor] = []
    model = method_node(nodes, "cads", scale=0.5)
    forward = model.model.diffusion_model.forward

    def watched(x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        seen.append(context)
        return forward(x, context, options)

    model.model.diffusion_model.forward = watched
    sample(model, noise(2))
    own, negative = text(1)[0][0][0], text(2)[0][0][0]
    assert len(seen) == 5 and all(torch.equal(row, negative) for context in seen for row in context[2:])
    assert not torch.allclose(seen[0][0], own) and not torch.allclose(seen[0][0], seen[0][1])
    assert all(torch.equal(row, own) for row in seen[-1][:2])


def test_interval_saves_the_negative_prompts_pass_outside(nodes: Any) -> None:
    model = method_node(nodes, "interval", start=0.2, stop=0.6)
    sample(model, noise(1))
    assert model.model.calls == 5 + 2
