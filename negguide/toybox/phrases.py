"""Read a tag, a noun phrase or a prompt of the grammar back: what it asks of a picture.

>>> parse("a black pet on grass").colour
'black'
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from negguide.toybox.world import bias
from negguide.toybox.world.captions import PLURALS, words
from negguide.toybox.world.scene import Scene
from negguide.wording import did_you_mean

NONE: Final = "none"
"""The kind of a picture on which no thing of the world can be recognised."""

FILLERS: Final = frozenset(
    ("a", "an", "and", "at", "in", "is", "of", "on", "photo", "picture", "the", "view", "wearing", "with")
)
"""Words that ask for nothing by themselves."""

NEGATIONS: Final = frozenset(("but", "no", "not", "only", "or", "without"))


@dataclass(frozen=True)
class Asked:
    """What a text asks for; None (or no accessories) where it asks for nothing.

    Args:
        kinds: the kinds that would do, all of a category for "a pet"; ("none",) for "nothing".
        accessories: all of them must be worn.
    """

    kinds: tuple[str, ...] | None = None
    colour: str | None = None
    background: str | None = None
    accessories: tuple[str, ...] = ()
    view: str | None = None
    style: str | None = None
    count: int | None = None
    size: str | None = None
    position: str | None = None

    @property
    def of_a_thing(self) -> bool:
        """Whether it asks for a property that only a recognisable thing has (all but background and style)."""
        own = (self.colour, self.view, self.count, self.size, self.position)
        return bool(self.accessories) or any(value is not None for value in own)


def _meanings() -> dict[str, tuple[str, object]]:
    """Each word that asks for something: the field of `Asked`, and its value."""
    nouns: dict[str, tuple[str, ...]] = {
        **{kind: (kind,) for kind in bias.CATEGORY_OF},
        **{category: tuple(kinds) for category, kinds in bias.KINDS.items()},
    }
    meanings: dict[str, tuple[str, object]] = {
        "thing": ("kinds", tuple(bias.CATEGORY_OF)),
        "things": ("kinds", tuple(bias.CATEGORY_OF)),
        "nothing": ("kinds", (NONE,)),
        NONE: ("kinds", (NONE,)),
        "one": ("count", 1),
        "two": ("count", 2),
        "grain": ("style", "noisy"),
        "grainy": ("style", "noisy"),
    }
    for noun, kinds in nouns.items():
        meanings[noun] = meanings[PLURALS.get(noun, noun + "s")] = ("kinds", kinds)
    for field, values in (
        ("colour", bias.COLOURS),
        ("background", bias.BACKGROUNDS),
        ("accessories", bias.ACCESSORIES),
        ("view", bias.VIEWS),
        ("style", bias.STYLES),
        ("size", bias.SIZES),
        ("position", bias.POSITIONS),
    ):
        meanings.update({value: (field, value) for value in values})
    return meanings


MEANINGS: Final = _meanings()


def parse(text: str) -> Asked:
    """What `text` asks of a picture: "cat", "side view", "red fruit", "a face with a hat", or a whole prompt.

    Raises:
        ValueError: if the text is empty, holds a word that no picture can be judged by, or contradicts itself
            ("cat, dog"); the message names what is possible.
    """
    asked: dict[str, object] = {}
    heard: dict[str, str] = {}
    for word in words(text):
        if word in FILLERS:
            continue
        if word in NEGATIONS:
            raise ValueError(f"cannot judge {text!r}: {word!r}; ask for what is there, and invert the answer")
        if word not in MEANINGS:
            raise ValueError(_unknown(word, text))
        field, value = MEANINGS[word]
        if field == "accessories":
            worn = (*asked.get(field, ()), value)  # type: ignore[misc]
            asked[field] = tuple(name for name in bias.ACCESSORIES if name in worn)
            continue
        if field == "kinds" and field in asked:
            value = tuple(kind for kind in asked[field] if kind in value)  # type: ignore[attr-defined, operator]
        if not value or (field != "kinds" and asked.get(field, value) != value):
            raise ValueError(
                f"cannot judge {text!r}: no picture is both {heard[field]!r} and {word!r}; ask for them one by one"
            )
        asked[field], heard[field] = value, word
    if not asked:
        raise ValueError(f"nothing to judge in {text!r}; possible: {_possible()}")
    return Asked(**asked)  # type: ignore[arg-type]


def _unknown(word: str, text: str) -> str:
    return f"unknown word {word!r} in {text!r}{did_you_mean(word, MEANINGS, ';')} possible: {_possible()}"


def _possible() -> str:
    rows: dict[str, list[str]] = {field.name: [] for field in fields(Asked)}
    for kind_or_category in (*bias.CATEGORIES, *bias.CATEGORY_OF):
        rows["kinds"].append(kind_or_category)
    for word, (field, _) in MEANINGS.items():
        if field != "kinds":
            rows[field].append(f"{word} view" if field == "view" else word)
    return "; ".join(", ".join(row) for row in rows.values())


def true_of(asked: Asked, scene: Scene) -> bool:
    """Whether the scene has all that is asked."""
    if asked.kinds is not None and scene.kind not in asked.kinds:
        return False
    named = ("colour", "background", "view", "style", "count", "size", "position")
    if any(getattr(asked, name) not in (None, getattr(scene, name)) for name in named):
        return False
    return set(asked.accessories) <= set(scene.accessories) and (asked.view is None or scene.category == "face")
