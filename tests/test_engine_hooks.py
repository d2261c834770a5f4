"""The engine and what is done to the parts of pipelines: adapters, offload, caches, compiling, saving, dtypes."""

from __future__ import annotations

import copy
import dataclasses
import json
from pathlib import Path
from typing import Any

import families
import pytest
import torch

from negguide.engine import attach
from negguide.methods import (
    UNCONDITIONAL,
    Condition,
    Guidance,
    Method,
    Negative,
    PerpNeg,
    Step,
)

NEUTRAL = PerpNeg(Negative("cat", 0.0))
ACTIVE = PerpNeg(["cat", Negative("hat", 0.6)])


def close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = 2e-5) -> bool:
    return float((found - expected).abs().max()) <= tolerance * float(expected.abs().max())


@dataclasses.dataclass(frozen=True)
class Keeping(Method):
    """Keeps the guidance of every step; its edit is the guided prediction itself."""

    wanted: tuple[Condition, ...] = (UNCONDITIONAL,)
    touch: bool = False
    kept: list[Guidance] = dataclasses.field(default_factory=list)

    def conditions(self, step: Step, state: dict[str, Any]) -> tuple[Condition, ...]:
        return self.wanted

    def prompts(self) -> tuple[Condition, ...]:
        return self.wanted

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        self.kept.append(guidance)
        if self.touch:
            guidance.scale = guidance.plain_scale


@pytest.fixture
def sd15() -> Any:
    """Parts of its own, since adapters and hooks change them."""
    return copy.deepcopy(families.build("sd15"))


def test_schedulers_may_be_exchanged_while_attached(sd15: Any) -> None:
    from diffusers import DPMSolverMultistepScheduler, HeunDiscreteScheduler

    with attach(sd15, NEUTRAL) as attached:
        families.run("sd15", sd15)
        for cls, calls in ((HeunDiscreteScheduler, 5), (DPMSolverMultistepScheduler, 3)):
            sd15.scheduler = cls.from_config(sd15.scheduler.config)
            found = families.run("sd15", sd15)
            assert len(attached.trace) == calls and attached.passes == 2 * calls
            attached.detach()
            assert torch.equal(families.run("sd15", sd15), found)
            attached = attach(sd15, NEUTRAL)
    attached.detach()


def test_a_plan_is_not_reused_after_text_weights_changed(sd15: Any) -> None:
    with attach(sd15, ACTIVE) as attached:
        before = families.run("sd15", sd15)
        with torch.no_grad():
            for parameter in sd15.text_encoder.parameters():
                parameter.mul_(1.5)
        after = families.run("sd15", sd15)
        attached.detach()
    with attach(sd15, ACTIVE):
        assert torch.equal(families.run("sd15", sd15), after)
    assert not torch.equal(before, after)


def test_lora(sd15: Any) -> None:
    peft = pytest.importorskip("peft")
    image, text = (
        peft.LoraConfig(r=2, target_modules=names, init_lora_weights=False)
        for names in (["to_q", "to_k", "to_v", "to_out.0"], ["q_proj", "v_proj"])
    )
    try:
        sd15.text_encoder.add_adapter(text)
    except (ImportError, ValueError) as error:
        if "version of peft" not in str(error).lower():
            raise
        pytest.skip(f"this transformers refuses peft {peft.__version__}: {error}")
    sd15.unet.add_adapter(image)
    plain = families.run("sd15", sd15)
    with attach(sd15, NEUTRAL):
        assert torch.equal(families.run("sd15", sd15), plain)
        sd15.set_adapters(["default"], [0.3])
        weaker = families.run("sd15", sd15)
    assert torch.equal(families.run("sd15", sd15), weaker) and not torch.equal(weaker, plain)
    with attach(sd15, ACTIVE):
        assert not close(families.run("sd15", sd15), weaker, 1e-3)
        scaled = {"cross_attention_kwargs": {"scale": 0.5}}
        families.run("sd15", sd15, **scaled)


def test_offload_hooks(sd15: Any) -> None:
    from accelerate import cpu_offload_with_hook
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    plain = families.run("sd15", sd15)
    with attach(sd15, ACTIVE):
        moved = families.run("sd15", sd15)
    freed: list[int] = []
    hook = None
    for part in (sd15.text_encoder, sd15.unet, sd15.vae):
        _, hook = cpu_offload_with_hook(part, "cpu", prev_module_hook=hook)
    sd15._all_hooks = [hook]
    sd15.maybe_free_model_hooks = lambda: freed.append(1)
    with attach(sd15, NEUTRAL):
        assert torch.equal(families.run("sd15", sd15), plain)
    assert len(freed) == 2, "after probing, and at the pipeline's own end"
    with attach(sd15, ACTIVE):
        assert torch.equal(families.run("sd15", sd15), moved)
    for part in (sd15.text_encoder, sd15.unet):
        add_hook_to_module(part, AlignDevicesHook(execution_device="cpu", io_same_device=True))
    with attach(sd15, ACTIVE):
        assert torch.equal(families.run("sd15", sd15), moved)


def test_attention_slicing(sd15: Any) -> None:
    sd15.enable_attention_slicing()
    plain = families.run("sd15", sd15)
    with attach(sd15, NEUTRAL):
        assert torch.equal(families.run("sd15", sd15), plain)
    with attach(sd15, ACTIVE) as attached:
        families.run("sd15", sd15)
    assert attached.passes == 12


def test_first_block_cache_keeps_conditions_apart() -> None:
    from diffusers.hooks import FirstBlockCacheConfig

    pipe = copy.deepcopy(families.build("flux"))
    pipe.transformer.enable_cache(FirstBlockCacheConfig(threshold=5.0))
    plain = families.run("flux", pipe, steps=4)
    assert not torch.equal(plain, families.run("flux", steps=4)), "the cache is at work"
    wanted = (UNCONDITIONAL, Condition("cat"), Condition("a hat!"))
    cached, uncached = Keeping(wanted), Keeping(wanted)
    for method in (NEUTRAL, cached):
        with attach(pipe, method):
            assert torch.equal(families.run("flux", pipe, steps=4), plain), method
    with attach(families.build("flux"), uncached):
        families.run("flux", steps=4)
    for condition in wanted:
        first, alone = cached.kept[0][condition], uncached.kept[0][condition]
        assert torch.equal(first, alone), "nothing to reuse yet: no condition reads what another one left"


def test_saving_while_attached_writes_the_plain_pipeline(tmp_path: Path) -> None:
    pipe = families.build("sd15")
    with attach(pipe, ACTIVE):
        pipe.save_pretrained(tmp_path / "attached")
    pipe.save_pretrained(tmp_path / "plain")
    for part in ("model_index.json", "unet/config.json", "scheduler/scheduler_config.json"):
        assert json.loads((tmp_path / "attached" / part).read_text()) == json.loads(
            (tmp_path / "plain" / part).read_text()
        )
    again = type(pipe).from_pretrained(tmp_path / "attached", safety_checker=None)
    assert type(again.unet) is type(pipe.unet)


@pytest.mark.parametrize("name", ["sd15", "flux", "wan"])
def test_bfloat16(name: str) -> None:
    pipe = copy.deepcopy(families.build(name)).to(torch.bfloat16)
    plain = families.run(name, pipe)
    keeping = Keeping()
    with attach(pipe, NEUTRAL, keeping):
        assert torch.equal(families.run(name, pipe), plain)
    assert keeping.kept[0].plain_scale == pytest.approx(5.0, rel=1e-3)
    with attach(pipe, ACTIVE):
        assert families.run(name, pipe).isfinite().all()


@pytest.mark.slow
def test_compiled_denoiser(sd15: Any) -> None:
    expected = families.run("sd15", sd15)
    sd15.unet = torch.compile(sd15.unet, backend="eager")
    with attach(sd15, NEUTRAL):
        assert close(families.run("sd15", sd15), expected)
    with attach(sd15, ACTIVE) as attached:
        families.run("sd15", sd15)
    assert attached.passes == 12
    assert close(families.run("sd15", sd15), expected)
