"""Seed variance: its formula by a loop, noise that belongs to the image, the steps it acts in, what it leaves alone."""

from __future__ import annotations

import math

import families
import pytest
import torch

from negguide import maths
from negguide.engine import attach
from negguide.methods import SeedVariance, from_json, to_json


def test_the_formula_by_a_loop() -> None:
    draw = torch.Generator().manual_seed(0)
    y, noise = torch.randn(2, 3, 5, generator=draw) * 3 + 1, torch.randn(2, 3, 5, generator=draw)
    noise[:, :, 2] = 0
    got = maths.seed_variance(y, noise, 0.4)
    for row, sample in enumerate(y.double().tolist()):
        values = [value for token in sample for value in token]
        mean = math.fsum(values) / len(values)
        std = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
        for place, token in enumerate(sample):
            moved = [value + 0.4 * std * float(noise[row, place, i]) for i, value in enumerate(token)]
            scale = math.hypot(*token) / math.hypot(*moved)
            assert got[row, place].tolist() == pytest.approx([value * scale for value in moved], rel=1e-5)


def test_options_are_checked_and_kept() -> None:
    config = SeedVariance(0.2, strength=0.5, window=(0, 0.4), seed=3)
    assert from_json(to_json(config)) == config
    for options, message in (({"strength": -1}, "strength is -1"), ({"share": 2}, "share is 2; possible: from 0 to 1")):
        with pytest.raises(ValueError, match=message):
            SeedVariance(**options)
    for neutral in (SeedVariance(0), SeedVariance(strength=0), SeedVariance(window=(0.5, 0.5))):
        assert not neutral.edits_embeddings


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux", "wan"])
def test_an_image_does_not_depend_on_its_neighbours_and_a_call_can_be_made_again(name: str) -> None:
    prompts = ["a pet on grass", "one red apple"]
    plain = families.run(name, prompt=prompts)
    with attach(families.build(name), SeedVariance(0.5, 1.0, window=(0, 1))) as attached:
        both = families.run(name, prompt=prompts)
        assert attached.passes == 2 * len(attached.trace)
        assert torch.equal(families.run(name, prompt=prompts), both) and not torch.equal(both, plain)
        for i in range(2):
            alone = families.run(name, prompt=prompts[i], seed=i)
            assert float((both[i : i + 1] - alone).abs().max() / alone.abs().max()) < 2e-4


def test_it_acts_in_its_window_only_with_the_same_noise_at_each_step() -> None:
    got: list[torch.Tensor] = []

    def watch(module: torch.nn.Module, args: object, kwargs: dict[str, torch.Tensor]) -> None:
        got.append(kwargs["encoder_hidden_states"][1])

    pipe = families.build("sd15")
    with attach(pipe, SeedVariance(0.5, 1.0, window=(0, 0.5))):
        handle = pipe.unet.register_forward_pre_hook(watch, with_kwargs=True)
        families.run("sd15", steps=4)
        handle.remove()
    first, second, third, last = got[-4:]
    assert torch.equal(first, second) and torch.equal(third, last) and not torch.equal(second, third)
    assert torch.allclose(first.norm(dim=-1), third.norm(dim=-1), rtol=1e-4)
    changed = (first / first.norm(dim=-1, keepdim=True) - third / third.norm(dim=-1, keepdim=True)).abs() > 1e-6
    assert changed.any() and not torch.equal(first, third)
