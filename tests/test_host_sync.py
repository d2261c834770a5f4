"""No method makes the host wait for the device inside a step: nothing asks a tensor for a number or a truth."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import families
import pytest
import torch
from test_contract import METHODS
from torch.utils._python_dispatch import TorchDispatchMode

import negguide
from negguide.engine import attach, finite
from negguide.methods import AdaptiveNegatives

aten = torch.ops.aten
WAITS = {
    aten._local_scalar_dense,
    aten.is_nonzero,
    aten.item,
    aten.equal,
    aten.nonzero,
    aten.masked_select,
    aten.unique_dim,
}
OURS = str(Path(negguide.__file__).parent)


class Waits(TorchDispatchMode):
    """Lines of negguide that make the host wait inside a step."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        states = (
            args and isinstance(args[0], torch.Tensor) and args[0].dtype == torch.uint8
        )  # of generators: on the host
        if func.overloadpacket in WAITS and not states:
            frames = [frame for frame in traceback.extract_stack() if "/torch/" not in frame.filename]
            caller = frames[-2]  # the last is this method
            names = {frame.name for frame in frames if frame.filename.startswith(OURS)}
            # Whether a remembered plan holds, and whether the call's own negative is the one foreseen: at the first step of a run.
            once = bool(names & {"_look", "refresh_own"})
            within = bool(names & {"denoise", "step_done", "check"}) and not once
            if caller.filename.startswith(OURS) and within:
                self.lines.add(f"{caller.filename.removeprefix(OURS)}:{caller.lineno} {caller.line}")
        return func(*args, **(kwargs or {}))


def test_what_makes_the_host_wait_is_seen() -> None:
    guard, result = finite.FiniteGuard(False), torch.ones(3)
    with Waits() as waits:
        guard.check(result, (result,), "at once", 0)
    assert len(waits.lines) == 1, "on a CPU the guard looks at once"


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("family", ["sd15", "flux"])
def test_no_method_makes_the_host_wait(family: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if isinstance(method := METHODS[name].on(family), AdaptiveNegatives):
        pytest.skip("it looks at pictures, which are made on the host")
    if family in METHODS[name].refuses:
        pytest.skip("refused")
    monkeypatch.setattr(finite.FiniteGuard, "_waits", lambda self, tensor: True)
    with attach(families.build(family), method) as attached:
        families.run(family, steps=3, num_images_per_prompt=2)
        with Waits() as waits:
            families.run(family, steps=3, num_images_per_prompt=2)
    assert attached.passes
    assert not waits.lines
