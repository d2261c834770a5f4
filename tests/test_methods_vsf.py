"""VSF and inline weights: hand-written attention with the words behind the prompt, and the parser."""

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
from negguide.methods import (
    METHODS,
    NAG,
    VSF,
    EachImage,
    Mask,
    Negative,
    NegativePrompt,
    PerpNeg,
    Window,
    from_json,
    parse_weights,
    to_json,
)
from negguide.pipeline.text_tokens import kept


def test_values_are_weighted_token_by_token() -> None:
    v, w = torch.randn(2, 3, 4), torch.tensor([1.0, -2.0, 0.0])
    found = maths.flip_values(v, w)
    for b in range(2):
        for token in range(3):
            want = [float(w[token]) * x for x in v[b, token].double().tolist()]
            assert found[b, token].tolist() == pytest.approx(want, rel=1e-6)
    assert torch.equal(maths.flip_values(v, torch.ones(2, 3)), v)


def attention(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Softmax attention head by head in float64."""
    parts = []
    for q_h, k_h, v_h in zip(*(x.double().chunk(heads, -1) for x in (q, k, v)), strict=True):
        scores = torch.einsum("bnd,bld->bnl", q_h, k_h) / math.sqrt(q_h.shape[-1])
        exps = (scores - scores.amax(-1, keepdim=True)).exp()
        parts.append(torch.einsum("bnl,bld->bnd", exps / exps.sum(-1, keepdim=True), v_h))
    return torch.cat(parts, -1).to(q.dtype)


class Cross:
    """Cross-attention whose conditional rows also look at words with values of their own weight."""

    def __init__(self, words: Tensor, weight: float, batch: bool) -> None:
        self.words, self.weight, self.batch = words, weight, batch

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Tensor:
        results = []
        for row in range(len(hidden_states)):
            text, x = encoder_hidden_states[row : row + 1], hidden_states[row : row + 1]
            k, v = attn.to_k(text), attn.to_v(text)
            if not self.batch or row >= len(hidden_states) // 2:
                k = torch.cat([k, attn.to_k(self.words)], 1)
                v = torch.cat([v, self.weight * attn.to_v(self.words)], 1)
            results.append(attn.to_out[0](attention(attn.to_q(x), k, v, attn.heads)))
        return torch.cat(results)


def clip_words(pipe: Any, text: str) -> Tensor:
    """Embeddings of a text between its begin and end mark: here one token per letter."""
    found = pipe.encode_prompt(text, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=False)[0]
    return found[:, 1 : 1 + len(text)]


@pytest.mark.parametrize("w", [5.0, 1.0])
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_unets_equal_a_processor_written_by_hand(name: str, w: float) -> None:
    pipe = families.build(name)
    by_hand = copy.deepcopy(pipe)
    by_hand.set_progress_bar_config(disable=True)
    processor = Cross(clip_words(pipe, "cat"), -1.2, batch=w > 1)
    processors = {key: processor if "attn2" in key else old for key, old in by_hand.unet.attn_processors.items()}
    by_hand.unet.set_attn_processor(processors)
    expected, plain = families.run(name, by_hand, guidance_scale=w), families.run(name, guidance_scale=w)
    with attach(pipe, VSF(("cat", 0.6), scale=2.0)) as attached:
        found = families.run(name, guidance_scale=w)
        assert attached.passes == (2 if w > 1 else 1) * len(attached.trace), "no extra pass"
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    assert float((found - plain).abs().max()) > 1e-2 * float(plain.abs().max())


class Joint:
    """Attention of SD3 in which the last tokens of the text have values of another weight."""

    def __init__(self, words: int, weight: float) -> None:
        self.words, self.weight = words, weight

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, **_: Any) -> Any:
        count = hidden_states.shape[1]
        value = attn.add_v_proj(encoder_hidden_states)
        value[:, -self.words :] *= self.weight
        q = torch.cat([attn.to_q(hidden_states), attn.add_q_proj(encoder_hidden_states)], 1)
        k = torch.cat([attn.to_k(hidden_states), attn.add_k_proj(encoder_hidden_states)], 1)
        both = attention(q, k, torch.cat([attn.to_v(hidden_states), value], 1), attn.heads)
        text = both[:, count:] if attn.context_pre_only else attn.to_add_out(both[:, count:])
        return attn.to_out[0](both[:, :count]), text


def test_joint_attention_equals_a_processor_written_by_hand() -> None:
    pipe = families.build("sd3")
    by_hand = copy.deepcopy(pipe)
    by_hand.set_progress_bar_config(disable=True)
    embeds = [pipe.encode_prompt(t, None, None, do_classifier_free_guidance=False) for t in ("a pet on grass", "cat")]
    prompt, cat = embeds[0][0], embeds[1][0]
    first = pipe.tokenizer.model_max_length
    words = [1, 2, 3, *(first + at for at, token in enumerate(pipe.tokenizer_3("cat").input_ids) if token > 2)]
    for block in by_hand.transformer.transformer_blocks:
        block.attn.set_processor(Joint(len(words), -30.0))
    more = torch.cat([prompt, cat[:, words]], 1)
    common = {"guidance_scale": 1.0, "num_inference_steps": 3, "output_type": "latent", "height": 32, "width": 32}
    draw = torch.Generator().manual_seed
    expected = by_hand(prompt_embeds=more, pooled_prompt_embeds=embeds[0][2], generator=draw(0), **common).images
    with attach(pipe, VSF("cat", scale=30.0)) as attached:
        found = pipe("a pet on grass", generator=draw(0), **common).images
        assert attached.passes == len(attached.trace)
    assert float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())
    plain = pipe("a pet on grass", generator=draw(0), **common).images
    assert float((found - plain).abs().max()) > 3e-3 * float(plain.abs().max())


EVERYWHERE = [name for name in families.FAMILIES if name not in ("img2img", "wan22", "zimage")]


@pytest.mark.parametrize("name", EVERYWHERE)
def test_every_family(name: str) -> None:
    pipe, plain = families.build(name), families.run(name)
    with attach(pipe, VSF("cat", scale=0.0)) as attached:
        assert torch.equal(families.run(name), plain) and attached.passes == 2 * len(attached.trace)
    prompts = ["a pet on grass", "one red apple"]
    with attach(pipe, VSF(["cat", Negative("hat", 0.5, Window(0, 0.5))])) as attached:
        seeds = [torch.Generator().manual_seed(0 if name == "inpaint" else i) for i in range(2)]
        both = families.run(name, prompt=prompts, generator=seeds)
        assert attached.passes == 2 * len(attached.trace)
        assert [set(record.methods) for record in attached.trace] == [{"vsf"}] * len(attached.trace)
        for i in range(2):
            alone = families.run(name, prompt=prompts[i], seed=0 if name == "inpaint" else i)
            assert float((both[i : i + 1] - alone).abs().max() / alone.abs().max()) < 2e-4
    assert not torch.equal(both[:1], plain)
    assert torch.equal(families.run(name), plain), "detached"


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux", "wan"])
def test_works_without_guidance_and_beside_others(name: str) -> None:
    tiny, pipe = families.FAMILIES[name], families.build(name)
    plain = families.run(name, steps=4, **{tiny.scale: tiny.off})
    with attach(pipe, VSF("cat")) as attached:
        assert not torch.equal(families.run(name, steps=4, **{tiny.scale: tiny.off}), plain)
        assert attached.passes == 4
    with attach(pipe, NegativePrompt("hat"), PerpNeg("cat"), VSF("cat")) as attached:
        assert families.run(name).isfinite().all()
        assert set(attached.trace[0].methods) == {"negative", "perp_neg", "vsf"}
    if name in ("sd15",):
        with attach(pipe, VSF("cat"), NAG("hat")) as attached:
            assert families.run(name).isfinite().all()
            assert set(attached.trace[0].methods) == {"vsf", "nag"}


@pytest.mark.parametrize("neutral", [VSF("cat", 0.0), VSF(("cat", 0.0)), VSF(Negative("cat", window=(0.5, 0.5)))])
def test_neutral_is_bit_equal_and_free(neutral: VSF) -> None:
    for name in ("sd15", "flux"):
        plain = families.run(name)
        with attach(families.build(name), neutral) as attached:
            assert torch.equal(families.run(name), plain)
            assert attached.trace[0].methods == ()
    assert not neutral.companions()


def test_which_tokens_are_words() -> None:
    def places(name: str, text: str, length: int, **more: Any) -> list[int]:
        return kept(families.build(name), text, {"encoder_hidden_states": torch.zeros(2, length, 4), **more})

    first = families.build("sd3").tokenizer.model_max_length
    assert places("sd15", "cat", 24) == [1, 2, 3]
    t5 = [at for at, token in enumerate(families.build("flux").tokenizer_2("cat").input_ids) if token > 1]
    assert places("flux", "cat", 24) == t5 and 3 <= len(t5) <= 4
    assert places("sd3", "cat", first + 24) == [1, 2, 3, *(first + at for at in t5)]
    assert places("pixart", "cat", 5, encoder_attention_mask=torch.tensor([[1, 1, 0, 0, 0]] * 2)) == [0, 1]
    with pytest.raises(ValueError, match="holds no words"):
        places("sd15", "", 24)
    with pytest.raises(ValueError, match="different numbers of tokens cannot be appended"):
        kept(families.build("sd15"), ("cat", "hats"), {"encoder_hidden_states": torch.zeros(2, 24, 4)})


def test_errors_teach() -> None:
    with attach(families.build("zimage"), VSF("cat")), pytest.raises(Unsupported, match="encoder_hidden_states"):
        families.run("zimage")
    with pytest.raises(ValueError, match="cannot confine 'cat' to a mask; use NAG or PerpNeg"):
        VSF(Negative("cat", mask=Mask(torch.ones(2, 2))))
    with pytest.raises(ValueError, match="one text for all images, not one for each; use NAG or PerpNeg"):
        VSF(Negative(EachImage(("cat", "hat"))))
    with pytest.raises(ValueError, match="VSF got no negative"):
        VSF([])
    with pytest.raises(ValueError, match="scale is -1; possible: from 0"):
        VSF("cat", scale=-1)
    pipe = families.build("sd15")
    projection = pipe.unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_v
    handle = projection.register_forward_hook(lambda module, args, output: output * 1e38)
    with attach(pipe, VSF("cat", scale=1e6)), pytest.raises(FloatingPointError, match="vsf made NaN"):
        families.run("sd15", guidance_scale=1.0)
    handle.remove()


def test_json_and_registry() -> None:
    config = VSF([Negative("cat", 0.5), "hat"], scale=2)
    assert from_json(to_json(config)) == config and from_json(to_json(VSF("cat"))) == VSF("cat")
    assert METHODS["negative_weight"]("cat") == VSF("cat", scale=1.0)


@pytest.mark.parametrize(
    ("text", "prompt", "negatives"),
    [
        ("a portrait (glasses:-1.2), photo", "a portrait, photo", [Negative("glasses", 1.2)]),
        ("(hat:-1) a cat", "a cat", [Negative("hat")]),
        ("a (b) c (d:1.2) \\(e:-1)", "a (b) c (d:1.2) \\(e:-1)", []),
        ("x (red hat : - .5 @0-0.4), (a:-2) y", "x, y", [Negative("red hat", 0.5, Window(0, 0.4)), Negative("a", 2.0)]),
        ("x (a:-1@14.6-1sigma)", "x", [Negative("a", 1.0, Window(14.6, 1, "sigma"))]),
        ("a  smile :-) , (:-)", "a  smile :-) , (:-)", []),
        ("", "", []),
    ],
)
def test_inline_weights(text: str, prompt: str, negatives: list[Negative]) -> None:
    assert parse_weights(text) == (prompt, tuple(negatives))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(hat:-1,2)", "at character 7 of .*'1,2' is not a weight"),
        ("ab (:-1.2)", "at character 4 of .*a weight without text"),
        ("(hat:-1@x)", "the window 'x' is not start-stop"),
    ],
)
def test_inline_weights_say_what_is_wrong(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_weights(text)


def test_near_weight_zero_the_tokens_still_take_their_share_of_attention() -> None:
    """What the docstring says: a jump at 0. When this fails since it is continuous, the docstring is to follow."""
    pipe, plain = families.build("sd15"), families.run("sd15")
    moved = []
    for weight in (0.0, 1e-4, 1.0):
        with attach(pipe, VSF(("cat", weight))):
            moved.append(float((families.run("sd15") - plain).norm()))
    assert moved[0] == 0 and 0.05 * moved[2] < moved[1] < moved[2]
    assert "not continuous at 0" in str(VSF.__doc__)
