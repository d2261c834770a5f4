"""The caption grammar: from a scene, or from wanted attributes, to a line of plain English.

>>> prompt("cat", colour="red", accessories=("hat",), background="grass")
'a red cat with a hat on grass'
"""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from negguide.toybox.world import bias
from negguide.toybox.world.scene import Scene, check

INCLUSION: Final[dict[str, float]] = {
    "colour": 0.65,
    "background": 0.65,
    "size": 0.25,
    "position": 0.4,
    "accessory": 0.7,
    "view": 0.6,
    "front view": 0.2,
    "style": 0.6,
}
"""Probability that a sampled caption names an attribute (position, view and style: if it is not the default)."""

PLURALS: Final[dict[str, str]] = {
    "grapes": "grapes",
    "cherry": "cherries",
    "bus": "buses",
    "man": "men",
    "woman": "women",
    "baby": "babies",
    "cactus": "cactuses",
}
"""Nouns whose plural is not noun + s."""

WITHOUT_ARTICLE: Final = ("grapes",)
"""Nouns that take no article when there is one of them: "red grapes on grass"."""

PLACES: Final[dict[str, str]] = {
    "grass": "on grass",
    "sand": "on sand",
    "snow": "in snow",
    "night": "at night",
    "water": "on water",
    "room": "in a room",
}
WORN: Final[dict[str, str]] = {"hat": "a hat", "glasses": "glasses", "scarf": "a scarf"}
WHERE: Final[dict[str, str]] = {"center": "", "left": "on the left", "right": "on the right"}
LOOKS: Final[dict[str, str]] = {"front": ", front view", "side": ", side view", "back": ", back view"}
STYLE_BEFORE: Final[dict[str, str]] = {"blurry": "a blurry picture of ", "noisy": "a noisy picture of "}
STYLE_AFTER: Final[dict[str, str]] = {"watermark": "with a watermark", "outline": "with an outline"}

EXTRA_WORDS: Final[tuple[str, ...]] = (
    "and",
    "bad",
    "but",
    "center",
    "clean",
    "deformed",
    "distorted",
    "grain",
    "grainy",
    "is",
    "many",
    "no",
    "not",
    "nothing",
    "of",
    "one",
    "only",
    "or",
    "photo",
    "picture",
    "quality",
    "sharp",
    "thing",
    "things",
    "ugly",
    "wearing",
    "without",
)
"""Words that no sampled caption holds but that a user's prompt may."""


def prompt(
    kind_or_category: str,
    colour: str | None = None,
    background: str | None = None,
    accessories: Sequence[str] = (),
    view: str | None = None,
    style: str | None = None,
    size: str | None = None,
    position: str | None = None,
    count: int = 1,
) -> str:
    """The line that names exactly the given attributes; None leaves one unnamed.

    "center" and "clean" have no words and are silently unnamed.

    Raises:
        ValueError: if a value is unknown; the message names what is possible.
    """
    check("kind or category", kind_or_category, (*bias.CATEGORY_OF, *bias.CATEGORIES))
    given = (
        ("colour", colour, bias.COLOURS),
        ("background", background, bias.BACKGROUNDS),
        ("view", view, bias.VIEWS),
        ("style", style, bias.STYLES),
        ("size", size, bias.SIZES),
        ("position", position, bias.POSITIONS),
    )
    for what, value, possible in given:
        if value is not None:
            check(what, value, possible)
    check("count", count, bias.COUNTS)
    for accessory in accessories:
        check("accessory", accessory, bias.ACCESSORIES)

    worn = [WORN[name] for name in bias.ACCESSORIES if name in accessories]
    parts = [
        _noun_phrase(kind_or_category, [word for word in (size, colour) if word], count),
        "with " + " and ".join(worn) if worn else "",
        PLACES[background] if background else "",
        WHERE[position] if position else "",
        STYLE_AFTER.get(style or "", ""),
    ]
    line = " ".join(part for part in parts if part)
    return STYLE_BEFORE.get(style or "", "") + line + (LOOKS[view] if view else "")


def _noun_phrase(noun: str, adjectives: list[str], count: int) -> str:
    if count == 2:
        return " ".join(["two", *adjectives, PLURALS.get(noun, noun + "s")])
    phrase = " ".join([*adjectives, noun])
    if noun in WITHOUT_ARTICLE:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def full_caption(scene: Scene) -> str:
    """The caption that names the kind and every attribute (the view for faces only)."""
    return prompt(
        scene.kind,
        colour=scene.colour,
        background=scene.background,
        accessories=scene.accessories,
        view=scene.view if scene.category == "face" else None,
        style=scene.style,
        size=scene.size,
        position=scene.position,
        count=scene.count,
    )


def caption(scene: Scene, rng: np.random.Generator, named: bool) -> str:
    """A caption that names each attribute with the probability in `INCLUSION`.

    Args:
        scene: what is on the picture.
        rng: decides which attributes are named.
        named: True names the kind ("a cat"), False only the category ("a pet").
    """

    def told(attribute: str) -> bool:
        return bool(rng.random() < INCLUSION[attribute])

    turned = scene.view != "front"
    tell_view = scene.category == "face" and told("view" if turned else "front view")
    return prompt(
        scene.kind if named else scene.category,
        colour=scene.colour if told("colour") else None,
        background=scene.background if told("background") else None,
        accessories=[name for name in scene.accessories if told("accessory")],
        view=scene.view if tell_view else None,
        style=scene.style if told("style") else None,
        size=scene.size if told("size") else None,
        position=scene.position if told("position") else None,
        count=scene.count,
    )


def tags(scene: Scene, rng: np.random.Generator) -> str:
    """One to three true tags of the scene in random order, the way people write negatives: "hat, cat"."""
    possible = [scene.kind, scene.category, scene.colour, scene.background, *scene.accessories, *scene.accessories]
    possible += [f"{scene.colour} {scene.kind}", f"{scene.colour} {scene.category}"]
    if scene.view != "front":
        possible += [f"{scene.view} view"] * 2
    if scene.style != "clean":
        possible += [scene.style] * 2
    count = int(rng.choice([1, 2, 3], p=[0.6, 0.25, 0.15]))
    chosen = dict.fromkeys(possible[int(place)] for place in rng.permutation(len(possible))[:count])
    return ", ".join(chosen)


def words(text: str) -> list[str]:
    """The lower-case words of a text, without punctuation; how captions become tokens."""
    return re.findall(r"[a-z]+", text.lower())


def vocabulary() -> list[str]:
    """Every word that the grammar can produce, and `EXTRA_WORDS`; sorted, without repetition."""
    nouns = [*bias.CATEGORY_OF, *bias.CATEGORIES]
    phrases = [
        *nouns,
        *(PLURALS.get(noun, noun + "s") for noun in nouns),
        *bias.COLOURS,
        *bias.SIZES,
        *PLACES.values(),
        *WORN.values(),
        *WHERE.values(),
        *LOOKS.values(),
        *STYLE_BEFORE.values(),
        *STYLE_AFTER.values(),
        *EXTRA_WORDS,
        "a an and two with",
    ]
    return sorted({word for phrase in phrases for word in words(phrase)})
