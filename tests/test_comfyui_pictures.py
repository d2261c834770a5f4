"""NegToMe of the node pack away from given pictures, their masks and banks, against passes by hand, in a stand-in for ComfyUI."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import comfy_standin as comfy
import pytest
import torch
from comfy_standin import HEADS, SIGMAS, attend, noise, patcher, sample, text
from comfy_transformers import Flux, WanModel, transformer
from PIL import Image
from torch import Tensor

FLOW = torch.tensor([1.0, 0.8, 0.5, 0.2, 0.0])
WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
ALPHA, THRESHOLD = 0.9, 0.2
PICTURES = torch.randint(0, 256, (2, 6, 6, 3), generator=torch.Generator().manual_seed(5)).float() / 255


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Any:
    return comfy.installed(monkeypatch)


class Vae:
    """Latents are the pictures' colours, twice as large as the sampler's; of another size where a picture has another."""

    def encode(self, pixels: Tensor) -> Tensor:
        return torch.cat([pixels, pixels[..., :1]], -1).movedim(-1, 1)

    def decode(self, latents: Tensor) -> Tensor:
        return (latents[:, :3].movedim(1, -1) / 8 + 0.5).clamp(0, 1)


class Clip:
    """What it sees of a picture is its mean colour."""

    name = "colours"

    def images(self, pictures: Any) -> Tensor:
        rows = [torch.tensor(picture.resize((1, 1)).getpixel((0, 0))).float() + 1 for picture in pictures]
        return torch.nn.functional.normalize(torch.stack(rows) - 128, dim=-1)


def negtome(nodes: Any, model: Any, **more: Any) -> Any:
    values = {"reference": "first", "alpha": ALPHA, "threshold": THRESHOLD, "match": "paper", **WINDOW}
    return nodes.NegToMeNode.execute(model, **{**values, "vae": Vae(), **more}).args[0]


def latents_of(pictures: Tensor) -> Tensor:
    return Vae().encode(pictures) / 2


def away(token: Tensor, others: Tensor, share: float) -> Tensor:
    similar = [float(torch.cosine_similarity(token, other, dim=0)) for other in others]
    best = max(range(len(similar)), key=similar.__getitem__)
    return token + share * ALPHA * (token - others[best]) if similar[best] > THRESHOLD else token


def pushed(tokens: Tensor, kept: Tensor, region: Tensor) -> Tensor:
    """Tokens (1 + R, N, d): those of the picture itself, pushed from those of the others that are kept."""
    others = tokens[1:].flatten(0, 1)[kept]
    moved = [away(token, others, float(share)) for token, share in zip(tokens[0], region, strict=True)]
    return torch.cat([torch.stack(moved)[None], tokens[1:]])


def unet_by_hand(x: Tensor, sigma: Tensor, words: Tensor, push: Any) -> Tensor:
    unet = patcher().model.diffusion_model
    tokens = unet.inside((x / (sigma**2 + 1).sqrt()).flatten(2).transpose(1, 2))
    words = words.expand(len(x), -1, -1)
    for name in ("input_blocks.1", "middle_block", "output_blocks.0"):
        block = unet.get_submodule(name)
        n, one, two = block.norm(tokens), block.attn1, block.attn2
        n = one.to_out(attend(one.to_q(n), one.to_k(n), one.to_v(n), HEADS))
        tokens = tokens + (push(n) if name.startswith("output") else n)
        n = block.norm(tokens)
        tokens = tokens + two.to_out(attend(two.to_q(n), two.to_k(words), two.to_v(words), HEADS))
    return unet.outside(tokens)[:1].transpose(1, 2).reshape(x[:1].shape)


def flux_by_hand(x: Tensor, sigma: Tensor, words: Tensor, push: Any) -> Tensor:
    model = Flux()
    image, seen = model.inside(x.flatten(2).transpose(1, 2)), model.words(words).expand(len(x), -1, -1)
    for layer in model.joint:
        both = torch.cat([seen, image], 1)
        z = attend(layer.to_q(both), layer.to_k(both), layer.to_v(both), HEADS)
        z = torch.cat([z[:, : words.shape[1]], push(z[:, words.shape[1] :])], 1)
        both = both + layer.to_out(z).tanh()
        seen, image = both[:, : words.shape[1]], both[:, words.shape[1] :]
    return model.outside(image)[:1].transpose(1, 2).reshape(x[:1].shape)


def by_hand(
    kind: str, x: Tensor, picked: Any, steps: set[int], kept: Any = slice(None), region: Any = None, seed: int = 0
) -> Tensor:
    """Euler at cfg 4 for one picture; `picked`: clean estimate of the step before -> clean latents of the pictures, or None."""
    flow = kind == "flux"
    predict, sigmas = (flux_by_hand, FLOW) if flow else (unet_by_hand, SIGMAS)
    drawn = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(seed))
    x, denoised = x if flow else x * sigmas[0], None
    for at, (sigma, following) in enumerate(itertools.pairwise(sigmas)):
        clean = picked(denoised) if at in steps else None
        rows, push = x, lambda tokens: tokens
        if clean is not None:
            rows = torch.cat([x, ((1 - sigma) if flow else 1.0) * clean + sigma * drawn])
            push = lambda tokens: pushed(tokens, kept, torch.ones(36) if region is None else region)  # noqa: E731
        cond, base = (predict(rows, sigma, text(number)[0][0], push) for number in (1, 2))
        prediction = base + 4 * (cond - base)
        denoised = x - sigma * prediction
        x = x + prediction * (following - sigma)
    return x


def run(kind: str, model: Any, start: Tensor) -> Tensor:
    return sample(model, start, sigmas=FLOW if kind == "flux" else SIGMAS)


def model_of(kind: str) -> Any:
    return transformer(Flux) if kind == "flux" else patcher()


KINDS = ["unet", "flux"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_keeps_away_from_given_ones(nodes: Any, kind: str) -> None:
    model = negtome(nodes, model_of(kind), pictures=PICTURES, seed=3, stop=0.5)
    together, stock = run(kind, model, noise(2)), run(kind, model_of(kind), noise(2))
    assert not torch.allclose(together, stock, atol=1e-3)
    steps = {0, 1} if kind == "flux" else {0, 1, 2}
    for at, one in enumerate(noise(2).split(1)):
        expected = by_hand(kind, one, lambda _: latents_of(PICTURES), steps, seed=3)
        assert torch.allclose(together[at], expected[0], rtol=1e-4, atol=1e-4)
        assert torch.allclose(together[at], run(kind, model, one)[0], rtol=1e-5, atol=1e-5)
    assert torch.equal(run(kind, model, noise(2)), together)


@pytest.mark.parametrize("kind", KINDS)
def test_masks_say_what_is_avoided_and_where_in_the_result(nodes: Any, kind: str) -> None:
    masks, region = torch.zeros(2, 6, 6), torch.ones(6, 6)
    masks[0, :3], masks[1, :, 4:], region[:, :2] = 1, 1, 0.2
    model = negtome(nodes, model_of(kind), pictures=PICTURES, pictures_mask=masks, region=region[None])
    kept, everywhere = masks.flatten().bool(), set(range(5))
    expected = by_hand(kind, noise(1), lambda _: latents_of(PICTURES), everywhere, kept, region.flatten())
    assert torch.allclose(run(kind, model, noise(1)), expected, rtol=1e-4, atol=1e-4)
    whole = by_hand(kind, noise(1), lambda _: latents_of(PICTURES), everywhere)
    assert not torch.allclose(expected, whole, atol=1e-3)
    black = negtome(nodes, model_of(kind), pictures=PICTURES, region=torch.zeros(6, 6))
    assert torch.allclose(run(kind, black, noise(2)), run(kind, model_of(kind), noise(2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_bank_each_picture_keeps_away_from_those_most_like_it(nodes: Any, kind: str, tmp_path: Path) -> None:
    colours = [(220, 30, 30), (30, 220, 30), (30, 30, 220), (200, 200, 40)]
    for name, colour in zip("abcd", colours, strict=True):
        Image.new("RGB", (6, 6), colour).save(tmp_path / f"{name}.png")
    bank = nodes.BankNode.execute(str(tmp_path), "toybox", 1, 1).args[0]
    object.__setattr__(bank, "clip", Clip())
    choices: list[int] = []

    def picked(denoised: Any) -> Any:
        if denoised is None:
            return None
        values = (Vae().decode(denoised * 2)[0] * 255).round().byte().numpy()
        seen = Clip().images([Image.fromarray(values)])[0]
        entries = Clip().images([Image.new("RGB", (1, 1), colour) for colour in colours])
        choices.append(int((entries @ seen).argmax()))
        pixels = torch.tensor(colours[choices[-1]]).float().expand(1, 6, 6, 3) / 255
        return latents_of(pixels)

    model = negtome(nodes, model_of(kind), bank=bank)
    start = noise(2)
    if kind == "flux":  # so that its pictures are of colours of their own
        start[0, 0], start[1, 2] = start[0, 0] + 4, start[1, 2] + 4
    together = run(kind, model, start)
    for at, one in enumerate(start.split(1)):
        assert torch.allclose(together[at], by_hand(kind, one, picked, set(range(5)))[0], rtol=1e-4, atol=1e-4)
        assert torch.allclose(together[at], run(kind, model, one)[0], rtol=1e-5, atol=1e-5)
    assert len(set(choices)) > 1


@pytest.mark.parametrize("kind", [*KINDS, "wan"])
def test_neutral_settings_with_pictures_are_the_stock_sampler_bit_for_bit(nodes: Any, kind: str) -> None:
    def fresh() -> Any:
        return transformer(WanModel) if kind == "wan" else model_of(kind)

    for more in ({"alpha": 0.0}, {"threshold": 1.0}, {"stop": 0.0}, {"start": 0.99}):
        model = negtome(nodes, fresh(), pictures=PICTURES, **more)
        assert torch.equal(run(kind, model, noise()), run(kind, fresh(), noise()))


def test_pictures_of_any_size_become_latents_of_the_result(nodes: Any) -> None:
    large = PICTURES.repeat_interleave(4, 1).repeat_interleave(4, 2)
    expected = sample(negtome(nodes, patcher(), pictures=PICTURES), noise(1))
    assert torch.allclose(sample(negtome(nodes, patcher(), pictures=large), noise(1)), expected, atol=0.2)
    assert not torch.allclose(expected, sample(patcher(), noise(1)), atol=0.2)


def test_nag_and_a_batch_apart_leave_the_pictures_that_ride_along(nodes: Any) -> None:
    """NAG at cfg 1 acts on the result's rows alone: what the pictures are pushed from is the same with it and without."""
    negative = nodes.NegativeNode.execute(text(3, 4), 1.0, **WINDOW).args[0]
    seen: list[Tensor] = []
    for kind in KINDS:
        options = {"scale": 4.0, "tau": 2.5, "alpha": 0.5}
        for model in (model_of(kind), nodes.NAGNode.execute(model_of(kind), negative, **options).args[0]):
            model = negtome(nodes, model, pictures=PICTURES)
            model.add_wrapper_with_key(
                "apply_model", "last", lambda executor, *args: seen.append(executor(*args)) or seen[-1]
            )
            sample(model, noise(2), 1.0, (FLOW if kind == "flux" else SIGMAS)[:2])
        plain, beside = seen[-2:]
        assert torch.allclose(plain[2:4], beside[2:4], rtol=1e-5, atol=1e-5)
        assert not torch.allclose(plain[:2], beside[:2], atol=1e-3)
    both = negtome(nodes, negtome(nodes, patcher()), pictures=PICTURES)
    only = negtome(nodes, patcher(), pictures=PICTURES)
    assert torch.allclose(sample(both, noise(2))[0], sample(only, noise(2))[0], rtol=1e-5, atol=1e-5)
    assert not torch.allclose(sample(both, noise(2))[1], sample(only, noise(2))[1], atol=1e-3)


def test_what_is_missing_is_said(nodes: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="connect it to vae"):
        negtome(nodes, patcher(), pictures=PICTURES, vae=None)
    with pytest.raises(ValueError, match="region is for the result"):
        negtome(nodes, patcher(), pictures_mask=torch.ones(6, 6))
    with pytest.raises(ValueError, match="3 masks for 2 pictures"):
        negtome(nodes, patcher(), pictures=PICTURES, pictures_mask=torch.ones(3, 6, 6))
    with pytest.raises(ValueError, match="match='paper'"):
        negtome(nodes, patcher(), pictures=PICTURES, pictures_mask=torch.ones(6, 6), match="release")
    with pytest.raises(ValueError, match="given pictures already"):
        negtome(nodes, negtome(nodes, patcher(), pictures=PICTURES), pictures=PICTURES)
    with pytest.raises(FileNotFoundError, match="holds no picture"):
        nodes.BankNode.execute(str(tmp_path), "toybox", 1, 1)


def test_nodes_go_on_working_behind_one_that_copies_the_model(nodes: Any) -> None:
    """ComfyUI's LoRA loaders and others copy a MODEL with all that it holds."""
    negative = nodes.NegativeNode.execute(text(3, 4), 1.0, **WINDOW).args[0]
    signed = next(cls for cls in nodes.METHOD_NODES if cls.method == "signed")
    for kind in KINDS:
        for model in (
            nodes.NAGNode.execute(model_of(kind), negative, scale=4.0, tau=2.5, alpha=0.5).args[0],
            signed.execute(model_of(kind), negatives=negative, scale=2.0).args[0],
            negtome(nodes, model_of(kind), pictures=PICTURES),
        ):
            assert torch.equal(run(kind, model.clone(), noise(2)), run(kind, model, noise(2)))
            assert not torch.equal(run(kind, model, noise(2)), run(kind, model_of(kind), noise(2)))
