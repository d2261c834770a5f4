"""A scene: the complete, checked description of one picture."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from negguide.toybox.world import bias


@dataclass(frozen=True)
class Scene:
    """Everything that determines a picture; `render(scene)` is a pure function of it.

    Args:
        category: one of `bias.CATEGORIES`.
        kind: one of `bias.KINDS[category]`.
        colour: one of `bias.COLOURS`, the main colour of the thing (for faces, of the clothes).
        background: one of `bias.BACKGROUNDS`.
        size: "large" (about 46 px of 64) or "small" (about 29 px).
        position: "center", "left" or "right".
        count: 1, or 2 for two things side by side (then size "small" and position "center").
        accessories: a subset of `bias.ACCESSORIES`, stored in that table's order; only for pets and faces.
        view: "front", or for faces also "side" and "back" (never with glasses).
        style: one of `bias.STYLES`.
        seed: drives the jitter: +-3 px, +-8 % scale, shade, left/right mirroring, texture.

    Raises:
        ValueError: if a value or a combination is impossible; the message names what is possible.
    """

    category: str
    kind: str
    colour: str
    background: str
    size: str
    position: str
    count: int
    accessories: tuple[str, ...]
    view: str
    style: str
    seed: int

    def __post_init__(self) -> None:
        """Check every field, and put the accessories in their canonical order."""
        check("category", self.category, bias.CATEGORIES)
        check("kind", self.kind, bias.KINDS[self.category], of=self.category)
        check("colour", self.colour, bias.COLOURS)
        check("background", self.background, bias.BACKGROUNDS)
        check("size", self.size, bias.SIZES)
        check("position", self.position, bias.POSITIONS)
        check("count", self.count, bias.COUNTS)
        for accessory in self.accessories:
            check("accessory", accessory, bias.ACCESSORIES if self.category in bias.WEARERS else (), of=self.category)
        check("view", self.view, bias.VIEWS if self.category == "face" else ("front",), of=self.category)
        check("style", self.style, bias.STYLES)
        if self.count == 2 and (self.size, self.position) != ("small", "center"):
            raise ValueError(
                f"count 2 needs size 'small' and position 'center', not {self.size!r} and {self.position!r}"
            )
        if self.view == "back" and "glasses" in self.accessories:
            raise ValueError("view 'back' hides glasses; with glasses the view may be 'front' or 'side'")
        ordered = tuple(name for name in bias.ACCESSORIES if name in self.accessories)
        object.__setattr__(self, "accessories", ordered)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain JSON values (accessories as a list)."""
        return asdict(self) | {"accessories": list(self.accessories)}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> "Scene":
        """The inverse of `to_dict`."""
        return cls(**{**fields, "accessories": tuple(fields["accessories"])})


def check(what: str, value: object, possible: Collection[object], of: str | None = None) -> None:
    """Raise a ValueError that names the possible values unless `value` is one of them."""
    if value not in possible:
        owner = f" of category {of!r}" if of else ""
        choices = ", ".join(repr(choice) for choice in possible) or "none"
        raise ValueError(f"unknown {what}{owner}: {value!r}; possible: {choices}")
