"""Methods as attention processors in loops of one's own: the same latents as the attached method, and gone without a trace."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import families
import pytest
import torch
from diffusers.models.attention_processor import Attention, IPAdapterAttnProcessor2_0
from torch import Tensor

from negguide import maths, processors
from negguide.engine import Unsupported, attach
from negguide.methods import NAG, NegToMe, Window
from negguide.processors.rows import guided_rows

S, TAU, ALPHA = 4.0, 1.3, 0.6
WEIGHTS = [1.0, 0.5]


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) < 1e-5 * float(expected.abs().max())


def clip_embeds(pipe: Any, text: str) -> Tensor:
    embeds: Tensor = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[
        0
    ]
    return embeds


def nag_on(pipe: Any) -> NAG:
    return NAG(["cat", ("hat", 0.5)], S, TAU, ALPHA)


def loop(
    pipe: Any, latents: Tensor, prompt: Tensor, negative: Tensor, w: float, unconditional: Any, **more: Any
) -> Tensor:
    """Guidance in one forward per branch, prompt first, as many people write it."""
    denoiser = getattr(pipe, "unet", None) or pipe.transformer
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(3)
    latents = latents * scheduler.init_noise_sigma
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.scale_model_input(latents, t)
            at = t.expand(x.shape[0])
            cond = denoiser(x, encoder_hidden_states=prompt, timestep=at, return_dict=False, **more)[0]
            with unconditional(denoiser):
                uncond = denoiser(x, encoder_hidden_states=negative, timestep=at, return_dict=False, **more)[0]
            latents = scheduler.step(uncond + w * (cond - uncond), t, latents, return_dict=False)[0]
    return latents


def test_nag_in_a_hand_written_loop_equals_the_attached_method() -> None:
    pipe = families.build("sd15")
    with attach(pipe, nag_on(pipe)):
        expected = families.run("sd15")
    prompt, empty, cat, hat = (clip_embeds(pipe, text) for text in ("a pet on grass", "", "cat", "hat"))
    latents = torch.randn(1, 4, *[32 // pipe.vae_scale_factor] * 2, generator=torch.Generator().manual_seed(0))
    plain = loop(pipe, latents, prompt, empty, 5.0, processors.paused)
    processors.wrap_nag(pipe.unet, [cat, hat], None, WEIGHTS, S, TAU, ALPHA, rows="all")
    try:
        found = loop(pipe, latents, prompt, empty, 5.0, processors.paused)
    finally:
        processors.unwrap(pipe.unet)
    assert close(plain, families.run("sd15")), "the loop is the pipeline's"
    assert close(found, expected) and not close(found, plain)


def test_nag_in_a_hand_written_loop_of_wan() -> None:
    pipe = families.build("wan")
    arguments = families.arguments("wan")
    with attach(pipe, nag_on(pipe)):
        expected = families.run("wan")

    def encode(text: str) -> Tensor:
        embeds: Tensor = pipe.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=16)[0]
        return embeds

    size = {"height": 16, "width": 16, "num_frames": 5}
    latents = pipe.prepare_latents(
        1,
        pipe.transformer.config.in_channels,
        **size,
        dtype=torch.float32,
        device="cpu",
        generator=arguments["generator"],
    )
    call = (pipe, latents, encode("a pet on grass"), encode(""), 5.0, processors.paused)
    plain = loop(*call)
    names = processors.wrap_nag(
        pipe.transformer, [encode("cat"), encode("hat")], None, WEIGHTS, S, TAU, ALPHA, rows="all"
    )
    try:
        found = loop(*call)
    finally:
        processors.unwrap(pipe.transformer)
    assert names == [f"blocks.{i}.attn2" for i in range(len(pipe.transformer.blocks))]
    assert close(plain, families.run("wan")), "the loop is the pipeline's"
    assert close(found, expected) and not close(found, plain)


@pytest.mark.parametrize("name", ["sdxl", "pixart"])
def test_nag_with_both_branches_in_one_forward(name: str) -> None:
    pipe = families.build(name)
    plain = families.run(name)
    with attach(pipe, nag_on(pipe)):
        expected = families.run(name)
    masks = None
    if name == "sdxl":
        texts = [clip_embeds(pipe, text) for text in ("cat", "hat")]
    else:
        encoded = [pipe.encode_prompt(text, do_classifier_free_guidance=False) for text in ("cat", "hat")]
        texts, masks = [e[0] for e in encoded], [e[1] for e in encoded]
    denoiser = getattr(pipe, families.FAMILIES[name].denoiser)
    processors.wrap_nag(denoiser, texts, masks, WEIGHTS, S, TAU, ALPHA)
    try:
        found = families.run(name)
    finally:
        processors.unwrap(denoiser)
    assert close(found, expected) and not close(found, plain)


@pytest.mark.parametrize("reference", ["first", "all"])
@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart"])
def test_negtome_equals_the_attached_method(name: str, reference: Any) -> None:
    pipe = families.build(name)
    plain = families.run(name, num_images_per_prompt=3)
    with attach(pipe, NegToMe(reference, 0.9, 0.5, Window())):
        expected = families.run(name, num_images_per_prompt=3)
    denoiser = getattr(pipe, families.FAMILIES[name].denoiser)
    processors.wrap_negtome(denoiser, 3, reference, 0.9, 0.5)
    try:
        found = families.run(name, num_images_per_prompt=3)
    finally:
        processors.unwrap(denoiser)
    assert close(found, expected) and not close(found, plain)


class Halved(torch.nn.Module):
    """Somebody's own processor, with weights and an argument of its own."""

    def __init__(self, wrapped: Any) -> None:
        super().__init__()
        self.inner = wrapped
        self.scale = torch.nn.Parameter(torch.tensor(0.5))

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Any = None,
        attention_mask: Any = None,
        extra: float = 1.0,
    ) -> Any:
        return self.scale * extra * self.inner(attn, hidden_states, encoder_hidden_states, attention_mask)


def test_another_processor_goes_on_working_inside_and_is_given_back() -> None:
    pipe = copy.deepcopy(families.build("sd15"))
    pipe.set_progress_bar_config(disable=True)
    own = {name: Halved(p) if "attn2" in name else p for name, p in pipe.unet.attn_processors.items()}
    pipe.unet.set_attn_processor(dict(own))
    keys = list(pipe.unet.state_dict())
    extra: dict[str, Any] = {"cross_attention_kwargs": {"extra": 0.7}}
    plain = families.run("sd15", pipe, **extra)
    with attach(pipe, nag_on(pipe)):
        expected = families.run("sd15", pipe, **extra)
    wrapped = {
        name: processors.NAGAttnProcessor(
            p, [clip_embeds(pipe, "cat"), clip_embeds(pipe, "hat")], None, WEIGHTS, S, TAU, ALPHA
        )
        if "attn2" in name
        else p
        for name, p in pipe.unet.attn_processors.items()
    }
    pipe.unet.set_attn_processor(wrapped)
    processors.wrap_nag(pipe.unet, [clip_embeds(pipe, "cat")], scale=1.0)  # twice around the same layers
    processors.wrap_negtome(pipe.unet, 2, alpha=0.0)
    found = families.run("sd15", pipe, **extra)
    with processors.paused(pipe.unet):
        assert torch.equal(families.run("sd15", pipe, **extra), plain)
    processors.unwrap(pipe.unet)
    assert close(found, expected) and not close(found, plain)
    assert all(processor is own[name] for name, processor in pipe.unet.attn_processors.items())
    assert list(pipe.unet.state_dict()) == keys
    assert torch.equal(families.run("sd15", pipe, **extra), plain)


@pytest.mark.parametrize("neutral", [{"scale": 1.0}, {"alpha": 0.0}, {"weights": [0.0]}])
def test_neutral_settings_are_bit_equal(neutral: dict[str, Any]) -> None:
    pipe = families.build("sd15")
    plain = families.run("sd15")
    processors.wrap_nag(pipe.unet, [clip_embeds(pipe, "cat")], **neutral)
    try:
        assert torch.equal(families.run("sd15"), plain)
    finally:
        processors.unwrap(pipe.unet)


def test_attributes_and_copies_reach_the_wrapped_processor() -> None:
    class Adapter:
        scale_of_image = 1.0

        def __call__(self, attn: Any, hidden_states: Tensor) -> Tensor:
            return hidden_states * self.scale_of_image

    adapter = Adapter()
    processor = processors.NegToMeAttnProcessor(adapter, 2, alpha=0.5)
    processor.scale_of_image = 0.25
    assert adapter.scale_of_image == 0.25 == processor.scale_of_image
    assert not hasattr(processor, "nothing")
    x = torch.randn(2, 3, 4)
    assert torch.equal(copy.deepcopy(processor)(None, x), processor(None, x))
    attention = families.build("sd15").unet.attn_processors.popitem()[1]
    again = pickle.loads(pickle.dumps(processors.NegToMeAttnProcessor(attention, 2)))
    assert type(again.wrapped) is type(attention) and again.images == 2


def test_what_cannot_work_is_said() -> None:
    text = torch.randn(1, 3, 32)
    with pytest.raises(Unsupported, match=r"negguide\.attach"):
        processors.wrap_nag(families.build("flux").transformer, [text])
    with pytest.raises(Unsupported, match=r"negguide\.attach"):
        processors.wrap_negtome(families.build("sd3").transformer, 2)
    unet = families.build("sd15").unet
    with pytest.raises(ValueError, match="no half"):
        guided_rows("second half", 3)
    for wrong in ({"scale": 0.5}, {"alpha": 2.0}, {"weights": [1.0, 1.0]}, {"rows": "some"}, {"negatives": []}):
        with pytest.raises(ValueError, match="; "):
            processors.NAGAttnProcessor(print, **{"negatives": [text], **wrong})
    with pytest.raises(ValueError, match="2 or more"):
        processors.wrap_negtome(unet, 1)
    with pytest.raises(TypeError, match="attention processor"):
        processors.NegToMeAttnProcessor(3, 2)
    assert not any(isinstance(p, processors.WrappingProcessor) for p in unet.attn_processors.values())


def test_an_ip_adapter_stays_at_work_beside_the_negative() -> None:
    torch.manual_seed(0)
    attention = Attention(16, cross_attention_dim=8, heads=2, dim_head=8).requires_grad_(False)
    adapter = IPAdapterAttnProcessor2_0(16, 8, num_tokens=(4,), scale=0.7).requires_grad_(False)
    attention.set_processor(adapter)
    x, text, pictures = torch.randn(2, 9, 16), torch.randn(2, 5, 8), [torch.randn(2, 1, 4, 8)]
    negative = torch.randn(1, 5, 8)
    plain = attention(x, encoder_hidden_states=(text, pictures))
    projection, attention.to_out = attention.to_out, torch.nn.ModuleList([torch.nn.Identity()] * 2)
    z_pos = attention(x, encoder_hidden_states=(text, pictures))
    z_neg = attention(x, encoder_hidden_states=(negative.expand(2, -1, -1), pictures))
    attention.to_out = projection
    z_pos[1:] = maths.nag(z_pos[1:], z_neg[1:], S, TAU, ALPHA)
    attention.set_processor(processors.NAGAttnProcessor(adapter, [negative], None, None, S, TAU, ALPHA))
    found = attention(x, encoder_hidden_states=(text, pictures))
    assert close(found, projection[0](z_pos)) and not close(found, plain)
    assert adapter.scale == [0.7], "its scale is not the method's"
