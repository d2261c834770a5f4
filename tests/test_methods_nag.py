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


S, TAU, ALPHA = 4.0, 1.3, 0.6
"""Far from neutral, and with a tau that bites."""


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
