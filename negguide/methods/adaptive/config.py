"""The options of adaptive negatives: what they may be, how they go together, and the method that acts on a negative."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from negguide.methods.adaptive.policy import POLICIES, GroupPolicy, Policy, is_of_groups
from negguide.methods.base import EachImage, Method, Window
from negguide.methods.looks import Unit, as_fractions, as_looks
from negguide.methods.negative import Negative
from negguide.methods.options import check_options, option
from negguide.methods.registry import get_method
from negguide.methods.step import as_window
from negguide.watchers.protocol import Watcher
from negguide.watchers.questions import QuestionLike, as_questions
from negguide.watchers.registry import as_watcher
from negguide.watchers.words import canonical

KINDS: dict[str, Mapping[str, Any]] = {
    "replace": {"method": "negative"},
    "signed": {"method": "signed", "unconditional": "own"},
    "perp_neg": {"method": "perp_neg", "unconditional": "own"},
    "nag": {"method": "nag"},
    "recommended": {"method": "recommended"},
}
"""How a negative acts -> the method that does it, with its presets."""
SOMETHING = "something"
"""The text of a negative of which nothing is known yet."""
LOOKS, GUARD_LOOKS = 6, (0.24, 0.36, 0.6)
"""When a watcher looks where it is not told: what it costs is mostly its looks."""
GUARD_CONFIDENCE = 0.97
"""How sure a guard's watcher has to be where it is not told: half-formed dogs are called cats. See docs/defaults.md."""
THROUGHOUT = Window(0, 0.999)
"""When a guard's recommended negative acts: from when a thing is seen, not in the first half alone."""


@dataclasses.dataclass(frozen=True)
class AdaptiveOptions(Method):
    """Options of `AdaptiveNegatives`, which says what they do."""

    watcher: str | Watcher | Mapping[str, Any] = option(help="Who looks at the forming pictures.")
    policy: str | Policy | GroupPolicy = option(
        "creative",
        help="creative drives the picture away from all that it began to become; guard steers away from the watched things "
        "while they are seen; distinct and surplus keep the pictures of a prompt from showing all the same.",
        choices=tuple(POLICIES),
    )
    watch: str | Sequence[str] = option((), help="What a guard watches for.")
    questions: QuestionLike | Sequence[QuestionLike] = option(
        (), help="What is asked about the picture; {noun} is what the prompt is of. Empty: made from the rest."
    )
    category: str | None = option(None, help="What the picture is of, for the questions. Empty: taken from the prompt.")
    keep: str | Sequence[str] = option((), help="Words that never become negatives, beside those of the prompt.")
    kind: str | Callable[[Negative], Method] | None = option(
        None,
        help="How what was seen is avoided. Empty: replace for creative, signed for functions, else recommended.",
        choices=tuple(KINDS),
    )
    weight: float = option(1.0, help="Weight of what was seen; 0: nobody looks.", low=0)
    scale: float | None = option(None, help="Strength of the kinds signed and nag. Empty: theirs.", low=0)
    window: Window = option(default_factory=Window, help="When negatives act, in fractions of sampling or in sigma.")
    looks: int | Sequence[float] | None = option(
        None, help="How often the watcher looks, mostly early. Empty: six times, a guard three times.", low=0, high=1000
    )
    looks_unit: Unit = option("progress", help="Unit of looks that are given as marks.")
    asynchronous: bool = option(
        False, help="The watcher thinks while the next step runs; what it sees acts one step later."
    )
    timeout: float | None = option(
        None, help="How long the watcher may think. Empty: as long as it takes.", low=0, unit="s"
    )
    min_confidence: float | None = option(
        None, help="Answers that are less sure do not count. Empty: all count, for a guard from 0.97.", low=0, high=1
    )
    most: int | None = option(None, help="Negatives at most. Empty: as many as the text encoder reads.", low=1)
    drop: Literal["oldest", "weakest"] = option("oldest", help="Which negatives leave first when there are too many.")
    synonyms: Sequence[Sequence[str]] = option((), help="Groups of words that mean the same.")
    frames: Sequence[float] = option(
        (0.0, 0.5, 1.0), help="Which frames of a video the watcher sees, in fractions of it."
    )
    preview: Any = option(None, help="A tiny autoencoder for the watcher's pictures. Empty: the pipeline's own.")
    preview_size: int = option(512, help="Longer side of the watcher's pictures, at most.", low=1, unit="pixels")

    def __post_init__(self) -> None:
        put = object.__setattr__
        check_options(self)
        if not isinstance(self.watcher, str):
            put(self, "watcher", as_watcher(self.watcher))
        as_watcher(self.watcher)
        for name in ("watch", "keep"):
            value = getattr(self, name)
            put(self, name, (value,) if isinstance(value, str) else tuple(value))
        put(self, "questions", as_questions(self.questions))
        put(self, "window", as_window(self.window))
        guards = self.policy == "guard"
        if self.looks is None:
            put(self, "looks", GUARD_LOOKS if guards and self.looks_unit == "progress" else LOOKS)
        if self.min_confidence is None:
            put(self, "min_confidence", GUARD_CONFIDENCE if guards else 0.0)
        put(self, "looks", as_looks(self.looks, self.looks_unit, at_once=not guards))
        put(self, "frames", as_fractions(self.frames))
        put(self, "synonyms", tuple(tuple(group) for group in self.synonyms))
        self._check()
        self.steering(SOMETHING)

    def _check(self) -> None:
        """Raise `ValueError` for options that do not go together."""
        if isinstance(self.policy, str) and self.policy not in POLICIES:
            raise ValueError(
                f"policy is {self.policy!r}; possible: {', '.join(map(repr, POLICIES))}, or a function of a Sight"
            )
        if isinstance(self.kind, str) and self.kind not in KINDS:
            raise ValueError(
                f"kind is {self.kind!r}; possible: {', '.join(map(repr, KINDS))}, or a function Negative -> Method"
            )
        if self.policy == "guard" and not self.watch:
            raise ValueError("policy='guard' needs the list of what to watch for, e.g. watch=['hat', 'glasses']")
        kept = {canonical(text, self.synonyms) for text in self.keep}
        if both := [thing for thing in self.watch if canonical(thing, self.synonyms) in kept]:
            raise ValueError(f"{both[0]!r} is to be kept and watched for at once; leave it out of one of the two")

    @property
    def acts(self) -> bool:
        """Whether these settings ever look."""
        return self.weight != 0 and not self.window.is_empty and bool(self.looks)

    @property
    def kind_at_work(self) -> str | Callable[[Negative], Method]:
        """`kind`, or what stands for it where it is not told."""
        usual = "recommended" if self.policy == "guard" or is_of_groups(self.policy) else "signed"
        return self.kind or ("replace" if self.policy == "creative" else usual)

    @property
    def can_look_past(self) -> bool:
        """Whether a guard knows, at no cost, what the picture would be without its negative."""
        in_attention = type(self.steering(SOMETHING)).tokens is not Method.tokens
        return self.policy == "guard" and self.kind_at_work != "replace" and not in_attention

    def steering(self, prompt: str | EachImage) -> Method:
        """The method that acts on a negative as `kind` says."""
        lasts = self.policy == "guard" and self.kind_at_work == "recommended" and self.window == Window()
        negative = Negative(prompt, self.weight, THROUGHOUT if lasts else self.window)
        if isinstance(self.kind_at_work, str):
            options = dict(KINDS[self.kind_at_work])
            scale = {} if self.scale is None else {"scale": self.scale}
            if scale and self.kind_at_work not in ("signed", "nag"):
                raise ValueError(f"kind={self.kind_at_work!r} has no scale of its own; use weight, or kind='signed'")
            return get_method(options.pop("method"))(negative, **options, **scale)
        method = self.kind_at_work(negative)
        if not isinstance(method, Method):
            raise TypeError(f"kind made {method!r} of a negative; needed: a method, e.g. lambda n: PerpNeg(n)")
        silent = [
            event for event in ("values", "embeddings") if getattr(type(method), event) is not getattr(Method, event)
        ]
        if silent:
            raise ValueError(
                f"{method.name or type(method).__name__} cannot act for single images of a batch ({silent[0]})"
            )
        return method
