"""Captions of the Toybox world: they say what is there, and every word is known."""

import re
from collections import Counter
from functools import cache

import numpy as np
import pytest

from negguide.toybox.world import (
    KINDS,
    Scene,
    caption,
    full_caption,
    prompt,
    sample,
    sample_scene,
    vocabulary,
)

EVERY_KIND = [(category, kind) for category, kinds in KINDS.items() for kind in kinds]


@cache
def scenes(count: int = 6000) -> tuple[Scene, ...]:
    rng = np.random.default_rng(12)
    return tuple(sample_scene(rng) for _ in range(count))


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("a red cat with a hat on grass", ("cat", {"colour": "red", "accessories": ["hat"], "background": "grass"})),
        (
            "two small blue apples in snow",
            ("apple", {"count": 2, "size": "small", "colour": "blue", "background": "snow"}),
        ),
        (
            "a blurry picture of a yellow car at night",
            ("car", {"style": "blurry", "colour": "yellow", "background": "night"}),
        ),
        (
            "a man with a hat and glasses and a scarf in a room on the left, side view",
            (
                "man",
                {"accessories": ("scarf", "glasses", "hat"), "background": "room", "position": "left", "view": "side"},
            ),
        ),
        ("an orange face", ("face", {"colour": "orange"})),
        ("an apple", ("apple", {})),
        ("red grapes on sand", ("grapes", {"colour": "red", "background": "sand"})),
        ("two grapes", ("grapes", {"count": 2})),
        ("two women", ("woman", {"count": 2})),
        ("two pets on water", ("pet", {"count": 2, "background": "water"})),
        ("a car with a watermark", ("car", {"style": "watermark"})),
        ("a cat with an outline", ("cat", {"style": "outline", "position": "center"})),
    ],
)
def test_prompt_says(line: str, wanted: tuple[str, dict]) -> None:
    assert prompt(wanted[0], **wanted[1]) == line


PLURALS = {"men": "man", "women": "woman", "babies": "baby", "cherries": "cherry", "buses": "bus", "cactuses": "cactus"}
PLACE_WORDS = {"grass": "grass", "sand": "sand", "snow": "snow", "night": "night", "water": "water", "room": "room"}


def parse(line: str) -> dict[str, object]:
    """What a caption claims, read with patterns that know nothing of the grammar's code."""
    found: dict[str, object] = {}
    for name, pattern in {
        "style": r"\b(blurry|noisy|watermark|outline)\b",
        "colour": r"\b(red|orange|yellow|green|blue|purple|black|white)\b",
        "size": r"\b(small|large)\b",
        "position": r"on the (left|right)\b",
        "view": r", (front|side|back) view$",
        "background": rf"\b(?:on|in|at) (?:a )?({'|'.join(PLACE_WORDS)})\b",
    }.items():
        if match := re.search(pattern, line):
            found[name] = match.group(1)
    found["accessories"] = tuple(re.findall(r"\b(?:with|and) (?:a )?(hat|glasses|scarf)\b", line))
    found["count"] = 2 if line.startswith("two ") or " of two " in line else 1
    nouns = {kind for _, kind in EVERY_KIND} | set(KINDS)
    singular = [PLURALS.get(word, word) for word in re.findall(r"[a-z]+", line)]
    things = [noun for noun in nouns if noun in singular or noun + "s" in singular]
    assert len(things) == 1, line
    found["thing"] = things[0]
    return found


def test_full_caption_tells_all() -> None:
    for scene in scenes()[:3000]:
        told = parse(full_caption(scene))
        assert told["thing"] == scene.kind
        assert (told["colour"], told["size"], told["background"]) == (scene.colour, scene.size, scene.background)
        assert (told["count"], told["accessories"]) == (scene.count, scene.accessories)
        assert told.get("position", "center") == scene.position
        assert told.get("style", "clean") == scene.style
        assert told.get("view") == (scene.view if scene.category == "face" else None)


def test_sampled_captions_are_true_and_name_attributes_as_often_as_promised() -> None:
    rng = np.random.default_rng(4)
    told: Counter[str] = Counter()
    possible: Counter[str] = Counter()
    for k, scene in enumerate(scenes()):
        claims = parse(caption(scene, rng, named=k % 2 == 0))
        assert claims.pop("thing") == (scene.kind if k % 2 == 0 else scene.category)
        assert claims.pop("count") == scene.count
        accessories = claims.pop("accessories")
        assert set(accessories) <= set(scene.accessories)
        told["accessory"] += len(accessories)
        possible["accessory"] += len(scene.accessories)
        assert all(getattr(scene, name) == value for name, value in claims.items())
        told.update(claims.keys() - {"view"})
        possible.update(("colour", "background", "size"))
        possible["position"] += scene.position != "center"
        possible["style"] += scene.style != "clean"
        if scene.category == "face":
            view = "front view" if scene.view == "front" else "view"
            possible[view] += 1
            told[view] += "view" in claims
        else:
            assert "view" not in claims
    promised = {
        "colour": 0.65,
        "background": 0.65,
        "size": 0.25,
        "position": 0.4,
        "accessory": 0.7,
        "view": 0.6,
        "front view": 0.2,
        "style": 0.6,
    }
    for name, expected in promised.items():
        assert told[name] / possible[name] == pytest.approx(expected, abs=0.06), name


def test_vocabulary_covers_every_caption() -> None:
    known = vocabulary()
    assert known == sorted(set(known))
    rng = np.random.default_rng(6)
    lines = [sample(rng)[1] for _ in range(5000)] + [full_caption(scene) for scene in scenes()[:2000]]
    seen = {word for line in lines for word in line.replace(",", "").split()}
    assert seen <= set(known)
    assert {"without", "no", "not", "photo", "of"} <= set(known)
