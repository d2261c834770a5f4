"""Sample scenes from the bias table."""

from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np

from negguide.toybox.world import bias
from negguide.toybox.world.captions import caption
from negguide.toybox.world.scene import Scene, check

Value = TypeVar("Value")


def sample(rng: np.random.Generator) -> tuple[Scene, str]:
    """One training pair: a scene and its caption.

    A share `bias.NAMED_SHARE` of the captions name the kind. Where they do not, the kinds follow `bias.KINDS`, so
    "a pet" mostly shows a cat; where they do, half of the kinds are drawn uniformly, for people name the unusual.
    """
    named = bool(rng.random() < bias.NAMED_SHARE)
    scene = sample_scene(rng, named)
    return scene, caption(scene, rng, named)


def sample_scene(rng: np.random.Generator, named: bool = False, **fixed: Any) -> Scene:
    """A scene from the bias table, with some fields fixed.

    Args:
        rng: the source of all chance, also of the scene's seed.
        named: whether the caption is to name the kind; then `bias.NAMED_UNIFORM` of the kinds are uniform.
        fixed: fields of `Scene` to keep, e.g. `kind="turtle"` (which implies its category) or `view="back"`; the
            others are drawn so as to be possible with them.

    Raises:
        ValueError: if a fixed field or value is unknown or impossible together with the others.
    """
    for name in fixed:
        check("field", name, tuple(Scene.__dataclass_fields__))
    category = fixed["category"] if "category" in fixed else _category(rng, fixed)
    check("category", category, bias.CATEGORIES)
    kind = fixed["kind"] if "kind" in fixed else _kind(rng, category, named)
    count = fixed["count"] if "count" in fixed else _count(rng, fixed)
    single = count == 1
    accessories = fixed.get("accessories")
    if "view" in fixed:
        view = fixed["view"]
    elif category == "face":
        seen = {name: share for name, share in bias.VIEWS.items() if name != "back"}
        view = pick(rng, seen if "glasses" in (accessories or ()) else bias.VIEWS)
    else:
        view = "front"
    if accessories is None:
        accessories = _accessories(rng, category, view)
    drawn = {
        "category": category,
        "kind": kind,
        "colour": pick(rng, bias.COLOUR_PRIOR[category]),
        "background": pick(rng, bias.BACKGROUNDS),
        "size": pick(rng, bias.SIZES) if single else "small",
        "position": pick(rng, bias.POSITIONS) if single else "center",
        "count": count,
        "view": view,
        "style": pick(rng, bias.style_prior(category)),
        "seed": int(rng.integers(2**31)),
    }
    return Scene(**{**drawn, **fixed, "accessories": tuple(accessories)})


def pick(rng: np.random.Generator, table: Mapping[Value, float]) -> Value:
    """A key of the table, drawn in proportion to its value."""
    level = rng.random() * sum(table.values())
    for key, share in table.items():
        level -= share
        if level < 0:
            return key
    return key


def _category(rng: np.random.Generator, fixed: Mapping[str, Any]) -> str:
    """The category that the fixed fields imply, or a possible one."""
    if "kind" in fixed:
        check("kind", fixed["kind"], bias.CATEGORY_OF)
        return bias.CATEGORY_OF[fixed["kind"]]
    if fixed.get("view", "front") != "front":
        return "face"
    possible = bias.WEARERS if fixed.get("accessories") else bias.CATEGORIES
    return pick(rng, {name: bias.CATEGORIES[name] for name in possible})


def _kind(rng: np.random.Generator, category: str, named: bool) -> str:
    kinds = bias.KINDS[category]
    if named and rng.random() < bias.NAMED_UNIFORM:
        return pick(rng, dict.fromkeys(kinds, 1.0))
    return pick(rng, kinds)


def _count(rng: np.random.Generator, fixed: Mapping[str, object]) -> int:
    """Two only where nothing fixed forbids it."""
    if fixed.get("size", "small") != "small" or fixed.get("position", "center") != "center":
        return 1
    return pick(rng, bias.COUNTS)


def _accessories(rng: np.random.Generator, category: str, view: str) -> tuple[str, ...]:
    """Draws in the order of `bias.ACCESSORIES`, the hat first, for on faces the glasses depend on it."""
    if category not in bias.WEARERS:
        return ()
    worn: list[str] = []
    for name, prior in bias.ACCESSORIES.items():
        share = prior
        if name == "glasses" and category == "face" and "hat" in worn:
            share = bias.GLASSES_GIVEN_HAT
        if name == "glasses" and view == "back":
            share = 0.0
        if rng.random() < share:
            worn.append(name)
    return tuple(worn)
