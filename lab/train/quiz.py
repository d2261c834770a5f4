"""What the Toybox watcher is taught to answer: questions about a scene, and one right answer to each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from negguide.toybox.world import bias
from negguide.toybox.world.captions import PLURALS, vocabulary
from negguide.toybox.world.scene import Scene
from negguide.watchers.questions import KIND, about

Pair = tuple[str, str]
"""A question and its answer, lower-case words."""

UNKNOWN, NOTHING = "unknown", "nothing"
WHAT = ("What is it?", "What is the main object in the picture?", "What is in the picture?", "What do you see?")
COLOUR = ("What colour is it?", "What color is it?", "What colour is the {noun}?", "What color is the {noun}?")
PLACE = ("What place is it?", "Where is it?", "What is in the background?", "Where is the {noun}?")
STYLE = ("In what style is the picture made?", "What style is it?")
WEARING = ("What is it wearing?", "What is the person wearing?", "What is the {noun} wearing?")
COUNT = ("How many are there?", "How many things are there?")
MADE_OF = ("What is it made of?", "What is the {noun} made of?")
"""The world has no materials, but a template of `negguide.watchers.questions` asks for them."""
NOUNS = ("thing", "object", "picture", "animal")
"""What "What kind of ... is it?" may ask for besides categories and kinds."""
SHORT = " in the picture"
NUMBERS = {1: "one", 2: "two"}


def _pick(options: Iterable[str], rng: np.random.Generator, but: str = "") -> str:
    """One of them, but not `but`."""
    possible = [one for one in options if one != but]
    return possible[int(rng.integers(len(possible)))]


def _of(options: tuple[str, ...], scene: Scene, rng: np.random.Generator) -> str:
    return _pick(options, rng).replace("{noun}", scene.kind if rng.random() < 0.5 else scene.category)


def kind_of_category(scene: Scene, rng: np.random.Generator) -> Pair:
    """The question that is derived from "a pet"."""
    noun = scene.category if rng.random() < 0.85 else _pick(NOUNS, rng)
    return KIND.format(noun=noun), scene.kind


def kind_of_kind(scene: Scene, rng: np.random.Generator) -> Pair:
    """The question that is derived from "a cat": cats differ by colour; what is no cat is called by its name."""
    if rng.random() < 0.8:
        return KIND.format(noun=scene.kind), scene.colour
    noun = _pick(bias.CATEGORY_OF, rng, but=scene.kind)
    return KIND.format(noun=noun), scene.kind


def presence(scene: Scene, rng: np.random.Generator) -> Pair:
    """A yes-or-no question as a watch-list asks it, yes half of the time."""
    true = [scene.kind, scene.kind, scene.category, scene.colour, scene.background, f"{scene.colour} {scene.kind}"]
    true += [*scene.accessories] * 3 + [scene.style] * 3 * (scene.style != "clean")
    wears = scene.category in bias.WEARERS
    false = [
        _pick(bias.KINDS[scene.category], rng, but=scene.kind),
        _pick(bias.CATEGORY_OF, rng, but=scene.kind),
        _pick(bias.CATEGORIES, rng, but=scene.category),
        _pick(bias.COLOURS, rng, but=scene.colour),
        _pick(bias.BACKGROUNDS, rng, but=scene.background),
        f"{_pick(bias.COLOURS, rng, but=scene.colour)} {scene.kind}",
        *[name for name in bias.ACCESSORIES if name not in scene.accessories] * (2 if wears else 1),
        *[name for name in ("blurry", "noisy", "watermark", "outline") if name != scene.style],
    ]
    yes = bool(rng.random() < 0.5)
    thing = _pick(true if yes else false, rng)
    if rng.random() < 0.15 and (thing in bias.CATEGORY_OF or thing in bias.CATEGORIES):
        thing = PLURALS.get(thing, thing + "s")
    return ask_for(thing, short=bool(rng.random() < 0.25)), "yes" if yes else "no"


def ask_for(thing: str, short: bool = False) -> str:
    """The question of a watch-list for a thing: "Is there a hat in the picture?"; `short`: "Is there a hat?"."""
    text = about([thing])[0].text
    return text.replace(SHORT, "") if short else text


def wearing(scene: Scene, rng: np.random.Generator) -> Pair:
    """What is worn, in the order of `bias.ACCESSORIES`."""
    return _of(WEARING, scene, rng), " and ".join(scene.accessories) or NOTHING


ASKED: dict[str, tuple[Callable[[Scene, np.random.Generator], Pair], float]] = {
    "kind of a category": (kind_of_category, 0.26),
    "what": (lambda scene, rng: (_pick(WHAT, rng), scene.kind), 0.1),
    "kind of a kind": (kind_of_kind, 0.1),
    "colour": (lambda scene, rng: (_of(COLOUR, scene, rng), scene.colour), 0.1),
    "presence": (presence, 0.28),
    "worn": (wearing, 0.06),
    "place": (lambda scene, rng: (_of(PLACE, scene, rng), scene.background), 0.04),
    "style": (lambda scene, rng: (_pick(STYLE, rng), scene.style), 0.03),
    "count": (lambda scene, rng: (_pick(COUNT, rng), NUMBERS[scene.count]), 0.01),
    "made of": (lambda scene, rng: (_of(MADE_OF, scene, rng), UNKNOWN), 0.02),
}
"""Each sort of question: how one is made, and its share of the training."""


@dataclass(frozen=True)
class Practice:
    """What a later stage asks: `shares` of some sorts of questions (the others share the rest), and of which pictures.

    `styled`: share of the renders that are taken from those in a style; four fifths of the world's pictures have none.
    """

    shares: Mapping[str, float]
    styled: float = 0.0


HARDER = Practice({"presence": 0.75, "worn": 0.09, "kind of a kind": 0.06, "style": 0.05, "count": 0.03})
"""More of what takes longer to learn."""

FINER = Practice(
    {"presence": 0.38, "style": 0.22, "worn": 0.12, "what": 0.12, "kind of a kind": 0.07, "colour": 0.05}, styled=0.4
)
"""More of what only a good look shows."""


def quiz(scene: Scene, rng: np.random.Generator, count: int, practice: Practice | None = None) -> list[Pair]:
    """`count` random questions about a scene with their answers; the first is of the commonest sort."""
    names, shares = list(ASKED), np.array([share for _, share in ASKED.values()])
    if practice is not None:
        more = practice.shares
        others = max(0.02, 1 - sum(more.values())) / (len(ASKED) - len(more))
        shares = np.array([more.get(name, others) for name in names])
    drawn = rng.choice(len(names), count - 1, p=shares / shares.sum())
    sorts = ["kind of a category", *(names[place] for place in drawn)]
    return [ASKED[sort][0](scene, rng) for sort in sorts]


def about_nothing(rng: np.random.Generator, count: int) -> list[Pair]:
    """Questions about a picture without a thing."""
    pairs: list[Pair] = []
    for _ in range(count):
        if rng.random() < 0.6:
            noun = _pick([*bias.CATEGORIES, *NOUNS], rng)
            pairs.append((_pick([*WHAT, KIND.format(noun=noun)], rng), UNKNOWN))
        else:
            pairs.append((ask_for(_pick([*bias.CATEGORY_OF, *bias.CATEGORIES, *bias.ACCESSORIES], rng)), "no"))
    return pairs


def quiz_words() -> list[str]:
    """Every word of the questions and answers and of the captions; sorted, without repetition."""
    texts = [*WHAT, *COLOUR, *PLACE, *STYLE, *WEARING, *COUNT, *MADE_OF, *NOUNS, *NUMBERS.values(), *bias.STYLES]
    texts += [KIND, "Are there a an the in picture", UNKNOWN, NOTHING, "yes no", " ".join(vocabulary())]
    return sorted({word for text in texts for word in re.findall(r"[a-z]+", text.lower()) if word != "noun"})
