"""Other people's patches of a denoiser: what they expect of a call is kept, and what keeps features is refused by name."""

from __future__ import annotations

import copy
import sys
import types
from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from torch import Tensor

import negguide as ng
from negguide.engine import Unsupported, attach
from negguide.methods import (
    APG,
    CADS,
    NAG,
    SPELL,
    VSF,
    ContrastiveNegative,
    Method,
    Negative,
    NegativePrompt,
    NegToMe,
    PerpNeg,
)

METHODS: list[Method] = [
    NegativePrompt("cat"),
    PerpNeg(["cat", "hat"]),
    PerpNeg(Negative("cat", window=(0, 0.4))),
    ContrastiveNegative("cat"),
    APG(),
    NAG("cat"),
    VSF("cat"),
    CADS(0.1),
    NegToMe(alpha=0.9),
    SPELL(radius=50.0),
]


@pytest.fixture
def sd15() -> Any:
    return copy.deepcopy(families.build("sd15"))


def named(method: Method) -> str:
    return method.name


@pytest.mark.parametrize("max_batch", [None, 1], ids=["joined", "apart"])
@pytest.mark.parametrize("method", METHODS, ids=named)
def test_what_comes_by_position_goes_by_position(sd15: Any, method: Method, max_batch: int | None) -> None:
    seen: list[tuple[int, frozenset[str]]] = []
    handle = sd15.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((len(args), frozenset(kwargs))), with_kwargs=True
    )
    families.run("sd15", sd15, num_images_per_prompt=2)
    plain = set(seen)
    assert plain == {(2, next(iter(plain))[1])}, "the stock pipeline gives the sample and the time by position"
    seen.clear()
    with attach(sd15, method, max_batch=max_batch):
        families.run("sd15", sd15, num_images_per_prompt=2)
    handle.remove()
    assert seen and set(seen) == plain


def test_pictures_that_are_inverted_and_side_models_too() -> None:
    pipe = copy.deepcopy(families.build("controlnet"))
    seen: list[int] = []
    for part in (pipe.unet, pipe.controlnet):
        part.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    with attach(pipe, PerpNeg("cat")):
        families.run("controlnet", pipe)
    assert set(seen) == {2}
    pipe = copy.deepcopy(families.build("sd15"))
    pipe.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args)))
    with attach(pipe, NegToMe(families.picture(), noise="inverted")):
        families.run("sd15", pipe)
    assert set(seen) == {2}


def test_token_merging_equals_a_loop_by_hand(sd15: Any) -> None:
    tomesd = pytest.importorskip("tomesd")
    tomesd.apply_patch(sd15, ratio=0.5, max_downsample=8, use_rand=False)
    with attach(sd15, PerpNeg("cat")) as attached:
        found = families.run("sd15", sd15, steps=3)
    assert attached.passes == 9
    texts = [sd15.encode_prompt(text, "cpu", 1, False)[0] for text in ("a pet on grass", "", "cat")]
    scheduler = copy.deepcopy(sd15.scheduler)
    scheduler.set_timesteps(3)
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0)) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        shown = scheduler.scale_model_input(latents, t)
        cond, empty, cat = (sd15.unet(shown, t, encoder_hidden_states=text, return_dict=False)[0] for text in texts)
        latents = scheduler.step(perp(cond, empty, cat), t, latents).prev_sample
    assert torch.allclose(found, latents, atol=2e-5 * float(latents.abs().max()))
    with attach(families.build("sd15"), PerpNeg("cat")):
        assert not torch.allclose(families.run("sd15", steps=3), found, atol=1e-4), "merging is at work"


def perp(cond: Tensor, empty: Tensor, negative: Tensor) -> Tensor:
    toward, away = (cond - empty).double(), (negative - empty).double()
    away = away - (away * toward).sum() / (toward * toward).sum() * toward
    return (empty + 5.0 * (toward - away)).float()


def test_deep_cache_is_refused_by_name(sd15: Any) -> None:
    package = pytest.importorskip("DeepCache")
    helper = package.DeepCacheSDHelper(pipe=sd15)
    helper.set_params(cache_interval=2, cache_branch_id=0)
    helper.enable()
    with attach(sd15, PerpNeg("cat")):
        with pytest.raises(Unsupported, match=r"DeepCache is at work.*helper\.disable\(\)"):
            families.run("sd15", sd15)
        helper.disable()
        found = families.run("sd15", sd15)
    with attach(families.build("sd15"), PerpNeg("cat")):
        assert torch.equal(families.run("sd15"), found)


def made_in(package: str, name: str, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A stand-in of somebody's package, with what it puts in the place of a forward, a class and a processor."""
    module = types.ModuleType(package)
    code = f"""
def {name}(self, *args, **kwargs):
    return type(self)._stock(self, *args, **kwargs)
class Processor:
    def __init__(self, inner):
        self.inner = inner
    def __call__(self, *args, **kwargs):
        return self.inner(*args, **kwargs)
"""
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, package, module)
    return module


def replaced_processors(pipe: Any, module: Any) -> None:
    for part in pipe.unet.modules():
        if hasattr(part, "processor"):
            part.processor = module.Processor(part.processor)


def replaced_forward(pipe: Any, module: Any) -> None:
    pipe.unet.mid_block.forward = types.MethodType(module.keeping, pipe.unet.mid_block)


def replaced_class(pipe: Any, module: Any) -> None:
    class Patched(type(pipe.unet)):  # type: ignore[misc]
        forward = module.teacache_forward
        _stock = type(pipe.unet).forward

    pipe.unet.__class__ = Patched


@pytest.mark.parametrize(
    ("package", "function", "patch", "title"),
    [
        ("tgate", "keeping", replaced_processors, "T-GATE is at work"),
        ("cache_dit.factory", "keeping", replaced_forward, "cache-dit is at work.*disable_cache"),
        ("__main__", "teacache_forward", replaced_class, "teacache_forward"),
    ],
)
def test_caches_of_others_are_refused_by_name(
    sd15: Any,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    function: str,
    patch: Callable[[Any, Any], None],
    title: str,
) -> None:
    patch(sd15, made_in(package, function, monkeypatch))
    with ng.attach(sd15, PerpNeg("cat")), pytest.raises(Unsupported, match=title):
        families.run("sd15", sd15)


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux"])
def test_vsf_recovers_when_projections_are_fused_no_more(name: str) -> None:
    pipe = copy.deepcopy(families.build(name))
    denoiser = getattr(pipe, families.FAMILIES[name].denoiser)
    with attach(pipe, VSF("cat")):
        before = families.run(name, pipe)
        denoiser.fuse_qkv_projections()
        with pytest.raises(Unsupported, match="unfuse_qkv_projections"):
            families.run(name, pipe)
        denoiser.unfuse_qkv_projections()
        assert torch.equal(families.run(name, pipe), before)
