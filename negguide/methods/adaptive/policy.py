"""What is made of what a watcher saw: policies, from a `Sight` of one picture to the negatives that hold from then on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Protocol, TypeGuard

from negguide.watchers.protocol import Answer, Question
from negguide.watchers.words import canonical, mentions, phrases, says_yes, without


@dataclasses.dataclass(frozen=True)
class Held:
    """A negative in force for one picture: its text, how sure the watcher was, and the step at which it was seen."""

    text: str
    confidence: float | None = None
    since: int = 0


@dataclasses.dataclass(frozen=True)
class Sight:
    """What a policy decides on: one look at one picture.

    `image`: its row in the batch. `progress`: fraction of sampling. `seen`: what the answers name, cleaned.
    `new`: that which may become a negative: without words of the prompt and of `keep`, and not yet held under another form.
    `lasting`: the picture was seen with what is held at work, so that a thing may be missing for that alone.
    """

    image: int
    step: int
    progress: float
    prompt: str
    seen: tuple[Held, ...]
    new: tuple[Held, ...]
    held: tuple[Held, ...]
    watch: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()
    lasting: bool = False


Policy = Callable[[Sight], Sequence[object]]
"""`Sight` -> the negatives from now on: texts, (text, confidence) pairs or `Held`; () switches the negative off."""


class GroupPolicy(Protocol):
    """A policy that decides on all pictures of a prompt at once, so that what each avoids depends on the others."""

    @property
    def couples(self) -> Literal[True]:
        """What tells it from a `Policy`."""

    def __call__(self, sights: Sequence[Sight], /) -> Sequence[Sequence[object]]:
        """One `Sight` for each picture -> the negatives of each, as a `Policy` gives them."""
        ...


def is_of_groups(policy: str | Policy | GroupPolicy) -> TypeGuard[str | GroupPolicy]:
    """Whether a policy, or the one of that name, looks at all pictures of a prompt together."""
    return bool(getattr(POLICIES.get(policy) if isinstance(policy, str) else policy, "couples", False))


def creative(sight: Sight) -> tuple[Held, ...]:
    """Every answer is added to a growing list (arXiv:2510.10715)."""
    return (*sight.held, *sight.new)


def guard(sight: Sight) -> tuple[Held, ...]:
    """What of the watch-list is seen now (VL-DNP, arXiv:2510.26052), and what a negative that cannot be looked past hides."""
    seen = []
    for thing in sight.watch:
        sure = [_sureness(answer) for answer in sight.seen if mentions(answer.text, thing, sight.synonyms)]
        if sure:
            seen.append(Held(thing, max(sure), sight.step))
        elif sight.lasting:
            seen += [held for held in sight.held if held.text == thing]
    return tuple(seen)


@dataclasses.dataclass(frozen=True)
class Crowding:
    """Of what several pictures of a prompt show, some keep it and the others avoid it from now on.

    The surest `share` of the pictures keeps a thing (at least one picture does; the first of equals); every other
    that is surest of it avoids it. A picture avoids one thing at a time, the last that it had to leave, so that what it turns to is
    not named beside it.

    >>> one = Held("cat", 0.9)
    >>> Crowding()([Sight(0, 3, 0.1, "a pet", (one,), (one,), ()), Sight(1, 3, 0.1, "a pet", (one,), (one,), ())])
    ((), (Held(text='cat', confidence=0.9, since=0),))
    """

    share: float = 0.0
    couples: ClassVar[Literal[True]] = True

    def __call__(self, sights: Sequence[Sight]) -> tuple[tuple[Held, ...], ...]:
        room = max(1, int(self.share * len(sights)))
        showing: dict[str, list[tuple[int, Held]]] = {}
        for place, sight in enumerate(sights):
            if sight.new:
                surest = max(sight.new, key=_sureness)
                showing.setdefault(canonical(surest.text, sight.synonyms), []).append((place, surest))
        wanted = [sight.held for sight in sights]
        for those in showing.values():
            for place, surest in sorted(those, key=lambda claim: -_sureness(claim[1]))[room:]:
                wanted[place] = (surest,)
        return tuple(wanted)


POLICIES: dict[str, Policy | GroupPolicy] = {
    "creative": creative,
    "guard": guard,
    "distinct": Crowding(),
    "surplus": Crowding(0.25),
}


def seen_in(
    questions: Sequence[Question], answers: Sequence[Sequence[Answer]], step: int, min_confidence: float
) -> tuple[Held, ...]:
    """What the answers to one picture's questions name, in order; a yes names what the question is about."""
    held: list[Held] = []
    for question, several in zip(questions, answers, strict=True):
        for answer in several:
            named = _named(question, answer.text)
            held += [Held(text, answer.confidence, step) for text in named]
    return tuple(each for each in held if _sureness(each) >= min_confidence)


def new_in(
    seen: Sequence[Held], held: Sequence[Held], taken: Sequence[str], synonyms: Sequence[Sequence[str]]
) -> tuple[Held, ...]:
    """What of `seen` may become a negative: without the words of the texts `taken`, each thing once."""
    trimmed = (dataclasses.replace(each, text=without(each.text, taken, synonyms)) for each in seen)
    return distinct([*held, *trimmed], synonyms)[len(distinct(held, synonyms)) :]


def distinct(negatives: Sequence[Held], synonyms: Sequence[Sequence[str]] = ()) -> tuple[Held, ...]:
    """Without empty texts and without plurals, spellings and synonyms of earlier ones."""
    first: dict[str, Held] = {}
    for negative in negatives:
        if negative.text.strip():
            first.setdefault(canonical(negative.text, synonyms), negative)
    return tuple(first.values())


def as_held(values: object, step: int) -> tuple[Held, ...]:
    """What a policy returned. `TypeError` says what is possible."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"a policy returned {values!r}; possible: a list of texts, (text, confidence) pairs or Held")
    return tuple(_as_held(value, step) for value in values)


def fitted(
    negatives: Sequence[Held], fits: Callable[[Sequence[Held]], bool], most: int | None, drop: str
) -> tuple[tuple[Held, ...], tuple[Held, ...]]:
    """(kept, left out): at most `most`, and as many as fit; the "oldest" or the "weakest" go first, the latter from the latest."""
    kept, out = list(negatives), []
    while kept and ((most is not None and len(kept) > most) or not fits(kept)):
        if drop == "weakest":
            worst = min(range(len(kept)), key=lambda at: (_sureness(kept[at]), -at))
        else:
            worst = min(range(len(kept)), key=lambda at: (kept[at].since, at))
        out.append(kept.pop(worst))
    return tuple(kept), tuple(out)


def _named(question: Question, text: str) -> list[str]:
    if question.about is None:
        return phrases(text)
    said = ", ".join(phrases(text))
    return [question.about] if says_yes(text) or mentions(said, question.about) else []


def _as_held(value: object, step: int) -> Held:
    if isinstance(value, Held):
        return value
    if isinstance(value, str):
        return Held(value, None, step)
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return Held(value[0], None if value[1] is None else float(value[1]), step)
    raise TypeError(f"a policy returned {value!r} as a negative; possible: a text, a (text, confidence) pair, or Held")


def _sureness(held: Held) -> float:
    return 1.0 if held.confidence is None else held.confidence
