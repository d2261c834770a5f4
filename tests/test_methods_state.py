"""What methods remember in a run: typed, each its own, made once."""

from __future__ import annotations

import dataclasses

from negguide.methods import METHODS, PerpNeg
from negguide.methods.negative_method import EditsGuidance, NegativeMethod
from negguide.methods.state import RunState, memory_of


@dataclasses.dataclass
class _Counted:
    times: int = 0


def test_memory_is_made_once_for_each_method_and_run() -> None:
    first, second = PerpNeg("a"), PerpNeg("a")
    state: RunState = {}
    memory_of(state, first, _Counted).times += 1
    memory_of(state, first, _Counted).times += 1
    assert memory_of(state, first, _Counted).times == 2
    assert memory_of(state, second, _Counted).times == 0  # equal, and yet another one
    assert memory_of({}, first, _Counted).times == 0  # another run


def test_all_methods_of_negatives_share_one_base() -> None:
    """Whoever has a field `negatives` is made of the base; those that edit guidance by predictions are of the other."""
    taking = {entry.method for entry in METHODS.values() if entry.takes_negatives}
    assert taking == {entry.method for entry in METHODS.values() if issubclass(entry.method, NegativeMethod)}
    editing = {cls.__name__ for cls in taking if issubclass(cls, EditsGuidance)}
    assert editing == {"PerpNeg", "NegativePrompt", "ContrastiveNegative", "DynamicNegative"}
