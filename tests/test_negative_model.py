"""Negative models: another denoiser or an adapter predicts what guidance goes away from, and nothing else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide.engine import attach
from negguide.engine.other_weights import loaded
from negguide.methods import NegativeModel, NegativePrompt, PerpNeg, Window, from_json, to_json

STEPS, W = 3, families.FAMILIES["sd15"].w


@pytest.fixture(scope="module")
def worse() -> Any:
    """The tiny UNet, spoilt."""
    twin = copy.deepcopy(families.build("sd15").unet)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(0.8)
    return twin


@pytest.fixture
def lora() -> Iterator[Any]:
    """A pipeline with the adapters "style", at work, and "npo", at work too."""
    peft = pytest.importorskip("peft")
    pipe = copy.deepcopy(families.build("sd15"))
    for seed, name in enumerate(("style", "npo")):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            pipe.unet.add_adapter(
                peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False), adapter_name=name
            )
    pipe.set_adapters(["style", "npo"], [0.7, 1.0])
    yield pipe


@torch.no_grad()
def by_hand(pipe: Any, unet: Any, other: Any, against: str, prompt: str = "a pet on grass") -> Tensor:
    """DDIM written out: `other` predicts for the text `against`, `unet` for the prompt."""
    tokens = pipe.tokenizer([prompt, against], padding="max_length", max_length=24, return_tensors="pt").input_ids
    wanted, unwanted = pipe.text_encoder(tokens)[0].split(1)
    scheduler = copy.deepcopy(pipe.scheduler)
    scheduler.set_timesteps(STEPS)
    height = pipe.unet.config.sample_size
    given = families.arguments("sd15")
    x = torch.randn(1, 4, given.get("height", 2 * height) // 2, given.get("width", 2 * height) // 2,
                    generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma  # fmt: skip
    for t in scheduler.timesteps:
        good = unet(x, t, encoder_hidden_states=wanted).sample
        bad = other(x, t, encoder_hidden_states=unwanted).sample
        x = scheduler.step(bad + W * (good - bad), t, x, return_dict=False)[0]
    return x


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize(
    ("options", "against"),
    [({}, "snow"), ({"reads": "prompt"}, "a pet on grass"), ({"reads": "text", "prompt": "a hat"}, "a hat")],
)
def test_another_denoiser_is_a_loop_by_hand(worse: Any, options: Any, against: str) -> None:
    pipe = families.build("sd15")
    told = {"negative_prompt": "snow"} if against == "snow" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the call's negative prompt is at work, in other weights
        with attach(pipe, NegativeModel(model=worse, **options)) as attached:
            found = families.run("sd15", **told)
    assert attached.passes == 2 * STEPS
    assert distance(found, by_hand(pipe, pipe.unet, worse, against)) < 1e-4


@pytest.mark.parametrize("family", ["sd15", "sd3", "flux", "qwen"])
def test_the_same_weights_are_plain_guidance(family: str) -> None:
    pipe = families.build(family)
    twin = copy.deepcopy(getattr(pipe, "unet", None) or pipe.transformer)
    plain = families.run(family)
    with attach(pipe, NegativeModel(model=twin)):
        assert distance(families.run(family), plain) < 1e-4


def test_an_adapter_acts_on_the_negative_alone(lora: Any) -> None:
    """As a copy of the denoiser that has it does, while "style" is at work in both."""
    with_both = copy.deepcopy(lora.unet)
    before = [list(layer._active_adapter) for layer in lora.unet.modules() if hasattr(layer, "_active_adapter")]
    plain = families.run("sd15", lora)
    with attach(lora, NegativeModel("npo", weight=0.5)) as attached:
        found = families.run("sd15", lora)
    assert attached.passes == 2 * STEPS
    assert torch.equal(families.run("sd15", lora), plain), "what was at work is at work again"
    assert before == [list(layer._active_adapter) for layer in lora.unet.modules() if hasattr(layer, "_active_adapter")]
    stronger = [layer for layer in with_both.modules() if hasattr(layer, "scaling")]
    for layer in stronger:
        layer.scaling["npo"] *= 0.5
    lora.set_adapters(["style"], [0.7])
    assert distance(found, by_hand(lora, lora.unet, with_both, "")) < 1e-4
    with attach(lora, NegativeModel("npo", weight=0.5)):
        assert torch.equal(families.run("sd15", lora), found), "also where it was not at work before"


def test_an_error_leaves_the_adapters_as_they_were(lora: Any) -> None:
    plain = families.run("sd15", lora)

    def fail(*args: Any) -> Any:
        raise KeyError("enough")

    with attach(lora, NegativeModel("npo")), pytest.raises(KeyError, match="enough"):
        families.run("sd15", lora, callback_on_step_end=fail)
    assert torch.equal(families.run("sd15", lora), plain)


def test_other_methods_build_on_it(worse: Any) -> None:
    pipe = families.build("sd15")
    with attach(pipe, NegativeModel(model=worse)) as attached:
        alone = families.run("sd15")
    with attach(pipe, NegativeModel(model=worse), PerpNeg("hat", unconditional="own")) as attached:
        both = families.run("sd15")
    assert attached.passes == 4 * STEPS and distance(both, alone) > 1e-3
    with attach(pipe, NegativeModel(model=worse), NegativePrompt("hat", mode="signed", unconditional="own")):
        assert families.run("sd15").isfinite().all()


def test_a_window_asks_them_only_there(worse: Any) -> None:
    with attach(families.build("sd15"), NegativeModel(model=worse, window=Window(0, 0.5))) as attached:
        families.run("sd15")
    assert [bool(record.conditions) for record in attached.trace] == [True, True, False]


def test_a_folder_is_read_as_the_denoisers_class(worse: Any, tmp_path: Any) -> None:
    pipe = families.build("sd15")
    worse.save_pretrained(tmp_path / "unet")
    with attach(pipe, NegativeModel(model=worse)):
        wanted = families.run("sd15")
    for source in (tmp_path / "unet", tmp_path):
        if source == tmp_path:
            (tmp_path / "model_index.json").write_text("{}")
        method = NegativeModel(model=str(source))
        assert from_json(to_json(method)) == method
        with attach(pipe, method):
            assert torch.equal(families.run("sd15"), wanted)
    loaded.cache_clear()


def test_what_cannot_be_is_told(worse: Any, lora: Any) -> None:
    for options, says in (
        ({}, "either adapter='name' or model="),
        ({"adapter": "a", "model": "b"}, "one of the two"),
        ({"model": "b", "weight": 0.5}, "weight is that of an adapter"),
        ({"adapter": "a", "reads": "text"}, "goes with reads='text'"),
        ({"adapter": "a", "prompt": "hat"}, "goes with reads='text'"),
    ):
        with pytest.raises(ValueError, match=says):
            NegativeModel(**options)
    with pytest.raises(TypeError, match="a denoiser"):
        NegativeModel(model=3)
    with pytest.raises(TypeError, match="no JSON form"):
        to_json(NegativeModel(model=worse))
    with pytest.raises(ValueError, match="only one can have it"):
        attach(families.build("sd15"), NegativeModel("a"), NegativeModel("b"))
    with attach(lora, NegativeModel("nop")), pytest.raises(ValueError, match="no adapter 'nop'; loaded: npo, style"):
        families.run("sd15", lora)
    with attach(families.build("sd15"), NegativeModel("npo")), pytest.raises(ValueError, match="none is loaded"):
        families.run("sd15")
    lora.fuse_lora()
    with attach(lora, NegativeModel("npo")), pytest.raises(ValueError, match=r"unfuse_lora\(\)"):
        families.run("sd15", lora)


def test_adapters_that_are_switched_off_stay_off(lora: Any) -> None:
    """`disable_lora` holds for the prompt's rows, and again after the call; the negative has its adapter all the same."""
    lora.disable_lora()
    run = {"prompt": "a pet on grass"}
    plain = families.run("sd15", lora, **run)
    with attach(lora, NegativeModel("npo")):
        found = families.run("sd15", lora, **run)
    assert distance(found, plain) > 1e-3
    assert torch.equal(families.run("sd15", lora, **run), plain)
    assert all(layer._disable_adapters for layer in lora.unet.modules() if hasattr(layer, "_active_adapter"))
