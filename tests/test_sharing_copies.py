"""Copies of what is attached are plain; what leaves an attachment, and what goes round it."""

from __future__ import annotations

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from diffusers.utils import logging as diffusers_logging
from sharing_parts import Elsewhere, at, first, guided, run, untouched

import negguide as ng
from negguide.engine import attach, detach
from negguide.methods import PerpNeg
from negguide.pipeline import intercept


@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize(
    "copied",
    [copy.deepcopy, copy.copy, lambda part: pickle.loads(pickle.dumps(part))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_copies_are_plain(copied: Callable[[Any], Any], when: str) -> None:
    a = first()
    plain = run(a)
    copies: list[Any] = []

    def take() -> None:
        copies.extend(copied(part) for part in (a, a.unet, a.scheduler))

    with attach(a, PerpNeg("cat")):
        if when == "before":
            take()
        run(a, callback_on_step_end=at(1, take if when == "during" else lambda: None))
        if when == "after":
            take()
        for twin, part in zip(copies, (a, a.unet, a.scheduler), strict=True):
            assert type(twin) is intercept.base_class(part) and not intercept.is_intercepted(twin)
            assert type(twin).__dict__.get("__reduce_ex__") is None
        pipe, unet, scheduler = copies
        if copied is copy.copy:
            pipe = type(pipe)(**{**pipe.components, "unet": unet, "scheduler": scheduler})
            pipe.set_progress_bar_config(disable=True)
        else:
            assert type(pipe.unet) is type(unet) and type(pipe.scheduler) is type(scheduler)
        assert torch.equal(run(pipe), plain)
    assert torch.equal(run(a), plain)


def test_copies_keep_what_points_back_at_them() -> None:
    """Hooks of accelerate hold the module that holds them."""
    a = first()
    a.unet.itself = [a.unet]
    twins: list[Any] = []
    guided(a, PerpNeg("cat"), callback_on_step_end=at(0, lambda: twins.append(copy.deepcopy(a.unet))))
    assert twins[0].itself[0] is twins[0] is not a.unet
    del a.unet.itself


def test_detach_needs_the_pipeline_only() -> None:
    a = first()
    plain = run(a)
    ng.attach(a, PerpNeg("cat"))
    with pytest.raises(RuntimeError, match=r"negguide\.detach\(pipe\)"):
        ng.attach(a, PerpNeg("dog"))
    assert not torch.equal(run(a), plain)
    ng.detach(a)
    assert torch.equal(run(a), plain) and untouched(a)
    detach(a)
    with attach(a, PerpNeg("dog")):
        ng.detach(a)
        assert torch.equal(run(a), plain)
    with pytest.raises(TypeError, match="diffusers pipeline"):
        detach(a.unet)


def test_the_undecorated_call_is_guided_with_gradients() -> None:
    a = first()
    alone = guided(a, PerpNeg("cat"))
    with attach(a, PerpNeg("cat")) as attached:
        embeds = a.encode_prompt("a pet on grass", "cpu", 1, False)[0].detach().requires_grad_()
        more = families.arguments("sd15") | {"prompt": None, "prompt_embeds": embeds, "return_dict": False}
        found = type(a).__call__.__wrapped__(a, **more)[0]
        assert attached.runs == 1 and torch.allclose(found, alone, atol=1e-4)
        found.sum().backward()
        assert embeds.grad is not None and float(embeds.grad.abs().max()) > 0
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            intercept.base_class(a).__call__.__wrapped__(a, **families.arguments("sd15"))
        assert attached.runs == 1 and "runs unguided" in str(told[0].message) and told[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(a)


def test_probes_in_two_threads_leave_the_verbosity() -> None:
    """The one that began first ends first."""
    from negguide.pipeline import probe

    level = diffusers_logging.get_verbosity()
    quiet, other = probe._quiet(), probe._quiet()
    quiet.__enter__()
    Elsewhere(other.__enter__).get()
    quiet.__exit__(None, None, None)
    assert diffusers_logging.get_verbosity() == diffusers_logging.ERROR
    Elsewhere(lambda: other.__exit__(None, None, None)).get()
    assert diffusers_logging.get_verbosity() == level
