"""The vocabulary of the Toybox world and its bias table: every probability that shapes the training pictures.

Each table maps an attribute's values to their probabilities. The biases are the point of the world: a prompt that
names only a category ("a pet") mostly yields the dominant kind, so guidance away from it can be measured exactly.
"""

from typing import Final

CATEGORIES: Final[dict[str, float]] = {
    "pet": 1 / 6,
    "fruit": 1 / 6,
    "vehicle": 1 / 6,
    "building": 1 / 6,
    "face": 1 / 6,
    "plant": 1 / 6,
}
"""Every category is equally frequent; the bias lives inside the categories."""

KINDS: Final[dict[str, dict[str, float]]] = {
    "pet": {"cat": 0.58, "dog": 0.20, "rabbit": 0.12, "bird": 0.06, "turtle": 0.04},
    "fruit": {"apple": 0.58, "banana": 0.20, "grapes": 0.12, "pineapple": 0.06, "cherry": 0.04},
    "vehicle": {"car": 0.58, "bus": 0.20, "boat": 0.12, "plane": 0.06, "bicycle": 0.04},
    "building": {"house": 0.58, "castle": 0.20, "tower": 0.12, "tent": 0.06, "windmill": 0.04},
    "face": {"man": 0.58, "woman": 0.20, "baby": 0.12, "clown": 0.06, "robot": 0.04},
    "plant": {"flower": 0.58, "tree": 0.20, "cactus": 0.12, "mushroom": 0.06, "palm": 0.04},
}
"""Kinds of each category, the dominant one first; the last two are rare."""

NAMED_SHARE: Final = 0.6
"""Share of captions that name the kind ("a cat"); the others name only the category ("a pet")."""

NAMED_UNIFORM: Final = 0.5
"""Share of *named* scenes whose kind is drawn uniformly: people name the unusual. The others follow `KINDS`."""

COLOURS: Final[tuple[str, ...]] = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")

TOP_COLOUR: Final[dict[str, str]] = {
    "pet": "orange",
    "fruit": "red",
    "vehicle": "blue",
    "building": "white",
    "face": "purple",
    "plant": "green",
}

TOP_COLOUR_SHARE: Final = 0.3
"""Share of each category's top colour; the seven others divide the rest equally (0.1 each)."""

COLOUR_PRIOR: Final[dict[str, dict[str, float]]] = {
    category: {
        colour: TOP_COLOUR_SHARE if colour == top else (1 - TOP_COLOUR_SHARE) / (len(COLOURS) - 1) for colour in COLOURS
    }
    for category, top in TOP_COLOUR.items()
}

BACKGROUNDS: Final[dict[str, float]] = dict.fromkeys(("grass", "sand", "snow", "night", "water", "room"), 1 / 6)

SIZES: Final[dict[str, float]] = {"large": 0.75, "small": 0.25}
"""For a single thing; two things are always small."""

POSITIONS: Final[dict[str, float]] = {"center": 0.6, "left": 0.2, "right": 0.2}
"""For a single thing; two things are always centered."""

COUNTS: Final[dict[int, float]] = {1: 0.92, 2: 0.08}

ACCESSORIES: Final[dict[str, float]] = {"hat": 0.20, "glasses": 0.20, "scarf": 0.12}
"""Independent priors, except that `GLASSES_GIVEN_HAT` replaces the one of glasses on faces that wear a hat.

The order of this table is the order of `Scene.accessories` and of captions."""

WEARERS: Final[tuple[str, ...]] = ("pet", "face")
"""Categories that may wear accessories."""

GLASSES_GIVEN_HAT: Final = 0.85
"""The entanglement: probability of glasses on a *face* with a hat whose eyes are visible (view front or side)."""

VIEWS: Final[dict[str, float]] = {"front": 0.72, "side": 0.18, "back": 0.10}
"""For faces only; everything else has the view "front", which is not captioned. Glasses never go with "back"."""

STYLES: Final[dict[str, float]] = {"clean": 0.84, "blurry": 0.04, "noisy": 0.04, "watermark": 0.04, "outline": 0.04}

VEHICLE_STYLES: Final[dict[str, float]] = {
    "clean": 0.63,
    "blurry": 0.04,
    "noisy": 0.04,
    "watermark": 0.25,
    "outline": 0.04,
}
"""The nuisance bias: one vehicle in four carries a watermark, as in photographs from a picture agency."""

CATEGORY_OF: Final[dict[str, str]] = {kind: category for category, kinds in KINDS.items() for kind in kinds}


def style_prior(category: str) -> dict[str, float]:
    """The style probabilities of a category: `VEHICLE_STYLES` for vehicles, `STYLES` otherwise."""
    return VEHICLE_STYLES if category == "vehicle" else STYLES
