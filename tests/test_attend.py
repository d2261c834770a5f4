"""Another text asked of an attention layer: what is kept of it for a run, and what must never be written over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import families
import pytest
import torch
from torch import Tensor

from negguide.engine import attach
from negguide.engine.attend import TextProjections
from negguide.methods import NAG, EachImage, Negative

STRONG = NAG(["cat", Negative("hat", 0.6)], scale=6.0, tau=2.0, alpha=0.8)
CROSS = ["sd15", "sdxl", "pixart", "sana", "wan"]


def _layers(name: str) -> list[Any]:
    denoiser = getattr(families.build(name), (families.FAMILIES | families.MORE)[name].denoiser)
    return [module for path, module in denoiser.named_modules() if path.endswith("attn2")]


def _run(name: str, method: NAG = STRONG, after_step: Callable[[], None] | None = None, **more: Any) -> Tensor:
    if after_step is not None:

        def callback(pipe: Any, index: int, t: Any, kwargs: dict[str, Tensor]) -> dict[str, Tensor]:
            after_step()
            return {}

        more["callback_on_step_end"] = callback
    with attach(families.build(name), method):
        return families.run(name, **more)


def _projected_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TextProjections, "LIMIT", 0)


@pytest.mark.parametrize("name", CROSS)
def test_kept_keys_and_values_are_those_of_every_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    projections: list[Tensor] = []
    layers = _layers(name)
    handles = [layer.to_v.register_forward_hook(lambda *call: projections.append(call[2])) for layer in layers]
    try:
        watched = _run(name)
        every = len(projections)
    finally:
        for handle in handles:
            handle.remove()
    calls: list[Any] = []
    linear = torch.nn.Linear.forward
    values = {id(layer.to_v) for layer in layers}

    def counted(self: Any, value: Tensor) -> Tensor:
        if id(self) in values:
            calls.append(value)
        return linear(self, value)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    kept = _run(name)
    own = sum(1 for _ in layers) * (every // len(layers)) - 2 * len(layers) * (3 - 1)
    assert len(calls) == own, (
        "two negatives, three steps: projected once instead of three times; hooks on a layer forbid it"
    )
    monkeypatch.undo()
    _projected_anew(monkeypatch)
    assert torch.equal(kept, _run(name)) and torch.equal(kept, watched)


def test_a_weight_that_changes_while_it_runs_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    projection = _layers("sd15")[0].to_k
    before = projection.weight.detach().clone()

    def change() -> None:
        with torch.no_grad():
            projection.weight.mul_(-3.0)

    def back() -> None:
        with torch.no_grad():
            projection.weight.copy_(before)

    plain, kept = _run("sd15"), _run("sd15", after_step=change)
    back()
    _projected_anew(monkeypatch)
    anew = _run("sd15", after_step=change)
    back()
    assert torch.equal(kept, anew) and not torch.equal(kept, plain)


def test_negatives_of_each_image_keep_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"prompt": ["a pet on grass", "one red apples"]}
    method = NAG(Negative(EachImage(("cat", "hat"))), scale=6.0)
    kept = _run("sd15", method, **call)
    _projected_anew(monkeypatch)
    assert torch.equal(kept, _run("sd15", method, **call))


class Recording:
    """Somebody's own processor, which keeps what attention gave."""

    def __init__(self) -> None:
        self.kept: list[Tensor] = []

    def __call__(
        self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, **_: Any
    ) -> Tensor:
        text = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            projected.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for projected in (attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text))
        )
        z = torch.nn.functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        self.kept.append(z)
        self.kept.append(z.clone())
        return attn.to_out[1](attn.to_out[0](z))


def test_what_another_processor_keeps_is_not_written_over() -> None:
    pipe, layer = families.build("sd15"), _layers("sd15")[0]
    plain = _run("sd15")
    before, layer.processor = layer.processor, Recording()
    try:
        found = _run("sd15")
        kept = layer.processor.kept
    finally:
        layer.processor = before
    assert torch.allclose(found, plain, atol=1e-4)
    assert kept and all(torch.equal(z, copy) for z, copy in zip(kept[::2], kept[1::2], strict=True))
    assert pipe.unet.attn_processors
