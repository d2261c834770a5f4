"""Pipelines that share parts, threads, callbacks that call other pipelines, copies: each call is its own pipeline's."""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
import torch
from sharing_parts import Elsewhere, at, first, guided, run, sibling, untouched
from torch import Tensor

from negguide.engine import attach
from negguide.methods import NegativePrompt, NegToMe, PerpNeg
from negguide.pipeline import intercept


def test_two_threads_on_one_denoiser_each_get_their_own_picture() -> None:
    a, b = first(), first()
    plain, alone_a, alone_b = run(a), guided(a, PerpNeg("cat")), guided(b, NegativePrompt("hat"))
    b_is_in, a_is_out = threading.Event(), threading.Event()
    in_b = Elsewhere(lambda: guided(b, NegativePrompt("hat"), callback_on_step_end=at(0, _both(b_is_in.set, a_is_out))))
    with attach(a, PerpNeg("cat")) as attached:
        found = run(a, callback_on_step_end=at(0, lambda: b_is_in.wait(60)))
    a_is_out.set()
    assert torch.equal(found, alone_a) and attached.passes == 9
    assert torch.equal(in_b.get(), alone_b)
    assert untouched(a) and untouched(b) and torch.equal(run(a), plain)


def test_two_threads_never_use_a_shared_tokenizer_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fast tokenizers keep the padding of the call before: another thread's length would come out now and then."""
    a, b, plain = first(), first(), first()
    tokenizer = a.tokenizer
    inside: list[int] = []
    most: list[int] = []
    others: list[Elsewhere] = []

    def slowly(work: Callable[..., Any]) -> Callable[..., Any]:
        def working(*args: Any, **kwargs: Any) -> Any:
            inside.append(threading.get_ident())
            most.append(len(set(inside)))
            if not others:
                others.append(Elsewhere(lambda: guided(b, NegativePrompt("a tokenizer's hat"), prompt="one")))
                others.append(Elsewhere(lambda: run(plain)))
            time.sleep(0.003)
            try:
                return work(*args, **kwargs)
            finally:
                inside.remove(threading.get_ident())

        return working

    for name in ("_encode_plus", "_batch_encode_plus"):
        if hasattr(tokenizer, name):
            monkeypatch.setitem(tokenizer.__dict__, name, slowly(getattr(tokenizer, name)))
    # Texts that no other test has used, so that nobody remembers them.
    guided(a, PerpNeg("a tokenizer's cat"), prompt="another")
    assert all(isinstance(other.get(), Tensor) for other in others)
    assert len(most) > 4 and max(most) == 1
    assert not intercept.is_intercepted(tokenizer)


def _both(act: Callable[[], Any], event: threading.Event) -> Callable[[], Any]:
    def acts() -> None:
        act()
        event.wait(60)

    return acts


def test_a_run_that_fails_leaves_the_other_one_and_nothing_else() -> None:
    a, b = first(), first()
    plain, alone = run(a), guided(b, PerpNeg("hat"))
    b_is_in, a_is_out = threading.Event(), threading.Event()
    in_b = Elsewhere(lambda: guided(b, PerpNeg("hat"), callback_on_step_end=at(0, _both(b_is_in.set, a_is_out))))

    def fail() -> None:
        b_is_in.wait(60)
        raise ArithmeticError("in the middle")

    with pytest.raises(ArithmeticError), attach(a, PerpNeg("cat")):
        run(a, callback_on_step_end=at(0, fail))
    assert torch.equal(run(a), plain), "also while the other run goes on"
    a_is_out.set()
    assert torch.equal(in_b.get(), alone)
    assert untouched(a) and untouched(b) and torch.equal(run(a), plain)


def test_a_plain_pipeline_in_another_thread_stays_plain() -> None:
    a, b = first(), first()
    plain, alone = run(b, prompt="an apple"), guided(a, PerpNeg("cat"))
    beside: list[Any] = []
    act = at(1, lambda: beside.append(Elsewhere(lambda: run(b, prompt="an apple")).get()))
    assert torch.equal(guided(a, PerpNeg("cat"), callback_on_step_end=act), alone)
    assert torch.equal(beside[0], plain)


@pytest.mark.parametrize("method", [PerpNeg("cat"), NegToMe(alpha=0.9)], ids=["combines", "listens"])
def test_a_call_in_the_middle_of_a_forward_is_not_heard(method: Any) -> None:
    """The other thread's forward comes while this run's hooks are set."""
    a, b = first(), first()
    more: dict[str, Any] = {"num_images_per_prompt": 2}
    plain, alone = run(b, **more), guided(a, method, **more)
    beside: list[Any] = []
    here = threading.get_ident()

    def hook(module: Any, args: Any) -> None:
        if threading.get_ident() == here and not beside:
            beside.append(None)
            beside[0] = Elsewhere(lambda: run(b, **more)).get()

    with attach(a, method):
        handle = a.unet.mid_block.register_forward_pre_hook(hook)
        found = run(a, **more)
        handle.remove()
    assert torch.equal(beside[0], plain) and torch.equal(found, alone)


@pytest.mark.parametrize("kind", ["function", "official"])
def test_a_callback_may_call_another_pipeline_and_the_denoiser_itself(kind: str) -> None:
    from diffusers.callbacks import PipelineCallback

    a, b = first(), first()
    plain, alone = run(b, prompt="an apple"), guided(a, PerpNeg("cat"))
    text = a.encode_prompt("a pet", "cpu", 1, False)[0].expand(2, -1, -1)
    asked = torch.ones(2, 4, 16, 16), torch.tensor(10), text
    answer = a.unet(*asked).sample
    seen: list[Tensor] = []

    def act() -> None:
        seen.append(run(b, prompt="an apple"))
        seen.append(a.unet(*asked).sample)

    class Official(PipelineCallback):
        tensor_inputs: ClassVar[list[str]] = ["prompt_embeds"]

        def callback_fn(self, pipe: Any, i: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            assert "prompt_embeds" in values
            return at(0, act)(pipe, i, t, values)

    callback = at(0, act) if kind == "function" else Official(cutoff_step_ratio=1.0)
    assert torch.equal(guided(a, PerpNeg("cat"), callback_on_step_end=callback), alone)
    assert torch.equal(seen[0], plain) and torch.equal(seen[1], answer)


def test_another_thread_may_ask_the_denoiser_itself() -> None:
    a = first()
    text = a.encode_prompt("a pet", "cpu", 1, False)[0].expand(2, -1, -1)
    asked = torch.ones(2, 4, 16, 16), torch.tensor(10), text
    answer, alone = a.unet(*asked).sample, guided(a, PerpNeg("cat"))
    seen: list[Any] = []
    prepare = a.prepare_latents

    def preparing(*args: Any, **kwargs: Any) -> Tensor:
        """In the middle of the run, where the denoiser is intercepted and no handler is at work."""
        seen.append(Elsewhere(lambda: a.unet(*asked).sample).get())
        return prepare(*args, **kwargs)

    a.prepare_latents = preparing
    assert torch.equal(guided(a, PerpNeg("cat")), alone)
    assert seen and all(torch.equal(one, answer) for one in seen)


def test_an_attached_pipeline_in_the_callback_of_another() -> None:
    a, b = first(), first()
    alone_a, alone_b = guided(a, PerpNeg("cat")), guided(b, PerpNeg("hat"))
    seen: list[Tensor] = []
    with attach(b, PerpNeg("hat")):
        act = at(0, lambda: seen.append(run(b)))
        assert torch.equal(guided(a, PerpNeg("cat"), callback_on_step_end=act), alone_a)
    assert torch.equal(seen[0], alone_b)


def test_a_pipeline_that_runs_another_one_first_does_not_guide_that() -> None:
    b = first()

    class Twice(type(b)):  # type: ignore[misc]
        def check_inputs(self, *args: Any, **kwargs: Any) -> Any:
            drafts.append(run(b, prompt="an apple"))
            return super().check_inputs(*args, **kwargs)

    drafts: list[Tensor] = []
    plain, alone = run(b, prompt="an apple"), guided(first(), PerpNeg("cat"))
    a = Twice(**{**b.components, "scheduler": copy.deepcopy(b.scheduler)}, requires_safety_checker=False)
    a.set_progress_bar_config(disable=True)
    assert torch.equal(guided(a, PerpNeg("cat")), alone)
    assert len(drafts) >= 2 and all(torch.equal(draft, plain) for draft in drafts), "in probes and in the run"


def test_one_scheduler_serves_one_call_at_a_time() -> None:
    a = first()
    b = sibling(a, own_scheduler=False)
    plain, alone = run(b), guided(a, PerpNeg("cat"))
    refused: list[Any] = []

    def others() -> None:
        refused.append(Elsewhere(lambda: run(b)).get())
        refused.append(Elsewhere(lambda: guided(b, PerpNeg("hat"))).get())
        for act in (lambda: run(b), lambda: guided(b, PerpNeg("hat"))):
            with pytest.raises(RuntimeError, match="another call is at work"):
                act()

    assert torch.equal(guided(a, PerpNeg("cat"), callback_on_step_end=at(0, others)), alone)
    assert all("scheduler" in str(error) and isinstance(error, RuntimeError) for error in refused), refused
    assert untouched(a) and torch.equal(run(b), plain)


def test_one_pipeline_runs_one_call_at_a_time() -> None:
    a = first()
    refused: list[Any] = []
    with attach(a, PerpNeg("cat")) as attached:
        alone = run(a)
        act = at(0, lambda: refused.append(Elsewhere(lambda: run(a)).get()))
        assert torch.equal(run(a, callback_on_step_end=act), alone)
        assert isinstance(refused[0], RuntimeError) and "lock" in str(refused[0])
        assert "a pipeline keeps the state" in str(refused[0]), "before it plans anything"
        with pytest.raises(RuntimeError, match="a pipeline keeps the state"):
            run(a, callback_on_step_end=at(0, lambda: run(a)))
        assert torch.equal(run(a), alone) and attached.runs == 3
