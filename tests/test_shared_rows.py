"""What companions share with the prompt is computed once, and gives what computing it for every row gives."""

from __future__ import annotations

from typing import Any

import families
import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from negguide.engine import attach, denoiser_modules
from negguide.engine.shared_attention import SharedAttention
from negguide.methods import NAG, Method, NegToMe

# The prompt's pooled vector, so that a companion's own rows would be the prompt's too where nothing is shared.
STRONG = NAG(["cat", "hat"], scale=6.0, tau=2.0, alpha=0.8, pooled="prompt")


def _run(name: str, methods: tuple[Method, ...], call: dict[str, Any]) -> Tensor:
    with attach(families.build(name), *methods):
        return families.run(name, steps=2, **call)


@pytest.mark.parametrize("beside", [(), (NegToMe([families.picture()], 0.9),)], ids=["alone", "with pictures to avoid"])
@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_shared_rows_are_the_rows_of_every_companion(
    name: str, guided: bool, images: int, beside: tuple[Method, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = families.FAMILIES[name]
    call: dict[str, Any] = {"num_images_per_prompt": images} | ({} if guided else {tiny.scale: tiny.off})
    shared = _run(name, (STRONG, *beside), call)
    monkeypatch.setattr(denoiser_modules, "shared_modules", lambda denoiser: None)
    every = _run(name, (STRONG, *beside), call)
    plain = _run(name, beside, call)
    size = float(every.abs().max())
    assert float((shared - every).abs().max()) < 2e-5 * size
    assert float((every - plain).abs().max()) > 1e-4 * size


class _Work(TorchFunctionMode):
    """Counts the multiplications of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.projected = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear:
            self.projected += args[0].numel() * args[1].shape[0]
        return func(*args, **(kwargs or {}))


SHARING = ["sd3", "flux", "qwen", "zimage", "klein", "chroma", "hunyuan_video", "bria", "bria_fibo", "longcat", "krea2"]
SHARING += ["cogview4", "cogvideox", "qwen_controlnet"]


@pytest.mark.parametrize("name", SHARING)
def test_image_tokens_that_a_companion_shares_are_computed_once(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = _run(name, (), {})
    _run(name, (STRONG,), {})  # now all texts are encoded
    joined = []
    attention = SharedAttention._attention

    def spy(self: SharedAttention, query: Tensor, *rest: Any, **more: Any) -> Tensor | None:
        result = attention(self, query, *rest, **more)
        joined.append(result is not None)
        return result

    monkeypatch.setattr(SharedAttention, "_attention", spy)
    with _Work() as once:
        shared = _run(name, (STRONG,), {})
    assert joined and all(joined)
    monkeypatch.setattr(denoiser_modules, "shared_modules", lambda denoiser: None)
    joined.clear()
    with _Work() as twice:
        every = _run(name, (STRONG,), {})
    assert not joined
    assert once.projected < twice.projected
    size = float(every.abs().max())
    assert float((shared - every).abs().max()) < 2e-5 * size
    assert float((every - plain).abs().max()) > 1e-4 * size


@pytest.mark.parametrize("side", ["first", "last"])
@pytest.mark.parametrize("masked", ["none", "keys", "pairs"])
@pytest.mark.parametrize("place", [0, 1], ids=["prompt first", "unconditional first"])
def test_attention_joined_of_two_parts_is_attention(side: Any, masked: str, place: int) -> None:
    image, text, heads, count = 12, 5, 3, 2
    rows, tokens = 4 * count, image + text
    query, key, value = torch.randn(3, rows, heads, tokens, 16, generator=torch.Generator().manual_seed(1))
    cond, companions = slice(place * count, (place + 1) * count), slice(2 * count, rows)
    span = slice(0, image) if side == "first" else slice(text, tokens)
    words = slice(image, tokens) if side == "first" else slice(0, text)
    for tensor in (query, key, value):
        tensor[companions, :, span] = tensor[cond, :, span].repeat(2, 1, 1, 1)
    mask = None
    if masked != "none":
        mask = torch.ones(rows, 1, 1 if masked == "keys" else tokens, tokens, dtype=torch.bool)
        mask[-1, ..., words.start] = False
    with torch.no_grad(), SharedAttention(rows, cond, companions, image, side) as shared:
        result = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert shared.used == 1
    scores = query.double() @ key.double().transpose(-1, -2) / 4
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    assert torch.allclose(result.double(), scores.softmax(-1) @ value.double(), atol=1e-5)


def test_other_attention_is_left_alone() -> None:
    query = torch.randn(4, 2, 10, 8)
    with torch.no_grad(), SharedAttention(4, slice(0, 2), slice(2, 4), 6, "first") as shared:
        causal = functional.scaled_dot_product_attention(query, query, query, is_causal=True)
        functional.scaled_dot_product_attention(query, query[:, :, :3], query[:, :, :3])
        functional.scaled_dot_product_attention(query[:2], query[:2], query[:2])
        functional.scaled_dot_product_attention(query[:, :, :6], query[:, :, :6], query[:, :, :6])
    assert shared.used == 0
    assert torch.equal(causal, functional.scaled_dot_product_attention(query, query, query, is_causal=True))


def test_a_forward_that_fails_leaves_no_attention_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = families.build("sd3")
    broken = pipe.transformer.transformer_blocks[0].attn.add_q_proj

    def fail(*args: Any) -> None:
        raise RuntimeError("out of memory, say")

    handle = broken.register_forward_pre_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="out of memory, say"):
            _run("sd3", (STRONG,), {})
    finally:
        handle.remove()
    assert torch.overrides._get_current_function_mode() is None
