"""`attach` on modular pipelines of the real classes: the pictures of the pipeline class of the same model."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import diffusers
import families
import pytest
import torch
from modular import modular, run
from torch import Tensor

modular_pipelines = pytest.importorskip("diffusers.modular_pipelines")
if not hasattr(modular_pipelines, "Flux2KleinBaseAutoBlocks"):
    pytest.skip(f"modular pipelines of diffusers {diffusers.__version__} are others", allow_module_level=True)

from negguide.engine import Unsupported, attach, detach  # noqa: E402
from negguide.guiders import PerpNegGuidance  # noqa: E402
from negguide.methods import APG, CADS, NAG, VSF, Mask, Method, Negative, NegToMe, PerpNeg, Window  # noqa: E402
from negguide.pipeline.modular import in_one_piece  # noqa: E402

TWO = ["cat", Negative("hat", 0.5, Window(0, 0.5))]


def expected(name: str, *methods: Method, scale: float | None = None, **more: Any) -> Tensor:
    with attach(families.build(name), *methods, guidance_scale=scale):
        return families.run(name, output_type="pt", **more)


def close(found: Tensor, other: Tensor) -> bool:
    return float((found - other).abs().max()) < 1e-4


@pytest.mark.parametrize("name", ["sdxl", "wan", "zimage", "ltx"])
@pytest.mark.parametrize("method", [PerpNeg(TWO), NAG("cat", 4.0)], ids=["perp_neg", "nag"])
def test_attach_gives_the_pictures_of_the_pipeline_class(name: str, method: Method) -> None:
    pipe = modular(name)
    plain = run(name, pipe)
    with attach(pipe, method) as attached:
        found = run(name, pipe)
    assert close(found, expected(name, method)) and not close(found, plain)
    assert len(attached.trace) == 3 and attached.runs == 1
    assert torch.equal(run(name, pipe), plain)


def test_flux2_klein_guides_by_its_guider_where_its_class_needs_takeover() -> None:
    pipe = modular("klein")
    with attach(pipe, PerpNeg(TWO)):
        found = run("klein", pipe)
    assert close(found, expected("klein", PerpNeg(TWO))) and not close(found, run("klein", pipe))


def test_takeover_where_there_is_no_guider() -> None:
    pipe = modular("flux")
    with attach(pipe, PerpNeg(TWO)), pytest.raises(ValueError, match="guidance_scale= to attach"):
        run("flux", pipe)
    with attach(pipe, PerpNeg(TWO), guidance_scale=4.0):
        found = run("flux", pipe)
    assert close(found, expected("flux", PerpNeg(TWO), scale=4.0)) and not close(found, run("flux", pipe))


def test_sd3_equals_the_guider() -> None:
    # diffusers' modular SD3 draws other pictures than its pipeline class, also without us.
    pipe = modular("sd3")
    with attach(pipe, PerpNeg(TWO)):
        found = run("sd3", pipe)
    plain = run("sd3", pipe)
    pipe.update_components(guider=PerpNegGuidance(TWO, 5.0).encode(pipe))
    assert close(found, run("sd3", pipe)) and not close(found, plain)


@pytest.mark.parametrize(
    ("methods", "call"),
    [
        ([PerpNeg([Negative("cat", mask=Mask.of(families.region()))]), APG()], {}),
        ([NegToMe(reference="all")], {"num_images_per_prompt": 2}),
        ([VSF("cat")], {}),
        ([CADS()], {}),
        ([PerpNeg("cat", unconditional="own")], {"negative_prompt": "grey"}),
        ([PerpNeg([Negative(("cat", "hat"))])], {"prompt": ["a pet", "a tree"]}),
    ],
    ids=["mask and apg", "negtome", "vsf", "cads", "own negative prompt", "one text per prompt"],
)
def test_what_a_guider_cannot_do(methods: list[Method], call: dict[str, Any]) -> None:
    pipe = modular("sdxl")
    torch.manual_seed(0)
    with attach(pipe, *methods):
        found = run("sdxl", pipe, **call)
    torch.manual_seed(0)
    assert close(found, expected("sdxl", *methods, **call)) and not close(found, run("sdxl", pipe, **call))


def test_the_pipeline_is_given_back_whole() -> None:
    pipe = modular("sdxl")
    cls, guider, before = type(pipe), pipe.guider, dict(pipe.__dict__)
    parts = {name: type(part) for name, part in pipe.components.items()}
    attached = attach(pipe, PerpNeg("cat"))
    with pytest.raises(RuntimeError, match="attached already"):
        attach(pipe, PerpNeg("hat"))
    run("sdxl", pipe)
    assert type(pipe).__name__ == cls.__name__ and isinstance(pipe, cls) and attached.passes == 9
    detach(pipe)
    assert type(pipe) is cls and pipe.guider is guider and pipe.__dict__ == before
    assert {name: type(part) for name, part in pipe.components.items()} == parts
    attached.detach()


def test_a_guider_or_component_that_changes_between_calls_is_followed() -> None:
    pipe = modular("sdxl")
    with attach(pipe, PerpNeg("cat")):
        run("sdxl", pipe)
        pipe.update_components(guider=diffusers.ClassifierFreeGuidance(9.0))
        nine = run("sdxl", pipe)
        pipe.guider.guidance_scale = 5.0
        five = run("sdxl", pipe)
    assert close(nine, expected("sdxl", PerpNeg("cat"), guidance_scale=9.0))
    assert close(five, expected("sdxl", PerpNeg("cat"))) and not close(five, nine)


@pytest.mark.parametrize(
    ("guider", "words"),
    [
        (diffusers.AdaptiveProjectedGuidance(5.0), "its guider is AdaptiveProjectedGuidance"),
        (PerpNegGuidance(["cat"], 5.0), "its guider is PerpNegGuidance"),
        (diffusers.ClassifierFreeGuidance(5.0, start=0.5), "has a window"),
        (diffusers.ClassifierFreeGuidance(5.0, guidance_rescale=0.5), "rescales"),
    ],
)
def test_guiders_of_another_formula_are_refused_in_words(guider: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=rf"{words}.*ClassifierFreeGuidance"):
        attach(modular("sdxl", guider), PerpNeg("hat"))
    pipe = modular("sdxl")
    with attach(pipe, PerpNeg("hat")):
        pipe.update_components(guider=guider)
        with pytest.raises(Unsupported, match=words):
            run("sdxl", pipe)


def test_what_is_no_pipeline_and_a_state_are_refused_in_words() -> None:
    pipe = modular("sdxl")
    with pytest.raises(Unsupported, match=r"init_pipeline\(\)"):
        attach(pipe.blocks, PerpNeg("hat"))
    state = pipe(**{k: v for k, v in families.arguments("sdxl").items() if k != "guidance_scale"})
    with attach(pipe, PerpNeg("hat")), pytest.raises(Unsupported, match="state="):
        pipe(state, num_inference_steps=2)


def test_a_pipeline_that_was_attached_is_not_kept_alive_and_its_plans_are_found_again() -> None:
    pipe = modular("sdxl")
    counts = []
    for _ in range(2):
        asked: list[int] = []
        handle = pipe.text_encoder.register_forward_hook(lambda *_, asked=asked: asked.append(1))
        with attach(pipe, PerpNeg("cat")):
            run("sdxl", pipe)
        handle.remove()
        counts.append(len(asked))
    assert counts[1] < counts[0], "the negative is encoded at the first attach alone"
    gone = weakref.ref(pipe)
    del pipe
    gc.collect()
    assert gone() is None


def test_a_modular_pipeline_of_another_form_is_refused_with_the_remedy() -> None:
    class ModularPipeline:
        """As older diffusers have it: its blocks under another name."""

    with pytest.raises(Unsupported, match="the pipeline class of the same model"):
        in_one_piece(ModularPipeline())
