"""Guiders in the modular pipelines of every family that diffusers has: the pictures of the attached method."""

from __future__ import annotations

import copy

import diffusers
import families
import pytest
import torch

modular_pipelines = pytest.importorskip("diffusers.modular_pipelines")
if not hasattr(modular_pipelines, "Krea2AutoBlocks"):
    pytest.skip(f"modular pipelines of diffusers {diffusers.__version__} are others", allow_module_level=True)

from modular import modular, run, scale, text_options  # noqa: E402

from negguide.engine import Unsupported, attach  # noqa: E402
from negguide.guiders import ContrastiveGuidance, NAGGuidance, PerpNegGuidance, SignedNegativeGuidance  # noqa: E402
from negguide.methods import NAG, ContrastiveNegative, Negative, NegativePrompt, PerpNeg, Window  # noqa: E402

TWO = ["cat", Negative("hat", 0.5, Window(0, 0.5))]
JOINT = ["sd3", "qwen", "zimage", "klein", "krea2"]


@pytest.mark.parametrize("name", ["sd3", "wan", "zimage", "klein", "ltx", "qwen", "krea2", "hunyuan_video_15"])
@pytest.mark.parametrize("kind", ["perp_neg", "signed", "ccfg"])
def test_a_guider_equals_the_attached_method(name: str, kind: str) -> None:
    guidance = scale(name)
    guider, method = {
        "perp_neg": (PerpNegGuidance(TWO, guidance), PerpNeg(TWO)),
        "signed": (SignedNegativeGuidance(TWO, guidance), NegativePrompt(TWO, mode="signed")),
        "ccfg": (ContrastiveGuidance(TWO, guidance, 0.01), ContrastiveNegative(TWO, 0.01)),
    }[kind]
    pipe = modular(name)
    plain = run(name, pipe)
    with attach(pipe, method):
        expected = run(name, pipe)
    pipe.update_components(guider=guider.encode(pipe, **text_options(name)))
    drawn = run(name, pipe)
    change = float((expected - plain).abs().max())
    assert float((drawn - expected).abs().max()) < min(1e-4, 0.05 * change)


@pytest.mark.parametrize("name", ["wan", "ltx"])
def test_nag_where_text_has_layers_of_its_own(name: str) -> None:
    pipe = modular(name)
    plain = run(name, pipe)
    with attach(pipe, NAG("cat", 4.0, 1.3, 0.6)):
        expected = run(name, pipe)
    pipe.update_components(guider=NAGGuidance("cat", 5.0, 4.0, 1.3, 0.6).encode(pipe, **text_options(name)))
    drawn = run(name, pipe)
    assert float((drawn - expected).abs().max()) < 1e-4 < float((drawn - plain).abs().max())


@pytest.mark.parametrize("name", JOINT)
def test_nag_where_text_shares_layers_is_refused_in_words(name: str) -> None:
    pipe = modular(name)
    pipe.update_components(guider=NAGGuidance("cat", scale(name)).encode(pipe, **text_options(name)))
    with pytest.raises(Unsupported, match=r"negguide\.attach"):
        run(name, pipe)


@pytest.mark.parametrize("name", ["zimage", "krea2", "ltx"])
def test_several_images_each_get_the_negative(name: str) -> None:
    call = {"prompt": ["a pet on grass", "a tree"]}
    pipe = modular(name)
    with attach(pipe, PerpNeg(TWO)):
        expected = run(name, pipe, **call)
    pipe.update_components(guider=PerpNegGuidance(TWO, scale(name)).encode(pipe, **text_options(name)))
    assert float((run(name, pipe, **call) - expected).abs().max()) < 1e-4


def test_embeddings_of_the_users_own() -> None:
    pipe = modular("qwen")
    guider = PerpNegGuidance(["cat"], 5.0).encode(pipe, **text_options("qwen"))
    pipe.update_components(guider=guider)
    expected = run("qwen", pipe)
    embeds = guider._texts["cat"]["prompt_embeds"]
    pipe.update_components(guider=PerpNegGuidance([Negative(embeds=embeds)], 5.0))
    assert torch.allclose(run("qwen", pipe), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["hunyuan_image", "hunyuan_video_15", "motif_video"])
def test_pipeline_classes_that_own_a_guider(name: str) -> None:
    pipe = copy.copy(families.build(name))
    pipe.guider = diffusers.ClassifierFreeGuidance(5.0)
    plain = families.run(name, pipe)
    with attach(pipe, PerpNeg(TWO)):
        expected = families.run(name, pipe)
    pipe.guider = PerpNegGuidance(TWO, 5.0).encode(pipe)
    change = float((expected - plain).abs().max())
    for _ in range(2):
        assert float((families.run(name, pipe) - expected).abs().max()) < min(1e-4, 0.05 * change)
