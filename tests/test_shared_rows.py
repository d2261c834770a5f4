"""What companions share with the prompt is computed once, and gives what computing it for every row gives."""

from __future__ import annotations

from typing import Any

import families
import pytest
from torch import Tensor

from negguide.engine import attach, denoiser_modules
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
    monkeypatch.setattr(denoiser_modules, "image_modules", lambda denoiser: ())
    every = _run(name, (STRONG, *beside), call)
    plain = _run(name, beside, call)
    size = float(every.abs().max())
    assert float((shared - every).abs().max()) < 2e-5 * size
    assert float((every - plain).abs().max()) > 1e-4 * size
