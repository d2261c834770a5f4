"""The `tokens` event: what methods hear and change after attention layers, in every way in which pipelines ask."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from listeners import CAT, Listener, Spy, same, scaled

from negguide.engine import Unsupported, attach
from negguide.methods import Interval, Method, PerpNeg, Window
from negguide.methods.tokens import Tokens

LAYOUT = {  # family: its attention layers over image tokens
    "sd15": 8,
    "sdxl": 16,
    "sd3": 1,
    "flux": 2,
    "pixart": 4,
    "sana": 2,
    "wan": 4,
    "qwen": 2,
    "zimage": 2,
    "klein": 1,
}


def hooks(pipe: Any) -> int:
    denoisers = [getattr(pipe, name) for name in ("unet", "transformer") if hasattr(pipe, name)]
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for d in denoisers for m in d.modules())


@pytest.mark.parametrize("family", LAYOUT)
def test_listening_and_writing_back_the_same_changes_nothing(family: str) -> None:
    pipe, plain = families.build(family), families.run(family)
    for edit in (lambda tokens: None, same):
        listener = Listener(edit)
        with attach(pipe, listener) as attached:
            found = families.run(family)
        assert torch.equal(found, plain)
        assert attached.passes == 2 * len(attached.trace)
        assert attached.trace[0].methods == ("ear",)
    names = {t.layer.name for t in listener.heard}
    assert len(names) == LAYOUT[family] == listener.heard[0].layer.count
    assert hooks(pipe) == 0


@pytest.mark.parametrize("family", LAYOUT)
def test_every_branch_of_every_step_is_heard_once_a_layer(family: str) -> None:
    listener = Listener()
    with attach(families.build(family), listener):
        families.run(family, **{"num_videos_per_prompt" if family == "wan" else "num_images_per_prompt": 2})
    heard = [(t.step.index, t.layer.name, branch) for t in listener.heard for branch in t.branches]
    assert len(heard) == len(set(heard)) == 3 * LAYOUT[family] * 2
    assert {branch for *_, branch in heard} == {"cond", "uncond"}
    for tokens in listener.heard:
        for branch in tokens.branches:
            assert tokens[branch].shape[0] == 2
            if tokens.grid is not None:
                assert tokens.grid[0] * tokens.grid[1] == tokens[branch].shape[1]
        assert tokens.context.groups == ((0, 1),)


def test_steps_at_which_nobody_listens_have_no_hooks_and_are_plain() -> None:
    pipe = families.build("sd15")
    plain = families.run("sd15")
    seen: list[int] = []
    block = pipe.unet.mid_block.resnets[0]
    handle = block.register_forward_hook(lambda *_: seen.append(hooks(pipe) - 1))
    try:
        with attach(pipe, Listener(when=lambda step: step.index == 1)):
            assert torch.equal(families.run("sd15"), plain)
    finally:
        handle.remove()
    assert seen == [0, 8, 0]


def test_hooks_are_gone_after_an_exception() -> None:
    pipe = families.build("sd15")
    before = families.run("sd15")

    def fail(tokens: Tokens) -> None:
        raise RuntimeError("no")

    with attach(pipe, Listener(fail)), pytest.raises(RuntimeError, match="no"):
        families.run("sd15")
    assert hooks(pipe) == 0
    assert torch.equal(families.run("sd15"), before)


@pytest.mark.parametrize("family", ["sd15", "flux", "wan", "zimage", "qwen"])
@pytest.mark.parametrize("branch", ["cond", "uncond"])
def test_an_edit_reaches_its_own_branch_only(family: str, branch: str) -> None:
    """A spy at the end of the guidance sees which prediction has moved."""
    moved = {}
    for key, edit in {"plain": lambda tokens: None, "edited": scaled(branch)}.items():
        spy = Spy()
        with attach(families.build(family), Listener(edit), spy):
            families.run(family, steps=1)
        moved[key] = spy.seen[0]
    same_cond, same_base = (torch.equal(a, b) for a, b in zip(moved["plain"], moved["edited"], strict=True))
    assert (same_cond, same_base) == (branch != "cond", branch != "uncond")


TEXT = {  # family: the module whose output holds text tokens too, and how to take them from it
    "sd3": ("transformer_blocks.0.attn", lambda out, n: out[1]),
    "flux": ("transformer_blocks.0.attn", lambda out, n: out[1]),
    "flux single": ("single_transformer_blocks.0.attn", lambda out, n: out[:, : out.shape[1] - n]),
    "zimage": ("layers.1.attention", lambda out, n: out[:, n:]),
}


def outputs_of(pipe: Any, path: str, family: str, *methods: Method) -> Any:
    """What a module of the denoiser gave in the first forward, after all hooks of the run."""
    module, kept, handles = pipe.transformer.get_submodule(path), [], []

    def hook_last(*_: Any) -> None:
        handles.append(module.register_forward_hook(lambda m, args, out: kept.append(out)))

    handles.append(pipe.transformer.register_forward_pre_hook(hook_last))
    try:
        with attach(pipe, *methods):
            families.run(family, steps=1)
    finally:
        for handle in handles:
            handle.remove()
    return kept[0]


@pytest.mark.parametrize("case", TEXT)
def test_text_tokens_are_not_touched(case: str) -> None:
    family, (path, text) = case.split()[0], TEXT[case]
    pipe = families.build(family)

    def fill(tokens: Tokens) -> None:
        for branch in tokens.branches:
            tokens[branch] = torch.full_like(tokens[branch], 7.0)

    listener = Listener(fill, layers=lambda layer: layer.name == path)
    before, after = outputs_of(pipe, path, family), outputs_of(pipe, path, family, listener)
    n = listener.heard[0]["cond"].shape[1]
    assert torch.equal(text(before, n), text(after, n))
    image = after[0] if isinstance(after, tuple) else after
    assert int((image == 7).all(-1).sum(1).max()) == n, "all image tokens, and no other, were replaced"


@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_calls_without_guidance_have_one_branch(family: str) -> None:
    pipe = families.build(family)
    call = {families.FAMILIES[family].scale: 1.0}
    if family == "flux":
        call["negative_prompt"] = None
    plain = families.run(family, **call)
    listener = Listener()
    with attach(pipe, listener):
        assert torch.equal(families.run(family, **call), plain)
    assert {t.branches for t in listener.heard} == {("cond",)}
    assert not listener.heard[0].context.guided
    with attach(pipe, Listener(scaled("cond"))):
        assert not torch.equal(families.run(family, **call), plain)


def test_takeover_has_both_branches() -> None:
    pipe, listener = families.build("klein"), Listener()
    with attach(pipe, listener, guidance_scale=4.0):
        families.run("klein", guidance_scale=1.0)
    assert {b for t in listener.heard for b in t.branches} == {"cond", "uncond"}


@pytest.mark.parametrize("one_call", [False, True])
@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_extra_conditions_are_branches(family: str, one_call: bool) -> None:
    listener = Listener()
    with attach(families.build(family), PerpNeg(["cat"]), listener, one_call=one_call):
        families.run(family, steps=1)
    first = [t for t in listener.heard if t.layer.index == 0]
    assert len(first) == (1 if one_call else 2 if family == "sd15" else 3), (
        "no forward has more rows than the pipeline's own"
    )
    assert {b for t in first for b in t.branches} == {"cond", "uncond", CAT}


def test_interval_leaves_the_prompts_branch() -> None:
    listener = Listener()
    with attach(families.build("sd15"), listener, Interval(Window(0.5, 1.0))):
        families.run("sd15")
    assert {t.branches for t in listener.heard if t.step.index == 0} == {("cond",)}
    assert {frozenset(t.branches) for t in listener.heard if t.step.index == 2} == {frozenset(("cond", "uncond"))}


def test_groups_are_rows_of_the_same_prompt() -> None:
    listener = Listener()
    with attach(families.build("sd15"), listener):
        families.run("sd15", prompt=["a pet", "an apple"], num_images_per_prompt=2, steps=1)
        families.run("sd15", prompt=["a pet", "an apple", "a pet"], steps=1)
    assert listener.heard[0].context.groups == ((0, 1), (2, 3))
    assert listener.heard[-1].context.groups == ((0, 2), (1,))


def test_a_compiled_denoiser_is_refused_with_the_remedy() -> None:
    pipe = families.build.__wrapped__("sd15")
    pipe.unet = torch.compile(pipe.unet, backend="eager")
    with (
        attach(pipe, Listener()),
        pytest.raises(Unsupported, match=r"skip_nnmodule_hook_guards = False.*_dynamo\.reset\(\)"),
    ):
        families.run("sd15", pipe=pipe, steps=1)


@torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)
def test_a_compiled_denoiser_is_heard_with_hook_guards() -> None:
    torch._dynamo.reset()
    pipe = families.build.__wrapped__("sd15")
    expected = []
    for compiled in (False, True):
        if compiled:
            pipe.unet = torch.compile(pipe.unet, backend="eager")
            families.run("sd15", pipe=pipe)
        with attach(pipe, Listener(scaled("cond"), when=lambda step: step.index < 2)):
            expected.append(families.run("sd15", pipe=pipe))
    assert torch.allclose(*expected, atol=1e-5)
    torch._dynamo.reset()


@pytest.mark.parametrize("how", ["module", "wrapped", "repeated blocks"])
@torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)
def test_whole_graphs_are_refused_with_the_remedy(how: str) -> None:
    torch._dynamo.reset()
    name = "flux" if how == "repeated blocks" else "sd15"
    pipe = families.build.__wrapped__(name)
    if how == "module":
        pipe.unet.compile(backend="eager", fullgraph=True)
    elif how == "wrapped":
        pipe.unet = torch.compile(pipe.unet, backend="eager", fullgraph=True)
    else:
        pipe.transformer.compile_repeated_blocks(backend="eager", fullgraph=True)
    plain = families.run(name, pipe=pipe, steps=1)
    with (
        attach(pipe, Listener(scaled("cond"))),
        pytest.raises(Unsupported, match=r"fullgraph=True.*torch._dynamo.reset\(\)"),
    ):
        families.run(name, pipe=pipe, steps=1)
    assert torch.equal(families.run(name, pipe=pipe, steps=1), plain)
    torch._dynamo.reset()


def test_an_unknown_denoiser_is_refused_with_what_is_known() -> None:
    from negguide.engine.attention_layers import attention_layers

    with pytest.raises(Unsupported, match=r"Known: .*Stable Diffusion 1/2"):
        attention_layers(torch.nn.Linear(2, 2))


def test_a_wrong_shape_and_an_absent_branch_are_told() -> None:
    pipe, short = families.build("flux"), Listener(lambda tokens: tokens.__setitem__("cond", tokens["cond"][:, :1]))
    with attach(pipe, short), pytest.raises(ValueError, match="cannot become"):
        families.run("flux", steps=1)
    with attach(pipe, Listener(lambda tokens: tokens["uncond"])), pytest.raises(KeyError, match="which holds"):
        families.run("flux", steps=1)


def test_nan_is_blamed_on_who_made_it() -> None:
    listener = Listener(lambda tokens: tokens.__setitem__("cond", tokens["cond"] * float("nan")))
    with attach(families.build("sd15"), listener), pytest.raises(FloatingPointError, match=r"ear .* step 0"):
        families.run("sd15")
