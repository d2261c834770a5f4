"""Guiders in modular pipelines of the real classes: the latents of the attached method, by text and by embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import torch
from torch import Tensor

guider_utils = pytest.importorskip("diffusers.guiders.guider_utils")
if not hasattr(guider_utils.BaseGuidance, "prepare_inputs_from_block_state"):
    pytest.skip(f"guiders of diffusers {diffusers.__version__} have another form", allow_module_level=True)

from negguide.engine import attach  # noqa: E402
from negguide.guiders import (  # noqa: E402
    ContrastiveGuidance,
    NAGGuidance,
    NegToMeGuidance,
    PerpNegGuidance,
    SignedNegativeGuidance,
)
from negguide.methods import (  # noqa: E402
    NAG,
    ContrastiveNegative,
    Mask,
    Method,
    Negative,
    NegativePrompt,
    NegToMe,
    PerpNeg,
    Positive,
    Window,
)


def modular() -> Any:
    from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks

    parts = families.build("sdxl").components
    pipe = StableDiffusionXLAutoBlocks().init_pipeline()
    pipe.update_components(**{name: part for name, part in parts.items() if part is not None and hasattr(pipe, name)})
    pipe.set_progress_bar_config(disable=True)
    return pipe


def run(pipe: Any, guider: Any = None, **more: Any) -> Tensor:
    if guider is not None:
        pipe.update_components(guider=guider)
    arguments = families.arguments("sdxl", **more)
    arguments.pop("guidance_scale")
    latents: Tensor = pipe(**arguments, output="images")
    return latents


def close(found: Tensor, expected: Tensor) -> bool:
    return float((found - expected).abs().max()) < 1e-4 * float(expected.abs().max())


TWO = ["cat", Negative("hat", 0.5, Window(0, 0.5))]


@pytest.mark.parametrize(
    ("guider", "method"),
    [
        (PerpNegGuidance(TWO, 5.0, [Positive("red")]), PerpNeg(TWO, [Positive("red")])),
        (SignedNegativeGuidance(TWO, 5.0), NegativePrompt(TWO, mode="signed")),
        (SignedNegativeGuidance(TWO, 5.0, scale=2.0), NegativePrompt(TWO, mode="signed", scale=2.0)),
        (ContrastiveGuidance(TWO, 5.0, 0.01, boost_positive=True), ContrastiveNegative(TWO, 0.01, boost_positive=True)),
    ],
    ids=["perp_neg", "signed", "signed with a scale", "ccfg"],
)
def test_a_guider_equals_the_attached_method(guider: Any, method: Method) -> None:
    plain = families.run("sdxl")
    with attach(families.build("sdxl"), method):
        expected = families.run("sdxl")
    pipe = modular()
    found = run(pipe, guider.encode(pipe))
    assert close(found, expected) and not close(found, plain)


@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_nag_as_a_guider_equals_the_attached_method(scale: float, tmp_path: Path) -> None:
    with attach(families.build("sdxl"), NAG(TWO, 4.0, 1.3, 0.6)):
        expected = families.run("sdxl", guidance_scale=scale)
    pipe = modular()
    plain = run(pipe, diffusers.ClassifierFreeGuidance(scale))
    before = dict(pipe.unet.attn_processors)
    guider = NAGGuidance(TWO, scale, 4.0, 1.3, 0.6).encode(pipe)
    found = run(pipe, guider)
    assert close(found, expected) and not close(found, plain)
    assert all(processor is before[name] for name, processor in pipe.unet.attn_processors.items())
    assert torch.equal(run(pipe, guider.new(scale=1.0)), plain)
    guider.save_pretrained(str(tmp_path))
    assert NAGGuidance.from_pretrained(str(tmp_path)).method == guider.method


@pytest.mark.parametrize("until", [1.0, 0.5])
def test_negtome_as_a_guider_equals_the_attached_method(until: float, tmp_path: Path) -> None:
    call = {"num_images_per_prompt": 3}
    pipe = modular()
    plain = run(pipe, diffusers.ClassifierFreeGuidance(5.0), **call)
    with attach(pipe, NegToMe("all", 0.9, 0.5, Window(0, until))):
        expected = run(pipe, **call)
    before = dict(pipe.unet.attn_processors)
    guider = NegToMeGuidance(3, 5.0, "all", 0.9, 0.5, until)
    found = run(pipe, guider, **call)
    assert torch.equal(found, expected) and not close(found, plain)
    assert all(processor is before[name] for name, processor in pipe.unet.attn_processors.items())
    guider.save_pretrained(str(tmp_path))
    assert NegToMeGuidance.from_pretrained(str(tmp_path)).images == 3


@pytest.mark.parametrize(
    "call", [{"prompt": ["a pet on grass", "a tree"], "negative_prompt": ["grey", "sea"]}, {"num_images_per_prompt": 2}]
)
def test_several_prompts_or_images_and_a_negative_prompt_of_the_call(call: dict[str, Any]) -> None:
    # Both at once are left out: diffusers' blocks of SDXL then give pooled texts to the wrong images, also without us.
    with attach(families.build("sdxl"), PerpNeg(TWO, unconditional="own")):
        expected = families.run("sdxl", **call)
    pipe = modular()
    assert close(run(pipe, PerpNegGuidance(TWO, 5.0).encode(pipe), **call), expected)


def test_embeddings_need_no_encoding() -> None:
    pipe = modular()
    expected = run(pipe, PerpNegGuidance(["cat"], 5.0).encode(pipe))
    embeds, _, pooled, _ = families.build("sdxl").encode_prompt("cat", do_classifier_free_guidance=False)
    guider = PerpNegGuidance([Negative(embeds=embeds, pooled=pooled)], 5.0)
    assert close(run(pipe, guider), expected)
    assert "Embedded" in str(guider)


def test_settings_that_change_nothing_are_the_plain_guider() -> None:
    pipe = modular()
    plain = run(pipe, diffusers.ClassifierFreeGuidance(5.0))
    calls: list[int] = []
    handle = pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    try:
        assert torch.equal(run(pipe, PerpNegGuidance([("cat", 0.0)], 5.0)), plain)
        assert len(calls) == 2 * 3, "a negative of weight 0 costs no pass"
        assert PerpNegGuidance(["cat"], 5.0, enabled=False).num_conditions == 1
        stopped = PerpNegGuidance(TWO, 5.0, stop=0.7).encode(pipe)
        for _ in range(2):
            calls.clear()
            run(pipe, stopped)
            assert len(calls) == 4 + 4 + 1, "both negatives open at steps 0 and 1, guidance stops before step 2"
    finally:
        handle.remove()


def test_saving_loading_and_new_keep_the_settings(tmp_path: Path) -> None:
    pipe = modular()
    guider = PerpNegGuidance(TWO, 4.0, [Positive("red", 0.7)]).encode(pipe)
    expected = run(pipe, guider)
    guider.save_pretrained(str(tmp_path))
    again = PerpNegGuidance.from_pretrained(str(tmp_path))
    assert again.method == guider.method and again.guidance_scale == 4.0
    with pytest.raises(RuntimeError, match=r"call guider\.encode\(pipe\)"):
        run(pipe, again)
    assert torch.equal(run(pipe, again.encode(pipe)), expected)
    assert torch.equal(run(pipe, guider.new()), expected), "what was encoded stays"
    assert not close(run(pipe, guider.new(guidance_scale=9.0)), expected)


def test_what_a_guider_cannot_do_is_said() -> None:
    for wrong in (
        Negative("hat", mask=Mask.of(families.region())),
        Negative("hat", window=Window(5.0, 1.0, "sigma")),
        Negative(("hat", "cat")),
    ):
        with pytest.raises(ValueError, match=r"negguide\.attach"):
            PerpNegGuidance([wrong])
    with pytest.raises(TypeError, match="modular pipeline"):
        PerpNegGuidance(["hat"]).encode(families.build("sdxl"))
    guider = PerpNegGuidance([Negative(embeds=torch.ones(3, 8))], 5.0)
    guider.set_state(0, 2, torch.tensor(1))
    text = torch.ones(1, 3, 8)
    with pytest.raises(NotImplementedError, match="is_uncondition"):
        guider.prepare_inputs({"encoder_hidden_states": (text, text), "is_uncondition": (text, text)})
    with pytest.raises(NotImplementedError, match="audio_embeds"):
        guider.prepare_inputs({"audio_embeds": text})
    with pytest.raises(ValueError, match="pooled"):
        guider.prepare_inputs({"prompt_embeds": (text, text), "text_embeds": (text[0], text[0])})
    with pytest.raises(ValueError, match="second text encoder"):
        guider.prepare_inputs({"encoder_hidden_states": (text, text), "encoder_hidden_states_2": (text, text)})
    with pytest.raises(ValueError, match="3 tokens where this pipeline counts 5"):
        guider.prepare_inputs({"encoder_hidden_states": (text, text), "txt_ids": (text, torch.ones(1, 5, 4))})
    with pytest.raises(TypeError, match="takes no max_length; possible: clip_skip"):
        PerpNegGuidance(["hat"]).encode(modular(), max_length=3)
