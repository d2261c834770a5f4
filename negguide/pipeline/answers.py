"""Answers of encoders that are remembered: the same question has the same answer, whole or row by row."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from negguide.pipeline import argument_tree

_PLAIN = (bool, int, float, str, torch.dtype, torch.device)


class Answer:
    """What a module said to one question. Both are held, not copied: who changes them in place makes this one void."""

    def __init__(self, question: object, answer: object) -> None:
        self.question, self.answer = _mapped(_held, question), _mapped(_held, answer)
        self._tensors = [*_tensors(self.question), *_tensors(self.answer)]
        self._versions = [_version(tensor) for tensor in self._tensors]

    @property
    def is_valid(self) -> bool:
        """Whether nobody has changed a tensor of it since."""
        return [_version(tensor) for tensor in self._tensors] == self._versions

    @property
    def size(self) -> int:
        """Bytes that it keeps."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self._tensors)


def answer(
    remembered: list[Answer],
    original: Callable[..., object],
    args: tuple[object, ...],
    kwargs: dict[str, object],
    by_rows: bool,
) -> Any:
    """What a module says to a question, from memory where it can be; a new answer joins `remembered`."""
    remembered[:] = [kept for kept in remembered if kept.is_valid]
    question = (args, kwargs)
    for kept in remembered:
        if _alike(kept.question, question):
            return _mapped(torch.clone, kept.answer)
    from_rows = _from_rows(remembered, original, question) if by_rows else None
    return _asked(remembered, original, question) if from_rows is None else from_rows


def comparable(question: object) -> bool:
    """Whether a question is made of tensors and plain values only."""
    if isinstance(question, (tuple, list)):
        return all(comparable(item) for item in question)
    if type(question) is dict:
        return all(comparable(item) for item in question.values())
    return question is None or isinstance(question, (Tensor, *_PLAIN))


def _asked(remembered: list[Answer], original: Callable[..., Any], question: Any) -> object:
    args, kwargs = question
    before = _random_state(question)
    answer_of_module = original(*args, **kwargs)
    if all(torch.equal(a, b) for a, b in zip(before, _random_state(question), strict=True)):
        remembered.append(Answer(question, answer_of_module))
    return answer_of_module


def _from_rows(remembered: list[Answer], original: Callable[..., object], question: object) -> object:
    """The answer put together row by row, only new rows being asked for; None where rows cannot be told apart."""
    rows = _rows(question)
    if rows is None:
        return None
    places = [_place(remembered, question, at) for at in range(rows)]
    new: list[int] = []
    for at in range(rows):
        if places[at] is None and not any(_alike_rows(question, at, question, other) for other in new):
            new.append(at)
    if len(new) == rows:
        return None
    if new:
        args, kwargs = _mapped(lambda tensor: tensor[new], question)
        _asked(remembered, original, (args, kwargs))
        places = [_place(remembered, question, at) for at in range(rows)]
    return _gathered([place for place in places if place is not None], rows)


def _gathered(places: Sequence[tuple[Answer, int]], rows: int) -> object:
    if len(places) < rows:
        return None
    for kept, _ in places:
        if any(tensor.ndim == 0 or len(tensor) != _rows(kept.question) for tensor in _tensors(kept.answer)):
            return None
    try:
        return _joined([kept.answer for kept, _ in places], [at for _, at in places])
    except (RuntimeError, KeyError, TypeError):  # answers of different forms
        return None


def _rows(question: object) -> int | None:
    """The number of rows that all tensors of a question share."""
    sizes = {len(tensor) if tensor.ndim else 0 for tensor in _tensors(question)}
    return sizes.pop() or None if len(sizes) == 1 else None


def _place(remembered: Sequence[Answer], question: object, at: int) -> tuple[Answer, int] | None:
    for kept in remembered:
        for row in range(_rows(kept.question) or 0):
            if _alike_rows(question, at, kept.question, row):
                return kept, row
    return None


def _alike_rows(first: object, at: int, second: object, row: int) -> bool:
    return _alike(first, second, lambda a, b: a.shape[1:] == b.shape[1:] and _same(a[at], b[row]))


def _alike(first: Any, second: Any, same: Callable[[Tensor, Tensor], bool] | None = None) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, (tuple, list)):
        return len(first) == len(second) and all(_alike(a, b, same) for a, b in zip(first, second, strict=True))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_alike(first[key], second[key], same) for key in first)
    if isinstance(first, Tensor):
        return (same or _same)(first, second)
    return bool(first == second)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.device == second.device and argument_tree.same(first, second)


def _joined(values: Sequence[Any], rows: Sequence[int]) -> object:
    """Values of one form as one value, from each its row."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.stack([value[row] for value, row in zip(values, rows, strict=True)])
    if isinstance(first, Mapping):
        return type(first)(**{key: _joined([value[key] for value in values], rows) for key in first})
    if type(first) in (tuple, list):
        return type(first)(_joined(items, rows) for items in zip(*values, strict=True))
    if _holds_tensors(first):
        twin = copy.copy(first)
        for key in vars(first):
            setattr(twin, key, _joined([vars(value)[key] for value in values], rows))
        return twin
    return first


def _mapped(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same containers, outputs and distributions with every tensor replaced."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return type(value)(**{key: _mapped(function, item) for key, item in value.items()})
    if type(value) in (tuple, list):
        return type(value)(_mapped(function, item) for item in value)
    if _holds_tensors(value):
        twin = copy.copy(value)
        for key, item in vars(value).items():
            setattr(twin, key, _mapped(function, item))
        return twin
    return value


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif type(value) in (tuple, list):
        for item in value:
            yield from _tensors(item)
    elif _holds_tensors(value):
        yield from _tensors(tuple(vars(value).values()))


def _holds_tensors(value: object) -> bool:
    """Objects such as the distribution that a VAE returns."""
    return hasattr(value, "__dict__") and any(isinstance(item, Tensor) for item in vars(value).values())


def _held(tensor: Tensor) -> Tensor:
    """Tensors of inference mode do not tell when they are changed: a copy is kept of them."""
    return tensor.clone() if tensor.is_inference() else tensor


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else int(tensor._version)


def _random_state(question: object) -> list[Tensor]:
    """Changed by who draws at random (dropout at work): such answers are not the same the next time."""
    devices = {tensor.device for tensor in _tensors(question)}
    cuda = [torch.cuda.get_rng_state(device) for device in devices if device.type == "cuda"]
    mps = [torch.mps.get_rng_state() for device in devices if device.type == "mps"]
    return [torch.get_rng_state(), *cuda, *mps]
