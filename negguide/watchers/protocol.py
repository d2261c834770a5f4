"""Who answers questions about pictures: the protocol of watchers, and the forms that their answers may take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclasses.dataclass(frozen=True)
class Question:
    """A question about a picture; `str(question)` is its text.

    `about`: set for a yes-or-no question, the thing whose presence it asks ("hat" in "Is there a hat?"). `options`: the
    words to choose among, for watchers that choose; () leaves it to them.
    """

    text: str
    about: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.text, str) or not self.text.strip():
            raise ValueError(f"a question has the text {self.text!r}; ask in words, e.g. 'What kind of pet is it?'")
        object.__setattr__(self, "options", tuple(self.options))

    def to_dict(self) -> dict[str, object]:
        """As JSON types; `Question(**data)` gives an equal one back."""
        return {"text": self.text, "about": self.about, "options": list(self.options)}

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer in words, and how sure the watcher is, in [0, 1]; None where it does not say."""

    text: str
    confidence: float | None = None


AnswerLike = str | Answer | tuple[str, float] | Mapping[str, object] | None
"""A text, an `Answer`, a (text, confidence) pair, `{"answer": text, "score": confidence}`, or None for no answer."""

Answers = tuple[tuple[tuple[Answer, ...], ...], ...]
"""For each picture, for each question: no, one or several answers."""


class Watcher(Protocol):
    """Anything that can be called so, a plain function too."""

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> Sequence[object]:
        """N RGB pictures, Q questions asked of each -> N rows of Q answers.

        An answer is what `AnswerLike` allows, or a list of such. With one question, a row may be the answer itself.
        """
        ...


def as_answers(replies: object, images: int, questions: int) -> Answers:
    """What a watcher returned -> N rows of Q tuples of answers. `ValueError` says what was needed instead."""
    if isinstance(replies, str | Mapping) or not isinstance(replies, Sequence) or len(replies) != images:
        raise ValueError(
            f"a watcher answered {_short(replies)}; needed for {images} picture(s): a list of {images} row(s)"
        )
    return tuple(_row(row, questions) for row in replies)


def _row(row: object, questions: int) -> tuple[tuple[Answer, ...], ...]:
    if questions == 1 and _is_answer(row):
        return (_cell(row),)
    if _is_answer(row) or not isinstance(row, Sequence) or len(row) != questions:
        raise ValueError(
            f"a watcher answered {_short(row)} for one picture; needed: {questions} answer(s), one a question"
        )
    return tuple(_cell(cell) for cell in row)


def _cell(cell: object) -> tuple[Answer, ...]:
    """One question's answers."""
    if not _is_answer(cell) and isinstance(cell, Sequence):
        return tuple(answer for part in cell for answer in _cell(part))
    if cell is None:
        return ()
    if isinstance(cell, Answer):
        return (cell,)
    if isinstance(cell, str):
        return (Answer(cell),)
    if isinstance(cell, Mapping) and "answer" in cell:
        score = cell.get("score", cell.get("confidence"))
        return (Answer(str(cell["answer"]), None if score is None else float(score)),)
    if isinstance(cell, tuple) and _is_answer(cell):
        return (Answer(cell[0], None if cell[1] is None else float(cell[1])),)
    raise ValueError(f"a watcher answered {_short(cell)}; possible: a text, (text, confidence), Answer(...), None")


def _is_answer(value: Any) -> bool:
    """Whether it is one answer rather than several."""
    if value is None or isinstance(value, str | Answer | Mapping):
        return True
    pair = isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
    return pair and (value[1] is None or (hasattr(value[1], "__float__") and not isinstance(value[1], str)))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
