"""The benches of evidence: a one-sided projection, digits without one class, and an adapter trained on own pictures."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lab.bench import digits, one_sided, own_samples
from lab.bench.run import run_arms
from negguide.engine import attach
from negguide.methods import NegativeModel


def test_only_what_leans_towards_the_negative_is_taken_off() -> None:
    direction = torch.tensor([[3.0, 4.0], [-3.0, 4.0], [1.0, 1.0]], dtype=torch.float64)
    towards = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    left = direction - one_sided.leaning(direction, towards)
    assert left.tolist() == [[0.0, 4.0], [-3.0, 4.0], [1.0, 1.0]], "no longer towards it; away already; nowhere"


@pytest.mark.parametrize("name", ["one-sided 1", "one-sided 1, anchored"])
def test_the_one_sided_projection_in_a_pipeline_is_a_loop_by_hand(name: str) -> None:
    from negguide.toybox.load import load_pipeline

    pipe, (method,) = load_pipeline("sd"), one_sided.VARIANTS[name](("a cat",))
    call = {"num_inference_steps": 2, "guidance_scale": 5.0, "output_type": "latent"}
    with attach(pipe, method):
        found = pipe(["a pet"], generator=torch.Generator().manual_seed(1), **call).images
    pipe.scheduler.set_timesteps(2)
    x = torch.randn(1, 8, 16, 16, generator=torch.Generator().manual_seed(1)) * pipe.scheduler.init_noise_sigma
    for t in pipe.scheduler.timesteps:
        eps = {text: _eps(pipe, x, t, text) for text in ("", "a pet", "a cat", "pet")}
        wanted = (eps["a pet"] - eps[""]).double()
        away = (eps["a cat"] - eps["pet" if "anchored" in name else ""]).double()
        leans = max(0.0, float((wanted * away).sum() / (away * away).sum()))
        guided = eps[""].double() + 5.0 * (wanted - leans * away)
        x = pipe.scheduler.step(guided.float(), t, x, return_dict=False)[0]
    assert float((x - found).abs().max()) < 1e-3


@torch.no_grad()
def _eps(pipe: Any, x: Tensor, t: Tensor, text: str) -> Tensor:
    tokens = pipe.tokenizer(
        [text], padding="max_length", max_length=pipe.tokenizer.model_max_length, return_tensors="pt"
    )
    words = pipe.text_encoder(tokens.input_ids).last_hidden_state
    found: Tensor = pipe.unet(x, t, encoder_hidden_states=words).sample
    return found


def _two_heaps(x: Tensor, t: int, label: int) -> Tensor:
    """Epsilon of two equal heaps of one width, at +1 and at -1 in every place; 0 is the first of them, `NOTHING` both."""
    level = float(digits.alphas()[t])
    centre, spread = math.sqrt(level), level * 0.04 + 1 - level
    heaps = torch.stack([torch.full((64,), centre), torch.full((64,), -centre)])
    closeness = (-(x[:, None] - heaps).square().sum(2) / (2 * spread)).softmax(1)
    share = torch.tensor([[1.0, 0.0]]).expand_as(closeness) if label == 0 else closeness
    return math.sqrt(1 - level) * (x - share @ heaps) / spread


def test_the_posterior_of_a_heap_that_is_not_wanted_makes_it_rarer() -> None:
    plain = digits.sample(_two_heaps, 0, digits.NOTHING, digits.ALONE["plain"], None)
    assert 0.3 < (plain.mean(1) > 0).float().mean() < 0.7
    rule = digits.Rule(digits.ALONE["plain"].combine)
    dynamic = digits.Dynamic(prior=0.5, temperature=1.0)
    guided = digits.sample(_two_heaps, 0, digits.NOTHING, rule, dynamic)
    assert (guided.mean(1) > 0).float().mean() < 0.7 * (plain.mean(1) > 0).float().mean()
    assert float((guided.mean(1).abs() - 1).abs().max()) < 0.3, "one of the two is met"
    fixed = digits.sample(_two_heaps, 0, digits.NOTHING, rule, digits.Dynamic(0.5, 0.0))
    assert dynamic.log_p is not None and float(dynamic.log_p.max()) <= math.log(0.5), "expected evidence only falls"
    assert not torch.equal(fixed, guided)


def test_the_table_of_digits_counts_what_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    class Judge:
        def predict(self, pictures: np.ndarray) -> np.ndarray:
            return np.arange(len(pictures)) % 10

    monkeypatch.setattr(digits, "EACH", 20)
    monkeypatch.setattr(digits, "STEPS", 2)
    rules = {"plain": digits.ALONE["plain"]}
    near = lambda pictures: np.zeros(len(pictures), dtype=bool)  # noqa: E731
    text = digits.table(_two_heaps, Judge(), near, rules, groups=False)  # type: ignore[arg-type]
    assert "| plain | 10.0 (" in text and "| 90.0 (" in text and "| 1.00 | 100.0 (" in text


def test_the_adapter_of_own_pictures_is_trained_and_used_in_every_way(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    small = {"PICTURES": 2, "SAMPLING_STEPS": 1, "TRAINING": 3, "BATCH": 2, "OPEN": 1, "SPECIFIED": 1}
    for name, value in small.items():
        monkeypatch.setattr(own_samples, name, value)
    monkeypatch.setattr(own_samples, "generate", partial(own_samples.generate, steps=2))
    wanted = [use for use in own_samples.uses() if use.name in ("plain", "tuned 1", "negative_model 1", "away 0.5")]
    rows = run_arms(tmp_path, wanted, partial(own_samples.run_use, tmp_path), 1)
    assert [row["arm"] for row in rows] == [use.name for use in wanted for _ in range(6)]
    pictures = [np.load(tmp_path / f"{use.name.replace(' ', '-')}.npy").astype(int) for use in wanted]
    assert all(np.abs(pictures[0] - other).max() > 0 for other in pictures[1:])
    pipe, (method,) = own_samples.prepared(tmp_path, wanted[2])
    assert isinstance(method, NegativeModel) and method.adapter in pipe.unet.peft_config
    assert "| away 0.5 |" in own_samples.REPORT.write(rows, tmp_path, {"steps": 2})


def test_the_turned_adapter_is_the_adapter_at_the_opposite_weight(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("peft")
    for name, value in {"PICTURES": 2, "SAMPLING_STEPS": 1, "TRAINING": 3, "BATCH": 2}.items():
        monkeypatch.setattr(own_samples, name, value)
    call = {"num_inference_steps": 1, "guidance_scale": 5.0, "output_type": "latent"}
    away, _ = own_samples.prepared(tmp_path, own_samples.Use("away", 0.5))
    tuned, _ = own_samples.prepared(tmp_path, own_samples.Use("tuned", 1.0))
    tuned.set_adapters([own_samples.ADAPTER], [-0.5])
    found, expected = (
        pipe("a pet", generator=torch.Generator().manual_seed(0), **call).images for pipe in (away, tuned)
    )
    assert float((found - expected).abs().max()) < 1e-3
