"""Perp-Neg through the engine equals sampling loops written by hand: own text encoding, own denoiser calls, float64."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide.engine import attach
from negguide.methods import Negative, PerpNeg

PROMPTS = ["a pet on grass", "one red apple"]
NEGATIVES = [("cat", 1.0), ("a hat!", 0.6)]
STEPS = 3


@dataclass
class Hand:
    """A family by hand: `encode(texts)` -> conditioning; `predict(x, i, conditioning)` -> (B, ...) to be guided."""

    encode: Callable[[list[str | None]], Any]
    predict: Callable[[Tensor, int, Any], Tensor]
    advance: Callable[[Tensor, int, Tensor], Tensor]
    latents: Tensor
    start: float = 1.0
    w: float = 5.0
    norm: bool = False
    uncond: str | None = ""


def perp_neg(cond: Tensor, uncond: Tensor, negatives: list[Tensor], w: float, norm: bool) -> Tensor:
    """The formula of the paper for one image after the other, in float64."""
    images = []
    for b in range(cond.shape[0]):
        c, u = cond[b].double(), uncond[b].double()
        toward = c - u
        total = toward.clone()
        for (_, weight), negative in zip(NEGATIVES, negatives, strict=True):
            away = negative[b].double() - u
            share = float((away * toward).sum()) / float((toward * toward).sum())
            total -= weight * (away - share * toward)
        guided = u + w * total
        if norm:
            guided = guided * (c.norm(dim=-1, keepdim=True) / guided.norm(dim=-1, keepdim=True))
        images.append(guided)
    return torch.stack(images).float()


@torch.no_grad()
def by_hand(hand: Hand) -> Tensor:
    count = hand.latents.shape[0]
    cond, uncond = hand.encode(PROMPTS), hand.encode([hand.uncond] * count)
    negatives = [hand.encode([text] * count) for text, _ in NEGATIVES]
    x = hand.latents * hand.start
    for i in range(STEPS):
        told = [hand.predict(x, i, n) for n in negatives]
        guided = perp_neg(hand.predict(x, i, cond), hand.predict(x, i, uncond), told, hand.w, hand.norm)
        x = hand.advance(x, i, guided)
    return x


def _noise(*shape: int) -> Tensor:
    return torch.randn(2, *shape, generator=torch.Generator().manual_seed(7))


def _by_scheduler(pipe: Any) -> tuple[Any, Callable[[Tensor, int, Tensor], Tensor]]:
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    return scheduler, lambda x, i, guided: scheduler.step(guided, scheduler.timesteps[i], x, return_dict=False)[0]


def _euler_flow(sigmas: list[float]) -> Callable[[Tensor, int, Tensor], Tensor]:
    levels = [*sigmas, 0.0]
    return lambda x, i, guided: x + (levels[i + 1] - levels[i]) * guided


def _clip(tokenizer: Any, encoder: Any, texts: list[str], **more: Any) -> Any:
    tokens = tokenizer(texts, padding="max_length", max_length=24, truncation=True, return_tensors="pt")
    return encoder(tokens.input_ids, **more)


def _shifted(sigmas: list[float], tokens: int) -> list[float]:
    """Resolution-dependent shift of Flux and Qwen-Image."""
    mu = 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)
    return [math.exp(mu) / (math.exp(mu) + 1 / sigma - 1) for sigma in sigmas]


def sd15(pipe: Any) -> Hand:
    scheduler, advance = _by_scheduler(pipe)
    return Hand(
        encode=lambda texts: _clip(pipe.tokenizer, pipe.text_encoder, texts)[0],
        predict=lambda x, i, e: pipe.unet(x, scheduler.timesteps[i], encoder_hidden_states=e).sample,
        advance=advance,
        latents=_noise(4, 16, 16),
    )


def controlnet(pipe: Any) -> Hand:
    scheduler, advance = _by_scheduler(pipe)
    image = pipe.prepare_image(families.picture(), 32, 32, 2, 1, torch.device("cpu"), torch.float32)
    encode = sd15(pipe).encode

    def predict(x: Tensor, i: int, e: Tensor) -> Tensor:
        t = scheduler.timesteps[i]
        down, mid = pipe.controlnet(x, t, e, image, return_dict=False)
        more = {"down_block_additional_residuals": down, "mid_block_additional_residual": mid}
        return pipe.unet(x, t, encoder_hidden_states=e, **more).sample

    return Hand(encode=encode, predict=predict, advance=advance, latents=_noise(4, 16, 16))


def sdxl(pipe: Any) -> Hand:
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    sigmas = [float(s) for s in scheduler.sigmas]
    ids = torch.tensor([[32.0, 32.0, 0.0, 0.0, 32.0, 32.0]] * 2)

    def encode(texts: list[str | None]) -> tuple[Tensor, Tensor]:
        told = [text or "" for text in texts]
        first = _clip(pipe.tokenizer, pipe.text_encoder, told, output_hidden_states=True)
        second = _clip(pipe.tokenizer_2, pipe.text_encoder_2, told, output_hidden_states=True)
        embeds = torch.cat([first.hidden_states[-2], second.hidden_states[-2]], dim=-1)
        # Without a negative prompt SDXL feeds zeros.
        return (embeds * 0, second[0] * 0) if texts[0] is None else (embeds, second[0])

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor]) -> Tensor:
        scaled = x / math.sqrt(sigmas[i] ** 2 + 1)
        added = {"text_embeds": e[1], "time_ids": ids}
        return pipe.unet(scaled, scheduler.timesteps[i], encoder_hidden_states=e[0], added_cond_kwargs=added).sample

    def advance(x: Tensor, i: int, guided: Tensor) -> Tensor:
        return x + (sigmas[i + 1] - sigmas[i]) * guided

    start = math.sqrt(max(sigmas) ** 2 + 1)
    return Hand(encode, predict, advance, _noise(4, 16, 16), start=start, uncond=None)


def sd3(pipe: Any) -> Hand:
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    sigmas = [float(s) for s in scheduler.sigmas[:-1]]

    def encode(texts: list[str]) -> tuple[Tensor, Tensor]:
        embeds, _, pooled, _ = pipe.encode_prompt(texts, None, None, do_classifier_free_guidance=False)
        return embeds, pooled

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor]) -> Tensor:
        t = torch.full((2,), sigmas[i] * 1000)
        return pipe.transformer(x, encoder_hidden_states=e[0], pooled_projections=e[1], timestep=t).sample

    return Hand(encode, predict, _euler_flow(sigmas), _noise(4, 16, 16))


def flux(pipe: Any) -> Hand:
    sigmas = _shifted([1.0, 2 / 3, 1 / 3], 64)
    grid = torch.tensor([[0.0, row, column] for row in range(8) for column in range(8)])

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        return pipe.transformer(
            x,
            encoder_hidden_states=e[0],
            pooled_projections=e[1],
            txt_ids=e[2],
            img_ids=grid,
            timestep=torch.full((2,), sigmas[i]),
            guidance=torch.full((2,), 3.5),
        ).sample

    def encode(texts: list[str]) -> Any:
        return pipe.encode_prompt(texts, None, max_sequence_length=24)

    return Hand(encode, predict, _euler_flow(sigmas), _noise(64, 16))


def qwen(pipe: Any) -> Hand:
    sigmas = _shifted([1.0, 2 / 3, 1 / 3], 16 * 4 // 4)
    is_older = "txt_seq_lens" in inspect.signature(pipe.transformer.forward).parameters

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor | None]) -> Tensor:
        return pipe.transformer(
            x,
            encoder_hidden_states=e[0],
            encoder_hidden_states_mask=e[1],
            img_shapes=[[(1, 4, 4)]] * 2,
            timestep=torch.full((2,), sigmas[i]),
            **({"txt_seq_lens": e[1].sum(1).tolist()} if is_older and e[1] is not None else {}),
        ).sample

    def encode(texts: list[str]) -> Any:
        return pipe.encode_prompt(texts, max_sequence_length=32)

    return Hand(encode, predict, _euler_flow(sigmas), _noise(16, 16), norm=True)


def z_image(pipe: Any) -> Hand:
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(sigmas=pipe_sigmas(), mu=None)
    sigmas = [float(s) for s in scheduler.sigmas[:-1]]

    def predict(x: Tensor, i: int, e: list[Tensor]) -> Tensor:
        t = torch.full((2,), 1 - sigmas[i])
        return torch.stack(pipe.transformer(list(x.unsqueeze(2)), t, e, return_dict=False)[0]).squeeze(2)

    def encode(texts: list[str]) -> list[Tensor]:
        return pipe.encode_prompt(list(texts), do_classifier_free_guidance=False, max_sequence_length=64)[0]

    advance = _euler_flow(sigmas)
    # The pipeline negates the prediction, and its guidance_scale 5 means w = 1 + 5.
    return Hand(encode, predict, lambda x, i, guided: advance(x, i, -guided), _noise(4, 16, 16), w=6.0)


def pipe_sigmas() -> list[float]:
    from diffusers.pipelines.z_image.pipeline_z_image import get_default_z_image_sigmas

    return get_default_z_image_sigmas(STEPS)


def pixart(pipe: Any) -> Hand:
    scheduler, advance = _by_scheduler(pipe)

    def encode(texts: list[str]) -> Any:
        return pipe.encode_prompt(texts, do_classifier_free_guidance=False)[:2]

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor]) -> Tensor:
        return pipe.transformer(
            x,
            encoder_hidden_states=e[0],
            encoder_attention_mask=e[1],
            timestep=scheduler.timesteps[i].expand(2),
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample[:, :4]

    return Hand(encode, predict, advance, _noise(4, 16, 16))


def sana(pipe: Any) -> Hand:
    scheduler, advance = _by_scheduler(pipe)

    def encode(texts: list[str]) -> Any:
        return pipe.encode_prompt(texts, do_classifier_free_guidance=False, max_sequence_length=24)[:2]

    def predict(x: Tensor, i: int, e: tuple[Tensor, Tensor]) -> Tensor:
        t = scheduler.timesteps[i].expand(2)
        return pipe.transformer(x, encoder_hidden_states=e[0], encoder_attention_mask=e[1], timestep=t).sample

    return Hand(encode, predict, advance, _noise(4, 16, 16))


def wan(pipe: Any) -> Hand:
    scheduler, advance = _by_scheduler(pipe)

    def encode(texts: list[str]) -> Tensor:
        return pipe.encode_prompt(texts, do_classifier_free_guidance=False, max_sequence_length=16)[0]

    def predict(x: Tensor, i: int, e: Tensor) -> Tensor:
        return pipe.transformer(x, timestep=scheduler.timesteps[i].expand(2), encoder_hidden_states=e).sample

    return Hand(encode, predict, advance, _noise(16, 2, 2, 2))


HANDS = {
    "sd15": sd15,
    "controlnet": controlnet,
    "sdxl": sdxl,
    "sd3": sd3,
    "flux": flux,
    "pixart": pixart,
    "sana": sana,
    "wan": wan,
    "qwen": qwen,
    "zimage": z_image,
}


@pytest.mark.parametrize("name", HANDS)
@pytest.mark.parametrize("one_call", [False, True])
def test_perp_neg_equals_a_loop_by_hand(name: str, one_call: bool) -> None:
    pipe = families.build(name)
    hand = HANDS[name](pipe)
    expected = by_hand(hand)
    more = {"latents": hand.latents, "generator": None, "steps": STEPS}
    with attach(pipe, PerpNeg([Negative(text, weight) for text, weight in NEGATIVES]), one_call=one_call) as attached:
        found = families.run(name, prompt=PROMPTS, **more)
    plain = families.run(name, prompt=PROMPTS, **more)
    size = float(expected.abs().max())
    assert float((found - expected).abs().max()) < 2e-5 * size
    assert float((found - plain).abs().max()) > 1e-3 * size
    assert attached.passes == 4 * STEPS
