"""Negatives longer than the text encoder reads: the words that are lost are told, for every tokenizer and every method."""

from __future__ import annotations

import copy
import warnings

import families
import pytest
import torch

from negguide import NAG, VSF, EachImage, Negative, NegativePrompt, PerpNeg, attach
from negguide.methods import Method
from negguide.pipeline.text_tokens import kept

WORDS = ["red", "green", "blue", "cat", "dog", "owl", "hat", "tree"]
FAMILIES = ["sd15", "sdxl", "sd3", "flux", "pixart", "sana", "wan", "qwen", "zimage", "klein"]


def told(family: str, *methods: Method, calls: int = 1, **more: object) -> tuple[torch.Tensor, list[str]]:
    """A short run and what it warns of lost words."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with attach(families.build(family), *methods):
            for _ in range(calls):
                out = families.run(family, steps=2, **more)
    return out, [str(one.message) for one in caught if "longer than what" in str(one.message)]


def lost_in(sentences: list[str]) -> str:
    (sentence,) = [one for one in sentences if "has no effect" in one]
    return sentence.partition("it is cut, and '")[2].partition("' has no effect")[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_the_words_that_are_told_are_those_without_effect(family: str) -> None:
    limit = {"pixart": 150, "sd3": 300}.get(family, 60)
    text = " ".join(WORDS * (limit // len(WORDS))) + " zebra"
    full, sentences = told(family, NegativePrompt(text))
    lost = lost_in(sentences)
    assert lost.endswith("zebra") and text.endswith(lost)
    read = text[: -len(lost)]
    for other in ("snow", lost.partition(" ")[0] + " snow snow"):
        changed, _ = told(family, NegativePrompt(f"{read}{lost.rpartition(' ')[0]} {other}"))
        assert torch.equal(full, changed), "what is told to be lost may be anything"
    cut = " ".join(lost.split()[:1])
    same_until, _ = told(family, NegativePrompt(f"{read}{cut} snow"))
    assert float((full - same_until).abs().max()) <= 1e-5 * float(full.abs().max())
    fewer, _ = told(family, NegativePrompt(" ".join(read.split()[:-2])))
    assert not torch.equal(full, fewer), "and the words before them act"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_that_is_read_to_its_end_is_met_with_silence(family: str) -> None:
    assert told(family, NegativePrompt("a cat"), PerpNeg(["hat", "a red owl"]))[1] == []


@pytest.mark.parametrize("method", [NegativePrompt, PerpNeg, NAG, VSF])
def test_every_method_with_a_text_tells_once(method: type[Method]) -> None:
    full = " ".join("abcdefghijklmnopqrstuv")  # 22 tokens and two marks: the window of 24
    assert told("sd15", method(full), calls=2)[1] == []
    _, sentences = told("sd15", method(full + " watermark"), calls=2)
    assert len(sentences) == 1 and lost_in(sentences) == "watermark" and "(24 tokens)" in sentences[0]
    for guidance_scale in (1.0, 5.0):
        if method in (NAG, VSF):
            assert lost_in(told("sd15", method(full + " watermark"), guidance_scale=guidance_scale)[1]) == "watermark"
    several = Negative(("cat", full + " watermark"))
    if method is not VSF:
        assert lost_in(told("sd15", method(several), prompt=["a pet", "a car"])[1]) == "watermark"
        each = Negative(EachImage((full + " watermark", None)))
        assert lost_in(told("sd15", method(each), num_images_per_prompt=2)[1]) == "watermark"


def test_a_prompt_that_is_too_long_is_the_pipelines_to_tell() -> None:
    full = " ".join("abcdefghijklmnopqrstuv")
    assert told("sd15", NegativePrompt("v"), prompt=full + " v watermark")[1] == []
    assert told("sd15", NegativePrompt("watermark"), prompt=full + " watermark zebra")[1] == []


def test_an_encoder_that_reads_on_is_told_apart() -> None:
    text = " ".join(WORDS * 4)
    _, sentences = told("sd3", NegativePrompt(text))
    assert len(sentences) == 1 and "CLIPTokenizer" in sentences[0] and "acts through another" in sentences[0]


def test_the_tokenizers_stay_as_they_are() -> None:
    pipe = families.build("sd15")
    tokenizer, state = pipe.tokenizer, dict(pipe.tokenizer.__dict__)
    told("sd15", NegativePrompt(" ".join(WORDS * 9)))
    assert pipe.tokenizer is tokenizer and tokenizer.__dict__.keys() == state.keys()
    assert type(tokenizer).__name__ == "CLIPTokenizer" and type(tokenizer).__module__.startswith("transformers.")


def test_every_vector_of_a_textual_inversion_takes_part() -> None:
    """VSF picks the tokens that it appends: all three of a three-vector word, as of three words of one vector each."""
    pipe = copy.deepcopy(families.build("sd15"))
    pipe.set_progress_bar_config(disable=True)
    vectors = torch.randn(3, pipe.text_encoder.config.hidden_size, generator=torch.Generator().manual_seed(5))
    pipe.load_textual_inversion({"<neg>": vectors}, token="<neg>")
    for at, name in enumerate(("<a>", "<b>", "<c>")):
        pipe.load_textual_inversion({name: vectors[at : at + 1]}, token=name)
    embeds = {"encoder_hidden_states": torch.zeros(1, 24, 4)}
    assert kept(pipe, "<neg>", embeds) == kept(pipe, "<a> <b> <c>", embeds) == [1, 2, 3]
    assert kept(pipe, "<neg> hat", embeds) == kept(pipe, "<a> <b> <c> hat", embeds)
    for method in (VSF, NAG, PerpNeg):
        runs = []
        for text in ("<neg>", "<a> <b> <c>", "<a>"):
            with attach(pipe, method(text)):
                runs.append(families.run("sd15", pipe))
        assert float((runs[0] - runs[1]).abs().max()) < 1e-4 and float((runs[0] - runs[2]).abs().max()) > 1e-3
    text = " ".join(["<neg>"] * 8)  # 24 tokens, two too many
    with attach(pipe, VSF(text)), pytest.warns(UserWarning, match="has no effect"):
        families.run("sd15", pipe)
