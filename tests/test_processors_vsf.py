"""VSF as attention processors: the pictures of the attached method, one formula by hand, and gone without a trace."""

from __future__ import annotations

import copy
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide import processors
from negguide.engine import Unsupported, attach
from negguide.methods import VSF


def words(pipe: Any, text: str) -> Tensor:
    """The embeddings of a text's words: CLIP's stand behind a begin mark; a mask tells T5's, the end mark among them."""
    if "CLIP" in type(pipe.tokenizer).__name__:
        count = len(pipe.tokenizer(text, add_special_tokens=False).input_ids)
        embeds = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)
        return embeds[0][:, 1 : 1 + count]
    embeds, mask, *_ = pipe.encode_prompt(text, do_classifier_free_guidance=False)
    return embeds[:, mask[0] > 0]


@pytest.mark.parametrize("name", ["sd15", "sdxl", "pixart"])
def test_it_equals_the_attached_method(name: str) -> None:
    pipe = families.build(name)
    plain = families.run(name)
    with attach(pipe, VSF(["cat", ("hat", 0.5)], scale=2.0)):
        expected = families.run(name)
    denoiser = getattr(pipe, families.FAMILIES[name].denoiser)
    before = dict(denoiser.attn_processors)
    processors.wrap_vsf(denoiser, [words(pipe, "cat"), words(pipe, "hat")], [1.0, 0.5], 2.0)
    try:
        drawn = families.run(name)
        with processors.paused(denoiser):
            assert torch.equal(families.run(name), plain)
    finally:
        processors.unwrap(denoiser)
    assert float((drawn - expected).abs().max()) < 1e-5 * float(expected.abs().max())
    assert float((drawn - plain).abs().max()) > 1e-3 * float(plain.abs().max())
    assert all(processor is before[layer] for layer, processor in denoiser.attn_processors.items())


def test_one_layer_by_hand() -> None:
    unet = copy.deepcopy(families.build("sd15").unet)
    name, layer = next((n, m) for n, m in unet.named_modules() if n.endswith("attn2"))
    torch.manual_seed(0)
    image, text = torch.randn(2, 5, layer.to_q.in_features), torch.randn(2, 7, layer.to_k.in_features)
    word = torch.randn(1, 2, layer.to_k.in_features)
    plain = layer(image, encoder_hidden_states=text)
    layer.set_processor(processors.VSFAttnProcessor(layer.processor, [word], [0.5], 3.0))
    with torch.no_grad():
        drawn = layer(image, encoder_hidden_states=text)
        longer = torch.cat([text[1:], word], dim=1)
        heads = (1, -1, layer.heads, layer.to_q.out_features // layer.heads)
        q, k = layer.to_q(image[1:]).view(heads).transpose(1, 2), layer.to_k(longer).view(heads).transpose(1, 2)
        v = layer.to_v(longer)
        v[:, 7:] *= -3.0 * 0.5
        looks = (q @ k.transpose(-1, -2) / heads[-1] ** 0.5).softmax(-1)
        mixed = (looks @ v.view(heads).transpose(1, 2)).transpose(1, 2).flatten(2)
        expected = layer.to_out[0](mixed)
    assert name and torch.equal(drawn[0], plain[0]), "the unconditional's row stays"
    assert torch.allclose(drawn[1], expected[0], atol=1e-5) and not torch.allclose(drawn[1], plain[1], atol=1e-3)


@pytest.mark.parametrize("neutral", [{"scale": 0.0}, {"weights": [0.0]}])
def test_neutral_settings_are_bit_equal(neutral: dict[str, Any]) -> None:
    pipe = families.build("sd15")
    plain = families.run("sd15")
    processors.wrap_vsf(pipe.unet, [words(pipe, "cat")], **neutral)
    try:
        assert torch.equal(families.run("sd15"), plain)
    finally:
        processors.unwrap(pipe.unet)


class Deaf:
    """A processor that asks the module nothing."""

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Any = None, attention_mask: Any = None
    ) -> Tensor:
        return hidden_states


def test_what_cannot_work_is_said() -> None:
    pipe = families.build("sd15")
    with pytest.raises(Unsupported, match=r"negguide\.attach"):
        processors.wrap_vsf(families.build("sd3").transformer, [torch.randn(1, 3, 32)])
    for wrong in ({"scale": -1.0}, {"weights": [1.0, 1.0]}, {"rows": "some"}, {"negatives": []}):
        with pytest.raises(ValueError, match="; "):
            processors.VSFAttnProcessor(print, **{"negatives": [torch.ones(1, 2, 4)], **wrong})
    unet = copy.deepcopy(pipe.unet)
    layer = next(module for name, module in unet.named_modules() if name.endswith("attn2"))
    layer.set_processor(Deaf())
    processors.wrap_vsf(unet, [words(pipe, "cat")])
    image, text = torch.randn(2, 5, layer.to_q.in_features), torch.randn(2, 7, layer.to_k.in_features)
    with pytest.raises(Unsupported, match="value projection"):
        layer(image, encoder_hidden_states=text)
