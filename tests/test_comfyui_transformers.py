"""NAG, VSF and NegToMe of the node pack inside transformers, against passes written by hand, in a stand-in for ComfyUI."""

from __future__ import annotations

import itertools
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import HEADS, attend, noise, sample, text
from comfy_transformers import Flux, Transformer, WanModel, transformer
from torch import Tensor

SIGMAS = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
SCALE, TAU, ALPHA = 5.0, 2.5, 0.25
KINDS = [Flux, WanModel]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


class Clip:
    """A begin mark 1, an end mark 2 as padding, a word for each letter; its conditioning has a token for each."""

    def tokenize(self, words: str) -> dict[str, Any]:
        return {"t5xxl": [[(number, 1.0) for number in [1, *(ord(letter) for letter in words), 2, 2, 2, 2][:5]]]}

    def encode_from_tokens_scheduled(self, tokens: Any) -> Any:
        return text(3)


def chain(nodes: Any, *entries: tuple[int, int, float], **more: Any) -> Any:
    """Negatives of a seed, a number of tokens and a weight."""
    result: Any = ()
    for seed, length, weight in entries:
        (result,) = nodes.NegativeNode.execute(text(seed, length), weight, previous=result, **{**WINDOW, **more}).args
    return result


def nag(nodes: Any, model: Any, negatives: Any, **more: Any) -> Any:
    return nodes.NAGNode.execute(model, negatives, **{"scale": SCALE, "tau": TAU, "alpha": ALPHA, **more}).args[0]


def negtome(nodes: Any, model: Any, **more: Any) -> Any:
    values = {"reference": "first", "alpha": 0.9, "threshold": 0.2, "match": "paper", **WINDOW}
    return nodes.NegToMeNode.execute(model, **{**values, **more}).args[0]


def run(model: Any, start: Tensor, cfg: float = 3.0) -> Tensor:
    return sample(model, start, cfg, SIGMAS)


def moved(z: Tensor, others: list[tuple[Tensor, float]]) -> Tensor:
    """NAG of the paper on image tokens, K negatives mixed by their shares."""
    total, most = sum(w for _, w in others), max(w for _, w in others)
    z_neg = z + sum(w / total * most * (there - z) for there, w in others)
    far = SCALE * z - (SCALE - 1) * z_neg
    ratio = far.abs().sum(-1, keepdim=True) / z.abs().sum(-1, keepdim=True)
    return ALPHA * torch.where(ratio > TAU, far * TAU / ratio, far) + (1 - ALPHA) * z


def joint_by_hand(model: Flux, image: Tensor, texts: list[Tensor], weights: list[float]) -> Tensor:
    """One picture through the layers: a sequence for each text, whose image part is the same."""
    for layer in model.joint:
        both = [torch.cat([words, image], 1) for words in texts]
        z = [attend(layer.to_q(b), layer.to_k(b), layer.to_v(b), HEADS) for b in both]
        parts = [one[:, words.shape[1] :] for one, words in zip(z, texts, strict=True)]
        guided = moved(parts[0], list(zip(parts[1:], weights, strict=True)))
        texts = [w + layer.to_out(one[:, : w.shape[1]]).tanh() for one, w in zip(z, texts, strict=True)]
        image = image + layer.to_out(guided).tanh()
    return image


def cross_by_hand(model: WanModel, image: Tensor, texts: list[Tensor], weights: list[float]) -> Tensor:
    for block in model.blocks:
        one, two = block.self_attn, block.cross_attn
        image = image + one.to_out(attend(one.to_q(image), one.to_k(image), one.to_v(image), HEADS)).tanh()
        z = [attend(two.to_q(image), two.to_k(words), two.to_v(words), HEADS) for words in texts]
        image = image + two.to_out(moved(z[0], list(zip(z[1:], weights, strict=True)))).tanh()
    return image


def by_hand(kind: Any, x: Tensor, cfg: float, negatives: list[tuple[int, int, float]], steps: set[int]) -> Tensor:
    """Euler for one picture."""
    model, layers = kind(), joint_by_hand if kind is Flux else cross_by_hand
    for at, (sigma, following) in enumerate(itertools.pairwise(SIGMAS)):
        prompt, base = (model(x, text(seed)[0][0], {}) for seed in (1, 2))
        if at in steps:
            texts = [model.words(text(1)[0][0]), *(model.words(text(s, n)[0][0]) for s, n, _ in negatives)]
            image = layers(model, model.inside(x.flatten(2).transpose(1, 2)), texts, [w for *_, w in negatives])
            prompt = model.outside(image).transpose(1, 2).reshape(x.shape)
        x = x + (base + cfg * (prompt - base)) * (following - sigma)
    return x


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("length", [3, 5, 8])
def test_nag_is_the_papers_for_texts_of_any_length(nodes: Any, kind: Any, cfg: float, length: int) -> None:
    negatives = [(3, length, 1.0), (4, 4, 0.5)]
    model = nag(nodes, transformer(kind), chain(nodes, *negatives))
    together = run(model, noise(2), cfg)
    for at, one in enumerate(noise(2).split(1)):
        assert torch.allclose(together[at], by_hand(kind, one, cfg, negatives, set(range(4)))[0], rtol=1e-4, atol=1e-5)
        assert torch.allclose(together[at], run(model, one, cfg)[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(together, run(transformer(kind), noise(2), cfg), atol=1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_nag_has_windows(nodes: Any, kind: Any) -> None:
    model = nag(nodes, transformer(kind), chain(nodes, (3, 8, 1.0), start=0.25, stop=0.75))
    expected = by_hand(kind, noise(1), 3.0, [(3, 8, 1.0)], {1, 2})
    assert torch.allclose(run(model, noise(1)), expected, rtol=1e-4, atol=1e-5)


def test_a_mask_confines_nag_to_its_tokens(nodes: Any) -> None:
    everywhere, nowhere = (chain(nodes, (3, 5, 1.0), mask=torch.full((1, 6, 6), share)) for share in (1.0, 0.0))
    plain = run(nag(nodes, transformer(Flux), chain(nodes, (3, 5, 1.0))), noise(1))
    assert torch.allclose(run(nag(nodes, transformer(Flux), everywhere), noise(1)), plain, atol=1e-5)
    none = run(nag(nodes, transformer(Flux), nowhere), noise(1))
    assert torch.allclose(none, run(transformer(Flux), noise(1)), atol=1e-5) and not torch.allclose(none, plain)
    with pytest.raises(ValueError, match="no grid"):
        nag(nodes, transformer(WanModel), everywhere)


@pytest.mark.parametrize("kind", KINDS)
def test_vsf_turns_the_values_of_the_words_round(nodes: Any, kind: Any) -> None:
    negative = nodes.NegativeTextNode.execute(Clip(), "ab", 0.5, **WINDOW).args[0]
    model = nodes.VSFNode.execute(transformer(kind), negative, scale=3.0).args[0]
    words = text(3)[0][0][:, 1:3]

    def flipping(attend: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
        """The prompt's own five tokens stand first, the two words behind them."""
        if kind is WanModel and k.shape[1] == q.shape[1]:
            return attend(q, k, v, heads)
        factors = torch.tensor([-1.5 if at in (5, 6) else 1.0 for at in range(v.shape[1])])
        return attend(q, k, v * factors.view(1, -1, 1), heads)

    stock, x = kind(), noise(1)
    for sigma, following in itertools.pairwise(SIGMAS):
        context = torch.cat([text(1)[0][0], words], 1)
        prompt = stock(x, context, {"optimized_attention_override": flipping})
        base = stock(x, text(2)[0][0], {})
        x = x + (base + 3 * (prompt - base)) * (following - sigma)
    together = run(model, noise(2))
    assert torch.allclose(together[:1], run(model, noise(2)[:1]), rtol=1e-5, atol=1e-5)
    assert torch.allclose(run(model, noise(1)), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_neutral_settings_are_the_stock_sampler_bit_for_bit(nodes: Any, kind: Any) -> None:
    stock = run(transformer(kind), noise())
    negative = nodes.NegativeTextNode.execute(Clip(), "ab", 1.0, **WINDOW).args[0]
    for model in (
        nag(nodes, transformer(kind), chain(nodes, (3, 5, 1.0)), scale=1.0),
        nag(nodes, transformer(kind), chain(nodes, (3, 5, 1.0)), alpha=0.0),
        nag(nodes, transformer(kind), chain(nodes, (3, 5, 0.0))),
        nag(nodes, transformer(kind), chain(nodes, (3, 5, 1.0), stop=0.0)),
        nag(nodes, transformer(kind), chain(nodes, (3, 5, 1.0), start=0.99)),
        nodes.VSFNode.execute(transformer(kind), negative, scale=0.0).args[0],
        negtome(nodes, transformer(kind), alpha=0.0),
        negtome(nodes, transformer(kind), start=0.99),
    ):
        assert torch.equal(run(model, noise()), stock)


@pytest.mark.parametrize("kind", KINDS)
def test_negtome_pushes_image_tokens_in_each_branch_and_leaves_the_first_picture(nodes: Any, kind: Any) -> None:
    plain = run(transformer(kind), noise())
    changed = run(negtome(nodes, transformer(kind)), noise())
    assert torch.equal(changed[0], plain[0]) and not torch.allclose(changed[1], plain[1], atol=1e-3)
    both = negtome(nodes, nag(nodes, transformer(kind), chain(nodes, (3, 8, 1.0))))
    moved_only = nag(nodes, transformer(kind), chain(nodes, (3, 8, 1.0)))
    assert torch.allclose(run(both, noise())[0], run(moved_only, noise())[0], atol=1e-5)
    assert not torch.allclose(run(both, noise())[1], run(moved_only, noise())[1], atol=1e-3)


def test_another_override_of_attention_goes_on_working(nodes: Any) -> None:
    model, seen = transformer(Flux), []

    def theirs(function: Any, *args: Any, **more: Any) -> Tensor:
        seen.append(args[0].shape)
        return function(*args, **more)

    model.model_options["transformer_options"]["optimized_attention_override"] = theirs
    expected = run(nag(nodes, transformer(Flux), chain(nodes, (3, 8, 1.0))), noise(1))
    assert torch.equal(run(nag(nodes, model, chain(nodes, (3, 8, 1.0))), noise(1)), expected) and seen


def test_what_cannot_work_says_so(nodes: Any) -> None:
    class NextDiT(Transformer):
        def build(self) -> None:
            pass

    negatives = chain(nodes, (3, 5, 1.0))
    for attempt in (nag, lambda nodes, model, _: negtome(nodes, model)):
        with pytest.raises(ValueError, match=r"NextDiT is none of them.*Perp-Neg"):
            attempt(nodes, transformer(NextDiT), negatives)
    with pytest.raises(ValueError, match="has a NAG of negguide already"):
        nag(nodes, nag(nodes, transformer(Flux), negatives), negatives)
    with pytest.raises(ValueError, match="make it by Negative text"):
        nodes.VSFNode.execute(transformer(Flux), negatives, scale=3.5)
