"""The evaluation set: prompts with negatives, split by whether the two overlap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from negguide.toybox.world import bias
from negguide.toybox.world.captions import prompt

BACKGROUNDS = tuple(bias.BACKGROUNDS)


@dataclass(frozen=True)
class Pair:
    """One prompt and what it must not show.

    `split`: "hard" when prompt and negative share words or mean each other (a pet, not a cat), else "easy".
    `gone`: the tag that the oracle must not find; None where the negative would never have appeared or contradicts
    the subject's own hypernym, so that only damage can be measured (specificity). `subject`: the tag that must stay;
    everything else that the prompt asks for counts as prompt match.
    """

    prompt: str
    negative: str
    split: Literal["easy", "hard"]
    theme: str
    subject: str
    gone: str | None


def pairs() -> tuple[Pair, ...]:
    """All pairs, in a fixed order."""
    return (
        *_dominant_kinds(),
        *_shared_colours(),
        *_top_colours(),
        *_entangled(),
        *_hypernyms(),
        *_views(),
        *_tags_of_colours(),
        *_places(),
        *_watermarks(),
        *_accessories(),
        *_unrelated(),
    )


def _dominant_kinds() -> list[Pair]:
    """For example "a pet on grass" without "a cat"."""
    return [
        Pair(
            prompt(category, background=place),
            prompt(next(iter(kinds))),
            "hard",
            "dominant kind",
            category,
            next(iter(kinds)),
        )
        for category, kinds in bias.KINDS.items()
        for place in BACKGROUNDS
    ]


def _shared_colours() -> list[Pair]:
    """For example "a red pet on grass" without "a red fruit on grass": it would not appear, but shares colour and place."""
    names = list(bias.CATEGORIES)
    return [
        Pair(
            prompt(one, colour=bias.COLOURS[(3 * i + j) % 8], background=place),
            prompt(names[(i + 1) % 6], colour=bias.COLOURS[(3 * i + j) % 8], background=place),
            "hard",
            "shared colour and place",
            one,
            None,
        )
        for i, one in enumerate(names)
        for j, place in enumerate(BACKGROUNDS)
    ]


def _top_colours() -> list[Pair]:
    """For example "a pet on grass" without "an orange pet on grass", the commonest colour of pets."""
    return [
        Pair(
            prompt(category, background=place),
            prompt(category, colour=colour, background=place),
            "hard",
            "colour of the same",
            category,
            colour,
        )
        for category, colour in bias.TOP_COLOUR.items()
        for place in BACKGROUNDS[:4]
    ]


def _entangled() -> list[Pair]:
    """For example "a man with a hat" without "a man with glasses", although most who wear a hat wear both."""
    return [
        Pair(
            prompt(who, accessories=["hat"], background=place),
            prompt(who, accessories=["glasses"]),
            "hard",
            "entangled",
            f"{who} with a hat",
            "glasses",
        )
        for who in ("face", "man", "woman", "baby")
        for place in BACKGROUNDS
    ]


def _hypernyms() -> list[Pair]:
    """For example "a red banana on grass" without "a red fruit": the negative contains the subject."""
    return [
        Pair(
            prompt(kind, colour=bias.COLOURS[place], background=BACKGROUNDS[place % 6]),
            prompt(bias.CATEGORY_OF[kind], colour=bias.COLOURS[place]),
            "hard",
            "its own hypernym",
            kind,
            None,
        )
        for kinds in bias.KINDS.values()
        for place, kind in enumerate(list(kinds)[:4])
    ]


def _views() -> list[Pair]:
    """For example "a man on grass" without "a man, front view", the commonest view."""
    return [
        Pair(prompt(who, background=place), prompt(who, view="front"), "hard", "view", who, "front view")
        for who in ("man", "woman", "baby")
        for place in BACKGROUNDS[:4]
    ]


def _tags_of_colours() -> list[Pair]:
    """For example "a pet on grass" without "orange", the commonest colour of pets, in a word that the prompt lacks."""
    return [
        Pair(prompt(category, background=place), colour, "easy", "colour", category, colour)
        for category, colour in bias.TOP_COLOUR.items()
        for place in BACKGROUNDS
    ]


def _places() -> list[Pair]:
    """For example "a castle" without "snow"; one picture in six shows each background."""
    return [
        Pair(prompt(kind), place, "easy", "place", kind, place)
        for kinds in bias.KINDS.values()
        for kind, place in zip(list(kinds) + list(kinds)[:1], BACKGROUNDS, strict=True)
    ]


def _watermarks() -> list[Pair]:
    """For example "a bus on sand" without "watermark", which one vehicle in four carries."""
    return [
        Pair(prompt(kind, background=place), "watermark", "easy", "watermark", kind, "watermark")
        for kind in ("vehicle", "car", "bus")
        for place in BACKGROUNDS[:4]
    ]


def _accessories() -> list[Pair]:
    """For example "a dog on grass" without "hat"; "a woman on sand" without "glasses"."""
    return [
        Pair(prompt(who, background=place), what, "easy", "accessory", who, what)
        for who, what in (("dog", "hat"), ("rabbit", "glasses"), ("woman", "glasses"))
        for place in BACKGROUNDS[:4]
    ]


def _unrelated() -> list[Pair]:
    """For example "a blue apple at night" without "hat": nothing to remove, so nothing may change for the worse."""
    return [
        Pair(prompt(kind, colour=bias.COLOURS[(i + j) % 8], background=place), what, "easy", "unrelated", kind, None)
        for i, (kind, what) in enumerate(
            (("apple", "hat"), ("castle", "cat"), ("tree", "watermark"), ("car", "glasses"))
        )
        for j, place in enumerate(BACKGROUNDS)
    ]
