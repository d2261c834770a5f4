"""NAG and NegToMe of the node pack, and its guider, against computations written by hand, in a stand-in for ComfyUI."""

from __future__ import annotations

import itertools
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import SIGMAS, attend, noise, patcher, sample, text
from torch import Tensor

WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
BLOCKS = ("input_blocks.1", "middle_block", "output_blocks.0")


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


def negatives(nodes: Any, *entries: tuple[int, float], **more: Any) -> Any:
    chain: Any = ()
    for seed, weight in entries:
        (chain,) = nodes.NegativeNode.execute(text(seed, 4), weight, previous=chain, **{**WINDOW, **more}).args
    return chain


def nag(nodes: Any, model: Any, chain: Any, **more: Any) -> Any:
    return nodes.NAGNode.execute(model, chain, **{"scale": 3.0, "tau": 2.5, "alpha": 0.5, **more}).args[0]


def negtome(nodes: Any, model: Any, **more: Any) -> Any:
    values = {"reference": "first", "alpha": 0.9, "threshold": 0.2, "match": "paper", **WINDOW}
    return nodes.NegToMeNode.execute(model, **{**values, **more}).args[0]


def nag_by_hand(x: Tensor, cfg: float, texts: list[tuple[Tensor, float]], steps: set[int], mask: Any = None) -> Tensor:
    """The tiny UNet and Euler written out for one picture, NAG of the paper in the branch of the prompt."""
    unet = patcher().model.diffusion_model
    x = x * SIGMAS[0]

    def predicted(x: Tensor, sigma: Tensor, context: Tensor, acts: bool) -> Tensor:
        tokens = unet.inside((x / (sigma**2 + 1).sqrt()).flatten(2).transpose(1, 2))
        for name in BLOCKS:
            block = unet.get_submodule(name)
            n = block.norm(tokens)
            one, two = block.attn1, block.attn2
            tokens = tokens + one.to_out(attend(one.to_q(n), one.to_k(n), one.to_v(n), comfy.HEADS))
            n = block.norm(tokens)
            z = attend(two.to_q(n), two.to_k(context), two.to_v(context), comfy.HEADS)
            if acts:
                total, most = sum(w for _, w in texts), max(w for _, w in texts)
                z_neg = z
                for words, weight in texts:
                    there = attend(two.to_q(n), two.to_k(words), two.to_v(words), comfy.HEADS)
                    share = weight / total * most if mask is None else weight * mask
                    z_neg = z_neg + share * (there - z)
                moved = 3 * z - 2 * z_neg
                ratio = moved.abs().sum(-1, keepdim=True) / z.abs().sum(-1, keepdim=True)
                moved = torch.where(ratio > 2.5, moved * 2.5 / ratio, moved)
                z = 0.5 * moved + 0.5 * z
            tokens = tokens + two.to_out(z)
        return unet.outside(tokens).transpose(1, 2).reshape(x.shape)

    for at, (sigma, following) in enumerate(itertools.pairwise(SIGMAS)):
        eps = predicted(x, sigma, text(1)[0][0], at in steps)
        if cfg != 1:
            base = predicted(x, sigma, text(2)[0][0], False)
            eps = base + cfg * (eps - base)
        x = x + eps * (following - sigma)
    return x


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_nag_is_the_papers_in_every_layer_of_the_prompt_only(nodes: Any, cfg: float) -> None:
    model = nag(nodes, patcher(), negatives(nodes, (3, 1.0), (4, 0.5)))
    texts = [(text(3, 4)[0][0], 1.0), (text(4, 4)[0][0], 0.5)]
    together = sample(model, noise(2), cfg)
    for at, one in enumerate(noise(2).split(1)):
        assert torch.allclose(together[at], nag_by_hand(one, cfg, texts, set(range(5)))[0], rtol=1e-4, atol=1e-4)
        assert torch.allclose(together[at], sample(model, one, cfg)[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, sample(patcher(), noise(2), cfg), atol=1e-2)


def test_nag_has_windows_and_masks(nodes: Any) -> None:
    texts = [(text(3, 4)[0][0], 1.0)]
    model = nag(nodes, patcher(), negatives(nodes, (3, 1.0), start=0.2, stop=0.6))
    assert torch.allclose(sample(model, noise(1), 1.0), nag_by_hand(noise(1), 1.0, texts, {1, 2}), rtol=1e-4, atol=1e-4)
    mask = torch.zeros(1, 6, 6)
    mask[:, 2:] = 1
    model = nag(nodes, patcher(), negatives(nodes, (3, 1.0), mask=mask))
    expected = nag_by_hand(noise(1), 1.0, texts, set(range(5)), mask.view(1, -1, 1))
    assert torch.allclose(sample(model, noise(1), 1.0), expected, rtol=1e-4, atol=1e-4)


def test_nag_leaves_the_passes_of_other_negatives_alone(nodes: Any) -> None:
    cls = next(cls for cls in nodes.METHOD_NODES if cls.method == "signed")
    start = noise(1) * SIGMAS[0]

    def one_step(model: Any) -> Tensor:
        return sample(model, noise(1), 2.0, torch.tensor([14.0, 0.0]))

    plain, moved = one_step(patcher()), one_step(nag(nodes, patcher(), negatives(nodes, (3, 1.0))))
    both = cls.execute(
        nag(nodes, patcher(), negatives(nodes, (3, 1.0))), negatives=negatives(nodes, (4, 1.0)), scale=2.0
    )
    signed = cls.execute(patcher(), negatives=negatives(nodes, (4, 1.0)), scale=2.0)
    # The negative's own prediction is the same in both, so what it adds is.
    difference = one_step(signed.args[0]) - plain
    assert torch.allclose(one_step(both.args[0]) - moved, difference, rtol=1e-3, atol=1e-4 * float(start.abs().max()))


@pytest.mark.parametrize("more", [{"scale": 1.0}, {"alpha": 0.0}, {"weight": 0.0}, {"stop": 0.0}, {"start": 0.99}])
def test_neutral_nag_is_the_stock_sampler_bit_for_bit(nodes: Any, more: dict[str, float]) -> None:
    own = {key: value for key, value in more.items() if key in ("scale", "alpha")}
    window = {key: value for key, value in more.items() if key in WINDOW}
    model = nag(nodes, patcher(), negatives(nodes, (3, more.get("weight", 1.0)), **window), **own)
    assert torch.equal(sample(model, noise()), sample(patcher(), noise()))


def test_nag_says_where_it_cannot_work(nodes: Any) -> None:
    chain = negatives(nodes, (3, 1.0))
    model = nag(nodes, patcher(), chain)
    with pytest.raises(ValueError, match="replaced already"):
        nag(nodes, model, chain)
    model.set_model_attn2_replace(lambda q, k, v, options: q, "middle", 0)
    with pytest.raises(ValueError, match="another node of this MODEL replaces attention to text"):
        sample(model, noise(1))
    transformer = patcher()
    transformer.model.diffusion_model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=r"works here on UNets.*Linear is none of them"):
        nag(nodes, transformer, chain)
    with pytest.raises(ValueError, match="works here on UNets"):
        negtome(nodes, transformer)


def pushed(x: Tensor, reference: str, alpha: float, threshold: float) -> Tensor:
    """NegToMe of the paper, token by token."""
    result = x.clone()
    for image in range(1 if reference == "first" else 0, len(x)):
        others = x[0] if reference == "first" else torch.cat([x[:image], x[image + 1 :]]).flatten(0, 1)
        for at, token in enumerate(x[image]):
            similar = [float(torch.cosine_similarity(token, other, dim=0)) for other in others]
            best = max(range(len(similar)), key=similar.__getitem__)
            if similar[best] > threshold:
                result[image, at] = token + alpha * (token - others[best])
    return result


@pytest.mark.parametrize("reference", ["first", "all"])
def test_negtome_is_the_papers_in_each_branch_of_the_up_blocks(nodes: Any, reference: str) -> None:
    (patch,) = negtome(nodes, patcher(), reference=reference).model_options["transformer_options"]["patches"][
        "attn1_output_patch"
    ]
    tokens = torch.randn(6, 9, 16, generator=torch.Generator().manual_seed(1))
    options = {
        "block": ("output", 0),
        "cond_or_uncond": [0, 1],
        "sigmas": torch.tensor([14.0]),
        "sample_sigmas": SIGMAS,
    }
    expected = torch.cat([pushed(branch, reference, 0.9, 0.2) for branch in tokens.chunk(2)])
    assert torch.allclose(patch(tokens, options), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(tokens, expected)
    assert patch(tokens, {**options, "block": ("input", 1)}) is tokens


def test_negtome_leaves_the_first_picture_and_the_neutral_settings_as_they_are(nodes: Any) -> None:
    plain = sample(patcher(), noise())
    changed = sample(negtome(nodes, patcher()), noise())
    assert torch.equal(changed[0], plain[0]) and not torch.allclose(changed[1], plain[1], atol=1e-3)
    for more in ({"alpha": 0.0}, {"threshold": 1.0}, {"stop": 0.0}, {"start": 0.99}):
        assert torch.equal(sample(negtome(nodes, patcher(), **more), noise()), plain)


def test_negtome_says_once_that_a_single_picture_has_no_other(nodes: Any, caplog: pytest.LogCaptureFixture) -> None:
    model = negtome(nodes, patcher())
    assert torch.equal(sample(model, noise(1)), sample(patcher(), noise(1)))
    assert caplog.text.count("raise batch_size") == 1


def test_the_guider_is_the_sampler_with_the_method_of_its_name(nodes: Any) -> None:
    chain = negatives(nodes, (3, 1.0))
    for name in ("perp_neg", "signed"):
        (guider,) = nodes.GuiderNode.execute(patcher(), text(1), text(2), chain, name, 4.0).args
        cls = next(cls for cls in nodes.METHOD_NODES if cls.method == name)
        model = cls.execute(patcher(), negatives=chain).args[0]
        assert torch.equal(guider.sample(noise()), sample(model, noise()))
        assert not torch.allclose(sample(model, noise()), sample(patcher(), noise()), atol=1e-3)
