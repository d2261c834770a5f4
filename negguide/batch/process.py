"""Which of the processes at work this one is, and what it runs on."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from functools import cache

from negguide.experiment.models import device_of


@dataclasses.dataclass(frozen=True)
class Place:
    """Which of the processes at work this is; the main one writes the plan and the table."""

    rank: int
    world: int
    device: str
    is_main: bool


def place_of_process(device: str) -> Place:
    """Which process this is among those that `accelerate launch` started, and its device."""
    from accelerate import PartialState

    state = PartialState(cpu=device_of(device).type == "cpu")  # without this, processes on CPUs do not know each other
    own = state.num_processes > 1 and device in ("auto", "cuda")
    return Place(state.process_index, state.num_processes, str(state.device) if own else device, state.is_main_process)


@cache
def hardware(device: str) -> str:
    """What may round differently elsewhere: the GPU's name, or the CPU's instructions."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else torch.backends.cpu.get_cpu_capability()


@contextlib.contextmanager
def pinned_threads(count: int) -> Iterator[None]:
    """So many threads on the CPU, and as many as before when it ends."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
