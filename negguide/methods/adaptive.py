"""Negatives that watch: a vision-language model looks at the forming picture and names what to steer away from next."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

from negguide.methods import watching
from negguide.methods.base import Condition, Denoised, EachImage, Guidance, Method, Step, Window
from negguide.methods.looks import Unit, as_fractions, as_looks
from negguide.methods.negative import Negative
from negguide.methods.options import check_options, option
from negguide.methods.policy import POLICIES, GroupPolicy, Policy, is_of_groups
from negguide.methods.registry import get_method, register, register_preset
from negguide.methods.rows import estimate_of_rows, guidance_of_rows, tokens_of_rows, without_guidance
from negguide.methods.step import as_window
from negguide.methods.tokens import Kind, Listen, RunContext, Tokens
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
_SOMETHING = "something"
"""The text of a negative of which nothing is known yet."""
LOOKS, GUARD_LOOKS = 6, (0.12, 0.36, 0.6)
"""When a watcher looks where it is not told: what it costs is mostly its looks."""


@register
@dataclasses.dataclass(frozen=True)
class AdaptiveNegatives(Method):
    """Every image of a batch is looked at while it forms; what is seen becomes its own negative from the next step on.

    `watcher`: "toybox", "vqa:<model>", "chat:<model>", a watcher of `negguide.watchers`, or any function `(images, questions)
    -> answers`. One that raises or is late (`timeout` seconds) loses its look; the picture goes on, and a warning tells.

    `policy`: "creative" lets answers accumulate, so that the picture is driven away from all that it began to become;
    "guard" steers away from what of the list `watch` is seen now, and is off, at no cost, while nothing is; "distinct" and
    "surplus" look at all pictures of a prompt together: of each thing the surest picture, or the surest quarter of them, keeps it,
    the others leave it; or a function of a `Sight`, or a `GroupPolicy`. `kind`: "replace" (in the place of the unconditional, no
    extra pass; default of creative, joined with the call's own `negative_prompt`), "recommended" (as `Recommended`; default of
    distinct and surplus), "signed" (default otherwise), "perp_neg", "nag" (needs no guidance), or a function `Negative -> Method`.

    `questions`: texts (`{noun}`: what the prompt is of) or `Question`s; else those for the list `watch`, else those for
    `category`, else derived from each prompt ("What kind of pet is it?"). Words of the prompt and of `keep` never
    become negatives (in a guard's list they may); nor do empty answers, yes and no, "unknown", or plurals and `synonyms`
    of what is there. At most `most` negatives, and as many as the text encoder reads to the end.

    `looks`: how many, dense early (`negguide.methods.looks.dense`; a guard not at the first step), or marks in fractions
    of sampling, or of sigma with `looks_unit="sigma"`; None: six, of a guard three, at 0.12, 0.36 and 0.6.
    `asynchronous`: the watcher thinks while the next step runs and its answer takes effect exactly one step later than
    otherwise; it must then not draw from torch's global random state.

    What was asked, seen and decided stands in `StepRecord.notes` of the trace.

    >>> AdaptiveNegatives("toybox", keep="pet").policy
    'creative'
    """

    name: ClassVar[str] = "adaptive"
    summary: ClassVar[str] = "a vision-language model watches the picture form and names the negatives"
    cost: ClassVar[str] = "2 (kind 'replace'); 3 while something is seen ('signed', 'perp_neg'); looks by the watcher"
    paper: ClassVar[str] = "arXiv:2510.10715"

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
        help="How what was seen is avoided. Empty: replace for creative, recommended for distinct and surplus, else signed.",
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
    min_confidence: float = option(0.0, help="Answers that are less sure do not count.", low=0, high=1)
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
        put(self, "looks", as_looks(self.looks, self.looks_unit, at_once=not guards))
        put(self, "frames", as_fractions(self.frames))
        put(self, "synonyms", tuple(tuple(group) for group in self.synonyms))
        self._check()
        self.steering(_SOMETHING)

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
    def needs_guidance(self) -> bool:  # type: ignore[override]
        """Whether the kind of negative acts on classifier-free guidance."""
        return self._sample.needs_guidance

    @property
    def acts_alone(self) -> bool:  # type: ignore[override]
        """Whether the kind does so; one that keeps steps free of guidance does it here for single images."""
        kind = self._sample
        free = type(kind).guides is not Method.guides or type(kind).guides_now is not Method.guides_now
        return free or kind.acts_alone

    @property
    def is_neutral(self) -> bool:
        return not self._acts

    @property
    def couples(self) -> bool:
        return self._acts and (is_of_groups(self.policy) or self._sample.couples)

    def for_layers(self, kinds: Collection[Kind]) -> Method:
        acting = self._sample.for_layers(kinds)
        return self if type(acting) is type(self._sample) else dataclasses.replace(self, kind=acting.name)

    def prompts(self) -> Sequence[Condition]:
        return [condition for condition in self._sample.prompts() if condition.prompt != _SOMETHING]

    def companions(self) -> Sequence[Condition]:
        return [condition for condition in self._sample.companions() if condition.prompt != _SOMETHING]

    def check_beside(self, others: Sequence[Method]) -> None:
        rivals = [other._sample if isinstance(other, AdaptiveNegatives) else other for other in others]
        try:
            self._sample.check_beside(rivals)
        except ValueError as error:
            raise ValueError(
                f"{self.name} with kind={self.kind_at_work!r} does not go beside another method here ({error}); choose "
                "kind='signed' or 'perp_neg', or give the other negatives as the call's negative_prompt"
            ) from error

    def guides_now(self, step: Step, state: dict[str, Any]) -> bool:
        inner = self._ready(step, state).inner
        # Images in which nothing is seen stay guided: their step is not given up, `combine` parts them from the others.
        return inner is None or None in inner.texts or inner.guides(step)

    def conditions(self, step: Step, state: dict[str, Any]) -> Sequence[Condition]:
        inner = self._ready(step, state).inner
        return () if inner is None or not inner.guides(step) else inner.method.conditions(step, inner.state)

    def listens(self, step: Step, context: RunContext, state: dict[str, Any]) -> Listen | None:
        inner = self._ready(step, state).inner
        return None if inner is None else inner.method.listens(step, context, inner.state)

    def tokens(self, tokens: Tokens, state: dict[str, Any]) -> None:
        if (inner := self._memory(state).inner) is not None:
            with tokens_of_rows(tokens, inner.on(tokens["cond"] if "cond" in tokens else tokens[tokens.branches[0]])):
                inner.method.tokens(tokens, inner.state)
            _hand_on_notes(inner, state)

    def combine(self, guidance: Guidance, state: dict[str, Any]) -> None:
        memory = self._memory(state)
        memory.plain = None
        if (inner := memory.inner) is None:
            return
        if self.policy == "guard" and self.kind_at_work != "replace":
            # What the picture would be without the negative: judged by its effect, a guard would switch itself off.
            memory.plain = guidance.result()
        with guidance_of_rows(guidance, inner.on(guidance.cond)):
            if inner.guides(guidance.step):
                inner.method.combine(guidance, inner.state)
            else:
                without_guidance(guidance)
        _hand_on_notes(inner, state)

    @property
    def sees_denoised(self) -> bool:
        return self._acts

    def looks_at(self, step: Step, state: dict[str, Any]) -> bool:
        memory = self._memory(state)
        return memory.is_due(step) or (memory.inner is not None and memory.inner.looks_at(step))

    def denoised(self, denoised: Denoised, state: dict[str, Any]) -> None:
        if not self._acts:
            return
        memory = self._memory(state)
        if (inner := memory.inner) is not None and inner.looks_at(denoised.step):
            with estimate_of_rows(denoised, inner.on(denoised.x0)):
                inner.method.denoised(denoised, inner.state)
            _hand_on_notes(inner, state)
        if memory.is_due(denoised.step):
            memory.look(denoised)

    def _ready(self, step: Step, state: dict[str, Any]) -> watching.Watching:
        """The memory of the run, with all answers in force that are due at this step."""
        memory = self._memory(state)
        for note in memory.collect(step):
            state.setdefault("notes", []).append(note)
            if warning := self._warning(note):
                memory.warn_once(warning)
        return memory

    def _warning(self, note: Mapping[str, Any]) -> str | None:
        """What the user should hear of a look without reading the trace."""
        if "error" in note:
            return f"{self.name}: the look at step {note['looked_at']} was lost ({note['error']}); the picture goes on"
        cut = [row for row in note["images"] if "left_out" in row and len(row["negatives"]) != self.most]
        if not cut:
            return None
        return (
            f"{self.name}: image {cut[0]['image']} has more negatives than its text encoder reads to the end; the "
            f"{self.drop} are left out ({', '.join(cut[0]['left_out'])})"
        )

    def _memory(self, state: dict[str, Any]) -> watching.Watching:
        key = f"{self.name}@{id(self)}"
        if key not in state:
            state[key] = watching.Watching(self, as_watcher(self.watcher) if self._acts else None)
        memory: watching.Watching = state[key]
        return memory

    @property
    def _acts(self) -> bool:
        return self.weight != 0 and not self.window.is_empty and bool(self.looks)

    @property
    def kind_at_work(self) -> str | Callable[[Negative], Method]:
        usual = "recommended" if is_of_groups(self.policy) else "signed"
        return self.kind or ("replace" if self.policy == "creative" else usual)

    @property
    def _sample(self) -> Method:
        """The method that would act on some negative: what it says of itself holds for all of them."""
        return self.steering(_SOMETHING)

    def steering(self, prompt: str | EachImage) -> Method:
        """The method that acts on a negative as `kind` says."""
        negative = Negative(prompt, self.weight, self.window)
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


def _hand_on_notes(inner: watching.Inner, state: dict[str, Any]) -> None:
    """What the method that acts has to tell stands among our own notes."""
    if notes := inner.state.pop("notes", None):
        state.setdefault("notes", []).extend(notes)


register_preset(
    "guard",
    AdaptiveNegatives,
    summary="a vision-language model watches for listed things and steers away only from those it sees",
    cost="2 while nothing is seen, 3 while something is; looks by the watcher",
    paper="arXiv:2510.26052",
    policy="guard",
)
register_preset(
    "distinct",
    AdaptiveNegatives,
    summary="of the pictures of a prompt the surest keeps what it shows, and the others leave it",
    cost="as recommended, while something is left; looks by the watcher",
    paper="this project",
    policy="distinct",
)
register_preset(
    "surplus",
    AdaptiveNegatives,
    summary="of the pictures of a prompt at most a quarter keeps the same thing, and the others leave it",
    cost="as recommended, while something is left; looks by the watcher",
    paper="this project",
    policy="surplus",
)
