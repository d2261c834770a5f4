"""What is asked of a picture: given questions, a template for a category, or one derived from the prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from negguide.watchers.protocol import Question
from negguide.watchers.words import canonical, head_noun

KIND = "What kind of {noun} is it?"

TEMPLATES: dict[str, tuple[str, ...]] = {
    "building": (KIND, "What is the {noun} made of?"),
    "garment": (KIND, "What is the {noun} made of?", "What colour is it?"),
    "person": (KIND, "What is the person wearing?"),
    "scene": ("What place is it?",),
    "style": ("In what style is the picture made?",),
}
"""Questions for a category; `{noun}` is the category's name. Every other category is asked `KIND`."""

PRESENCE = "{verb} there {thing} in the picture?"

QuestionLike = str | Question | Mapping[str, Any]


def as_questions(values: QuestionLike | Sequence[QuestionLike]) -> tuple[Question, ...]:
    """One or many questions; a text stands for `Question(text)`, `{noun}` in it for what the prompt is of."""
    several = (values,) if isinstance(values, str | Question | Mapping) else tuple(values)
    return tuple(_as_question(value) for value in several)


def of_category(category: str) -> tuple[Question, ...]:
    """The questions of the template for a category."""
    texts = TEMPLATES.get(canonical(category), (KIND,))
    return tuple(Question(text.replace("{noun}", category.strip())) for text in texts)


def of_prompt(prompt: str) -> tuple[Question, ...]:
    """What to ask of a picture made for this prompt: what kind its head noun is, or else what the picture shows."""
    noun = head_noun(prompt)
    return of_category(noun) if noun else (Question("What is the main object in the picture?"),)


def about(things: Sequence[str]) -> tuple[Question, ...]:
    """A yes-or-no question for each thing of a watch-list."""
    return tuple(Question(_presence(thing.strip()), about=thing) for thing in things)


def filled(questions: Sequence[Question], prompt: str) -> tuple[Question, ...]:
    """The questions with the prompt's head noun (or "thing") in the place of `{noun}`."""
    noun = head_noun(prompt) or "thing"
    return tuple(Question(q.text.replace("{noun}", noun), q.about, q.options) for q in questions)


def _as_question(value: QuestionLike) -> Question:
    if isinstance(value, Question):
        return value
    if isinstance(value, str):
        return Question(value)
    if isinstance(value, Mapping):
        return Question(**value)
    raise TypeError(f"a question is {value!r}; possible: a text, or Question('Is there a hat?', about='hat')")


def _presence(thing: str) -> str:
    if canonical(thing) != thing.lower() or thing.lower().endswith("sses"):
        return PRESENCE.format(verb="Are", thing=thing)
    article = "" if " " in thing else "an " if thing[:1].lower() in "aeiou" else "a "
    return PRESENCE.format(verb="Is", thing=f"{article}{thing}")
