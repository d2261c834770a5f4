"""NAG inside whole pipelines equals attention written by hand."""

from __future__ import annotations

import copy
import math
from typing import Any

import families
import pytest
import torch
from test_methods_nag import ALPHA, TAU, S, loop_nag
from torch import Tensor

from negguide.engine import attach
from negguide.methods import NAG


class ByHand:
    """A cross-attention processor that reads a second text and applies NAG to the conditional rows."""

    def __init__(self, negatives: list[Tensor], weights: list[float], batch: bool, placement: str) -> None:
        self.negatives, self.weights, self.batch = negatives, weights, batch
        self.inside = placement == "attention"

    def attend(self, attn: Any, hidden: Tensor, text: Tensor) -> Tensor:
        q, k, v = attn.to_q(hidden).double(), attn.to_k(text).double(), attn.to_v(text).double()
        heads, parts = attn.heads, []
        for q_h, k_h, v_h in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1), strict=True):
            scores = torch.einsum("bnd,bld->bnl", q_h, k_h) / math.sqrt(q_h.shape[-1])
            exps = (scores - scores.amax(-1, keepdim=True)).exp()
            parts.append(torch.einsum("bnl,bld->bnd", exps / exps.sum(-1, keepdim=True), v_h))
        attended = torch.cat(parts, -1).to(hidden.dtype)
        return attended if self.inside else attn.to_out[0](attended)

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        plain = self.attend(attn, hidden_states, encoder_hidden_states)
        rows = slice(len(plain) // 2, None) if self.batch else slice(None)
        z_pos = plain[rows].double()
        z_neg = z_pos.clone()
        for negative, weight in zip(self.negatives, self.weights, strict=True):
            share = weight / sum(self.weights) * max(self.weights)
            z_neg += share * (self.attend(attn, hidden_states[rows], negative).double() - z_pos)
        plain[rows] = loop_nag(z_pos, z_neg, S, TAU, ALPHA).to(plain.dtype)
        return attn.to_out[0](plain) if self.inside else plain


def clip_embeds(pipe: Any, text: str) -> Tensor:
    found: Tensor = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[
        0
    ]
    return found


@pytest.mark.parametrize("placement", ["attention", "layer"])
@pytest.mark.parametrize("w", [5.0, 1.0])
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_unets_equal_a_processor_written_by_hand(name: str, w: float, placement: Any) -> None:
    pipe = families.build(name)
    by_hand = copy.deepcopy(pipe)
    by_hand.set_progress_bar_config(disable=True)
    processor = ByHand([clip_embeds(pipe, "cat"), clip_embeds(pipe, "hat")], [1.0, 0.5], w > 1, placement)
    processors = {key: processor if "attn2" in key else old for key, old in by_hand.unet.attn_processors.items()}
    by_hand.unet.set_attn_processor(processors)
    expected = families.run(name, by_hand, guidance_scale=w)
    plain = families.run(name, guidance_scale=w)
    with attach(pipe, NAG(["cat", ("hat", 0.5)], S, TAU, ALPHA, placement)) as attached:
        found = families.run(name, guidance_scale=w)
        assert attached.passes == (2 if w > 1 else 1) * len(attached.trace), "no row rides along"
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float((found - plain).abs().max()) > 1e-2 * float(plain.abs().max())


class Unprojected:
    """A joint-attention module whose image goes out as attention gives it; `project` finishes it."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def __call__(self, **call: Any) -> Any:
        projection, self.module.to_out = self.module.to_out, torch.nn.ModuleList([torch.nn.Identity()] * 2)
        try:
            return self.module(**call)
        finally:
            self.module.to_out = projection

    def project(self, image: Tensor) -> Tensor:
        out: Tensor = self.module.to_out[0](image)
        return out


class Projected(Unprojected):
    """The same module as it stands."""

    def __call__(self, **call: Any) -> Any:
        return self.module(**call)

    def project(self, image: Tensor) -> Tensor:
        return image


HEARD = {"attention": Unprojected, "layer": Projected}


def sd3_by_hand(
    model: Any, call: dict[str, Any], negative: Tensor, pooled: Tensor, placement: str = "attention"
) -> Tensor:
    """One image stream, two text streams, each with its pooled vector; NAG in each joint attention."""
    latents = call["hidden_states"]
    image = model.pos_embed(latents)
    tembs = [model.time_text_embed(call["timestep"], one) for one in (call["pooled_projections"], pooled)]
    temb = tembs[0]
    texts = [model.context_embedder(call["encoder_hidden_states"]), model.context_embedder(negative)]
    for block in model.transformer_blocks:
        norm, gate, shift, scale, gate_ff = block.norm1(image, emb=temb)
        outputs, attn = [], HEARD[placement](block.attn)
        for at, text in enumerate(texts):
            if block.context_pre_only:
                c_norm = block.norm1_context(text, tembs[at])
                outputs.append(attn(hidden_states=norm, encoder_hidden_states=c_norm)[0])
                continue
            c_norm, c_gate, c_shift, c_scale, c_gate_ff = block.norm1_context(text, emb=tembs[at])
            out, c_out = attn(hidden_states=norm, encoder_hidden_states=c_norm)
            outputs.append(out)
            text = text + c_gate[:, None] * c_out
            inner = block.norm2_context(text) * (1 + c_scale[:, None]) + c_shift[:, None]
            texts[at] = text + c_gate_ff[:, None] * block.ff_context(inner)
        image = image + gate[:, None] * attn.project(loop_nag(*outputs, S, TAU, ALPHA).to(image.dtype))
        image = image + gate_ff[:, None] * block.ff(block.norm2(image) * (1 + scale[:, None]) + shift[:, None])
    out = model.proj_out(model.norm_out(image, temb))
    p, (h, w) = model.config.patch_size, latents.shape[-2:]
    grid = out.view(len(out), h // p, w // p, p, p, -1)
    return grid.permute(0, 5, 1, 3, 2, 4).reshape(len(out), -1, h, w)


def flux_by_hand(
    model: Any, call: dict[str, Any], negative: Tensor, pooled: Tensor, placement: str = "attention"
) -> Tensor:
    """Double blocks with one image stream; then two whole streams that share what attention gives to the image."""
    image = model.x_embedder(call["hidden_states"])
    time = [call["timestep"] * 1000] + ([] if call["guidance"] is None else [call["guidance"] * 1000])
    tembs = [model.time_text_embed(*time, one) for one in (call["pooled_projections"], pooled)]
    temb = tembs[0]
    rope = model.pos_embed(torch.cat([call["txt_ids"], call["img_ids"]]))
    texts = [model.context_embedder(call["encoder_hidden_states"]), model.context_embedder(negative)]
    length = texts[0].shape[1]
    for block in model.transformer_blocks:
        norm, gate, shift, scale, gate_ff = block.norm1(image, emb=temb)
        outputs, attn = [], HEARD[placement](block.attn)
        for at, text in enumerate(texts):
            c_norm, c_gate, c_shift, c_scale, c_gate_ff = block.norm1_context(text, emb=tembs[at])
            out, c_out = attn(hidden_states=norm, encoder_hidden_states=c_norm, image_rotary_emb=rope)
            outputs.append(out)
            text = text + c_gate[:, None] * c_out
            inner = block.norm2_context(text) * (1 + c_scale[:, None]) + c_shift[:, None]
            texts[at] = text + c_gate_ff[:, None] * block.ff_context(inner)
        image = image + gate[:, None] * attn.project(loop_nag(*outputs, S, TAU, ALPHA).to(image.dtype))
        image = image + gate_ff[:, None] * block.ff(block.norm2(image) * (1 + scale[:, None]) + shift[:, None])
    images = [image, image]
    for block in model.single_transformer_blocks:
        outputs, inside = [], []
        for text, own_image, own_temb in zip(texts, images, tembs, strict=True):
            whole = torch.cat([text, own_image], 1)
            norm, gate = block.norm(whole, emb=own_temb)
            outputs.append(block.attn(hidden_states=norm, image_rotary_emb=rope))
            inside.append((whole, block.act_mlp(block.proj_mlp(norm)), gate))
        guided = loop_nag(*(out[:, length:] for out in outputs), S, TAU, ALPHA).to(image.dtype)
        results = []
        for out, (whole, mlp, gate) in zip(outputs, inside, strict=True):
            attended = torch.cat([out[:, :length], guided], 1)
            results.append(whole + gate[:, None] * block.proj_out(torch.cat([attended, mlp], 2)))
        texts, images = [result[:, :length] for result in results], [result[:, length:] for result in results]
    out: Tensor = model.proj_out(model.norm_out(images[0], temb))
    return out


OFF = {"sd3": {"guidance_scale": 1.0}, "flux": {"true_cfg_scale": 1.0}}


@pytest.mark.parametrize("placement", ["attention", "layer"])
@pytest.mark.parametrize("pooled", [None, "own", "prompt"])
@pytest.mark.parametrize(("name", "by_hand"), [("sd3", sd3_by_hand), ("flux", flux_by_hand)])
def test_joint_attention_equals_two_text_streams_written_by_hand(
    name: str, by_hand: Any, pooled: Any, placement: Any
) -> None:
    pipe = families.build(name)
    calls: list[dict[str, Any]] = []
    answers: list[Tensor] = []

    def watch(module: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        calls.append(kwargs)
        answers.append(output[0])

    handle = pipe.transformer.register_forward_hook(watch, with_kwargs=True)
    families.run(name, prompt="cat", steps=1, **OFF[name])
    families.run(name, steps=1, **OFF[name])
    with attach(pipe, NAG("cat", S, TAU, ALPHA, placement, pooled)) as attached:
        families.run(name, steps=1, **OFF[name])
        assert attached.passes == 2, "the prompt's row and the negative's"
    handle.remove()
    with torch.no_grad():
        whose = calls[1] if pooled == "prompt" else calls[0]
        negative = calls[0]["encoder_hidden_states"]
        expected = by_hand(pipe.transformer, calls[1], negative, whose["pooled_projections"], placement)
    found = answers[2]
    assert len(found) == 2, "the companion rides in the same forward"
    assert float((found[:1] - expected).abs().max()) < 2e-5 * float(expected.abs().max())
    if name == "sd3" or pooled == "prompt":
        assert torch.allclose(found[1], found[0], atol=1e-5), "its image tokens stay those of the prompt"
    assert float((expected - answers[1]).abs().max()) > 1e-3 * float(expected.abs().max())
