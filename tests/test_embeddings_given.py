"""Negatives that are embeddings, and negatives of words beside a prompt that is given as embeddings of any length."""

from __future__ import annotations

import copy
import dataclasses
import types
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide import NAG, VSF, Negative, NegativePrompt, PerpNeg, Positive, Window, attach, to_json
from negguide.methods import Condition, Method
from negguide.methods.step import Embedded

FAMILIES = ["sd15", "controlnet", "sdxl", "sd3", "flux", "pixart", "sana", "wan"]


def asked(family: str, **more: Any) -> dict[str, Any]:
    """What the denoiser of a plain call is given first."""
    pipe = families.build(family)
    seen: list[dict[str, Any]] = []
    denoiser = getattr(pipe, families.FAMILIES[family].denoiser)
    handle = denoiser.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    families.run(family, steps=2, **more)
    handle.remove()
    return seen[0]


def draw(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def embeddings(family: str, tokens: int = 0) -> tuple[Tensor, Tensor | None]:
    """Drawn ones of the shape that a family takes."""
    named = asked(family)
    length, width = named["encoder_hidden_states"].shape[1:]
    added = named.get("added_cond_kwargs") or {}
    pooled = named.get("pooled_projections", added.get("text_embeds"))
    return draw(1, tokens or length, width), None if pooled is None else draw(1, pooled.shape[-1], seed=4)


def stock(family: str, embeds: Tensor, pooled: Tensor | None, **more: Any) -> Tensor:
    """The pipeline's own negative embeddings."""
    pipe = families.build(family)
    parameters = type(pipe).__call__.__wrapped__.__code__.co_varnames
    given: dict[str, Any] = {"negative_prompt_embeds": embeds}
    if pooled is not None:
        given["negative_pooled_prompt_embeds"] = pooled
    if "negative_prompt_attention_mask" in parameters:
        given["negative_prompt_attention_mask"] = torch.ones(embeds.shape[:2], dtype=torch.long)
    if families.FAMILIES[family].needs_negative:
        given["negative_prompt"] = None
    if family in ("pixart", "sana"):  # they take both as embeddings or none
        named = asked(family)
        given |= {"prompt": None, "negative_prompt": None, "prompt_embeds": named["encoder_hidden_states"][1:]}
        given["prompt_attention_mask"] = (named["encoder_attention_mask"][1:] == 1).long()
    return families.run(family, **given, **more)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_negative_of_embeddings_is_the_pipelines_own(family: str) -> None:
    embeds, pooled = embeddings(family)
    wanted = stock(family, embeds, pooled)
    plain = families.run(family)
    with attach(families.build(family), NegativePrompt(Negative(embeds=embeds, pooled=pooled))):
        found = families.run(family)
    assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
    assert not torch.equal(found, plain) and torch.equal(families.run(family), plain)


@pytest.mark.parametrize(("family", "length"), [("zimage", 64), ("klein", 32), ("qwen", 32)])
def test_what_the_pipeline_encodes_says_what_the_text_says(family: str, length: int) -> None:
    pipe, more = families.build(family), families.arguments(family)
    layers = {"text_encoder_out_layers": more["text_encoder_out_layers"]} if "text_encoder_out_layers" in more else {}
    encoded = pipe.encode_prompt(prompt="cat", device="cpu", max_sequence_length=length, **layers)[0]
    with attach(pipe, NegativePrompt("cat")):
        wanted = families.run(family)
    with attach(pipe, NegativePrompt(Negative(embeds=encoded[0]))):
        found = families.run(family)
    assert float((found - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert not torch.equal(found, families.run(family))


@pytest.mark.parametrize("family", ["sd15", "sdxl", "flux", "sd3"])
def test_rows_for_prompts_and_what_compel_returns(family: str) -> None:
    embeds, pooled = embeddings(family)
    other, other_pooled = embeds.flip(1), None if pooled is None else -pooled
    both, both_pooled = torch.cat([embeds, other]), None if pooled is None else torch.cat([pooled, other_pooled])
    forms: list[Any] = [
        Negative(embeds=embeds[0], pooled=None if pooled is None else pooled[0]),
        Negative(embeds=(embeds, pooled) if pooled is not None else embeds),
        Negative(embeds=types.SimpleNamespace(embeds=embeds, pooled_embeds=pooled)),
    ]
    assert forms[0].condition != forms[1].condition == forms[2].condition == Condition(Embedded(embeds.clone(), pooled))
    prompts, seeds = ["a pet on grass", "one red apple"], [torch.Generator().manual_seed(i) for i in range(2)]
    with attach(families.build(family), NegativePrompt(Negative(embeds=both, pooled=both_pooled))):
        found = families.run(family, prompt=prompts, generator=seeds)
    for at, (one, one_pooled) in enumerate(((embeds, pooled), (other, other_pooled))):
        wanted = stock(family, one, one_pooled, prompt=prompts[at], seed=at)
        assert float((found[at : at + 1] - wanted).abs().max()) < 2e-4 * float(wanted.abs().max())
    runs = []
    for negative in forms:
        with attach(families.build(family), PerpNeg(negative)):
            runs.append(families.run(family))
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[1], runs[2])
    method = PerpNeg(Negative(embeds=both, pooled=both_pooled))
    with attach(families.build(family), method), pytest.raises(ValueError, match="one row for all"):
        families.run(family)


@pytest.mark.parametrize("method", [PerpNeg, NAG, NegativePrompt])
def test_embeddings_of_another_length_than_the_prompts(method: type[Method]) -> None:
    """Two windows beside a prompt of words equal the padded loop where the pipeline can be given both as embeddings."""
    embeds, _ = embeddings("sd15", tokens=48)
    with attach(families.build("sd15"), method(Negative(embeds=embeds))):
        found = families.run("sd15")
    assert found.isfinite().all() and not torch.equal(found, families.run("sd15"))
    with attach(families.build("sd15"), method(Negative(embeds=embeds[:, :24]))):
        assert not torch.equal(found, families.run("sd15"))


def windows(pipe: Any, *texts: str) -> Tensor:
    """Encodings of texts, one window each, one behind another, as compel joins them."""
    return torch.cat([pipe.encode_prompt(text, "cpu", 1, False)[0] for text in texts], dim=1)


@pytest.mark.parametrize("count", [1, 2])
def test_words_beside_a_prompt_of_several_windows_equal_padded_embeddings(count: int) -> None:
    pipe = families.build("sd15")
    prompt, empty = windows(pipe, "a pet on grass", "very detailed", "red"), windows(pipe, "", "", "")
    call = {"prompt": None, "prompt_embeds": prompt.repeat(count, 1, 1), "negative_prompt_embeds": empty.repeat(count, 1, 1),
            "generator": [torch.Generator().manual_seed(at) for at in range(count)]}  # fmt: skip

    def fresh() -> dict[str, Any]:
        return {**call, "generator": [torch.Generator().manual_seed(at) for at in range(count)]}

    cat = windows(pipe, "cat", "", "").repeat(count, 1, 1)
    wanted = families.run("sd15", **{**fresh(), "negative_prompt_embeds": cat})
    for negative in ("cat", Negative(embeds=windows(pipe, "cat", "", ""))):
        with attach(
            pipe,
            NegativePrompt(negative),
        ):
            found = families.run("sd15", **{**fresh(), "negative_prompt_embeds": empty.repeat(count, 1, 1)})
        assert float((found - wanted).abs().max()) < 1e-5 * float(wanted.abs().max())
    runs = []
    for negative in ("cat", Negative(embeds=windows(pipe, "cat", "", ""))):
        for method in (PerpNeg, NAG):
            with attach(pipe, method(negative)):
                runs.append(families.run("sd15", **fresh()))
    for text, given in ((runs[0], runs[2]), (runs[1], runs[3])):
        assert float((text - given).abs().max()) < 1e-5 * float(given.abs().max())
    with attach(pipe, VSF("cat")):
        assert families.run("sd15", **fresh()).isfinite().all()


@pytest.mark.parametrize("family", ["sdxl", "sd3", "pixart"])
def test_words_beside_long_embeddings_elsewhere(family: str) -> None:
    embeds, pooled = embeddings(family, tokens=2 * asked(family)["encoder_hidden_states"].shape[1])
    given: dict[str, Any] = {"prompt": None, "prompt_embeds": embeds, "negative_prompt_embeds": embeds.flip(1)}
    if pooled is not None:
        given |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": -pooled}
    if family == "pixart":
        mask = torch.ones(embeds.shape[:2], dtype=torch.long)
        given |= {"prompt_attention_mask": mask, "negative_prompt_attention_mask": mask, "negative_prompt": None}
    plain = families.run(family, **given)
    for method in (NegativePrompt("cat"), PerpNeg("cat")):
        with attach(families.build(family), method):
            found = families.run(family, **given)
        assert found.isfinite().all() and not torch.equal(found, plain)


def test_what_cannot_be_is_told() -> None:
    embeds, pooled = draw(1, 24, 32), draw(1, 32)
    for make, message in (
        (lambda: Negative("cat", embeds=embeds), "give one of the two"),
        (lambda: Negative(pooled=pooled), "pooled embeddings and no others"),
        (lambda: Negative(embeds=embeds.long()), "floating-point"),
        (lambda: Negative(embeds=embeds[None]), "possible: .L, C."),
        (lambda: Negative(embeds="cat"), "floating-point"),
        (lambda: PerpNeg(embeds), r"is a tensor .1, 24, 32.; write Negative\(embeds=...\)"),
        (lambda: PerpNeg([embeds]), r"write Negative\(embeds=...\)"),
        (lambda: VSF(Negative(embeds=embeds)), "which embeddings do not show; use NAG"),
        (lambda: to_json(PerpNeg(Negative(embeds=embeds))), "no JSON form; give the negative as a text"),
    ):
        with pytest.raises((TypeError, ValueError), match=message) as told:
            make()
        assert len(str(told.value)) < 300
    for family, negative, message in (
        ("sdxl", Negative(embeds=embeds), "needs pooled embeddings"),
        ("sd15", Negative(embeds=embeds, pooled=pooled), "takes no pooled embeddings"),
    ):
        with attach(families.build(family), PerpNeg(negative)), pytest.raises(ValueError, match=message):
            families.run(family)


def test_a_negative_of_embeddings_has_a_weight_and_a_window_like_others() -> None:
    negative = Negative(embeds=draw(24, 32), weight=0.5, window=(0, 0.5))
    twice = dataclasses.replace(negative, weight=1.0)
    assert twice.prompt == negative.prompt and twice.weight == 1.0 and twice.window == Window(0, 0.5)
    assert "Embedded((24, 32))" in repr(negative) and copy.deepcopy(negative) == negative
    assert Positive(embeds=draw(24, 32)).prompt == negative.prompt and hash(negative.prompt) == hash(twice.prompt)
    assert Negative(embeds=draw(24, 32, seed=9)) != Negative(embeds=draw(24, 32))
