"""The callback that only looks: its log beside pictures decoded by hand, and a run that it does not change."""

from __future__ import annotations

from typing import Any

import families
import numpy as np
import pytest
import torch

import negguide as ng


def brightness(images: Any, questions: Any) -> Any:
    """Says "yes" with the mean of the first channel as its confidence, and "no" of hats."""
    means = [float(np.asarray(image)[..., 0].mean()) / 255 for image in images]
    return [[("no" if q.about == "hat" else "yes", mean) for q in questions] for mean in means]


def test_the_log_says_what_the_watcher_sees_and_the_run_is_the_plain_one() -> None:
    plain = families.run("sd15", num_images_per_prompt=2)
    log = ng.PresenceLog(brightness, ["cat", "hat"])
    for _ in range(2):
        assert torch.equal(families.run("sd15", num_images_per_prompt=2, callback_on_step_end=log), plain)
    assert [entry.step for entry in log.entries] == [0, 1, 2]
    pipe = families.build("sd15")
    pixels = pipe.vae.decode(plain / pipe.vae.config.scaling_factor).sample
    for image, found in zip(pixels, log.entries[-1].scores, strict=True):
        mean = float(((image[0] / 2 + 0.5).clamp(0, 1) * 255).round().mean()) / 255
        assert found["cat"] == pytest.approx(mean, abs=1e-3) and found["hat"] == pytest.approx(1 - mean, abs=1e-3)
    assert log.entries[0].scores != log.entries[-1].scores


def test_every_and_the_last_step() -> None:
    log = ng.PresenceLog(brightness, "cat", every=4)
    families.run("sd15", steps=6, callback_on_step_end=log)
    assert [entry.step for entry in log.entries] == [0, 4, 5]


def test_beside_an_attached_method() -> None:
    log = ng.PresenceLog(brightness, "cat")
    with ng.attach(families.build("sd15"), ng.PerpNeg("hat")):
        expected = families.run("sd15")
        assert torch.equal(families.run("sd15", callback_on_step_end=log), expected)
    assert len(log.entries) == 3


def test_what_it_cannot_do_is_said() -> None:
    with pytest.raises(ValueError, match="what to look for"):
        ng.PresenceLog(brightness, [])
    with pytest.raises(ValueError, match="every=0"):
        ng.PresenceLog(brightness, "cat", every=0)
    with pytest.raises(TypeError, match="watcher"):
        ng.PresenceLog(3, "cat")
    with pytest.raises(ng.Unsupported, match="AdaptiveNegatives"):
        families.run("flux", callback_on_step_end=ng.PresenceLog(brightness, "cat"))
