"""`negguide.modular`: blocks in modular pipelines of the real classes, against guiders that were set by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import families
import pytest
import torch

modular_pipelines = pytest.importorskip("diffusers.modular_pipelines")
if not hasattr(modular_pipelines, "Krea2AutoBlocks"):
    pytest.skip(f"modular pipelines of diffusers {diffusers.__version__} are others", allow_module_level=True)

from modular import BLOCKS, filled, modular, run, scale  # noqa: E402

from negguide import PresenceLog  # noqa: E402
from negguide.guiders import NAGGuidance, NegToMeGuidance, PerpNegGuidance  # noqa: E402
from negguide.methods import Negative, Window  # noqa: E402
from negguide.modular import EncodeNegativesStep, WatchStep, watch  # noqa: E402

TWO = ["cat", Negative("hat", 0.5, Window(0, 0.5))]


def with_step(name: str, guider: Any = None) -> Any:
    blocks = getattr(modular_pipelines, BLOCKS[name])()
    blocks.sub_blocks.insert("negatives", EncodeNegativesStep(), 1)
    return filled(name, blocks, guider)


def by_hand(name: str, guider: Any, **call: Any) -> Any:
    pipe = modular(name)
    inputs = {given.name for given in pipe.blocks.sub_blocks["text_encoder"].inputs} - {"prompt", "negative_prompt"}
    options = {key: value for key, value in families.arguments(name).items() if key in inputs}
    pipe.update_components(guider=guider.encode(pipe, **options))
    return run(name, pipe, **call)


def drawn(name: str, pipe: Any, **negatives: Any) -> Any:
    inputs = {given.name for given in pipe.blocks.inputs}
    given = {key: value for key, value in families.arguments(name).items() if key in inputs}
    return pipe(**{**given, "output_type": "pt", **negatives}, output="videos" if name == "ltx" else "images")


@pytest.mark.parametrize("name", ["sdxl", "ltx", "klein"])
def test_negatives_of_a_call_act_as_a_guider_set_by_hand_and_for_that_call_alone(name: str) -> None:
    pipe = with_step(name)
    plain = run(name, modular(name))
    assert torch.equal(drawn(name, pipe), plain)
    expected = by_hand(name, PerpNegGuidance(TWO, scale(name)))
    assert torch.equal(drawn(name, pipe, negatives=TWO), expected) and not torch.equal(expected, plain)
    assert torch.equal(drawn(name, pipe), plain), "the next call has no negatives"


def test_another_method_with_its_options() -> None:
    found = drawn("sdxl", with_step("sdxl"), negatives=["cat"], negative_method="nag", negative_options={"scale": 5.0})
    assert torch.equal(found, by_hand("sdxl", NAGGuidance(["cat"], 5.0, scale=5.0)))


def test_a_guider_of_ours_keeps_its_settings_and_is_encoded_after_loading(tmp_path: Path) -> None:
    PerpNegGuidance(["cat"], 3.0, stop=0.7).save_pretrained(str(tmp_path))
    pipe = with_step("sdxl", PerpNegGuidance.from_pretrained(str(tmp_path)))
    assert torch.equal(drawn("sdxl", pipe), by_hand("sdxl", PerpNegGuidance(["cat"], 3.0, stop=0.7)))
    other = drawn("sdxl", pipe, negatives=TWO)
    assert torch.equal(other, by_hand("sdxl", PerpNegGuidance(TWO, 3.0, stop=0.7)))
    assert torch.equal(drawn("sdxl", pipe), by_hand("sdxl", PerpNegGuidance(["cat"], 3.0, stop=0.7)))


@pytest.mark.parametrize(
    ("guider", "call", "words"),
    [
        (None, {"negatives": ["cat"], "negative_method": "cads"}, "possible: perp_neg"),
        (None, {"negative_method": "nag"}, "nothing without negatives"),
        (diffusers.ClassifierFreeGuidance(5.0, guidance_rescale=0.5), {"negatives": ["cat"]}, "without rescale"),
        (diffusers.AdaptiveProjectedGuidance(5.0), {"negatives": ["cat"]}, "AdaptiveProjectedGuidance"),
        (PerpNegGuidance(["cat"], 5.0), {"negatives": ["cat"], "negative_method": "nag"}, "negative_method is for"),
        (NegToMeGuidance(2, 5.0), {"negatives": ["cat"]}, "takes no negatives"),
    ],
)
def test_what_cannot_be_is_said(guider: Any, call: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        drawn("sdxl", with_step("sdxl", guider), **call)


def test_the_folder_loads_as_a_repository_of_the_hub_would() -> None:
    folder = Path(__file__).parents[1] / "pipelines" / "modular_sdxl"
    blocks = modular_pipelines.ModularPipelineBlocks.from_pretrained(str(folder), trust_remote_code=True)
    pipe = filled("sdxl", blocks)
    assert torch.equal(drawn("sdxl", pipe, negatives=TWO), by_hand("sdxl", PerpNegGuidance(TWO, 5.0)))


def test_watching_changes_nothing_and_sees_what_the_callback_sees() -> None:
    def sees(pictures: Any, questions: Any) -> Any:
        return [["yes" if picture.getpixel((0, 0))[0] > 127 else "no"] * len(questions) for picture in pictures]

    log = PresenceLog(sees, ["hat"])
    pipe = filled("sdxl", watch(modular_pipelines.StableDiffusionXLAutoBlocks(), log))
    assert torch.equal(drawn("sdxl", pipe), run("sdxl", modular("sdxl")))
    beside = PresenceLog(sees, ["hat"])
    families.run("sdxl", callback_on_step_end=beside)
    assert log.entries == beside.entries and len(log.entries) == 3
    with pytest.raises(ValueError, match="no denoising loop"):
        watch(WatchStep(log), log)
