"""Negatives that watch: a vision-language model looks at the forming picture and names what to steer away from next."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar

from negguide.methods.adaptive.config import SOMETHING, AdaptiveOptions
from negguide.methods.adaptive.policy import is_of_groups
from negguide.methods.adaptive.session import Inner, Session
from negguide.methods.base import Condition, Denoised, Guidance, Method, Step
from negguide.methods.registry import register, register_preset
from negguide.methods.rows import estimate_of_rows, guidance_of_rows, tokens_of_rows, without_guidance
from negguide.methods.state import RunState, memory_of
from negguide.methods.tokens import Kind, Listen, RunContext, Tokens
from negguide.watchers.registry import as_watcher


@register
@dataclasses.dataclass(frozen=True)
class AdaptiveNegatives(AdaptiveOptions):
    """Every image of a batch is looked at while it forms; what is seen becomes its own negative from the next step on.

    `watcher`: "toybox", "vqa:<model>", "chat:<model>", a watcher of `negguide.watchers`, or any function `(images, questions)
    -> answers`. One that raises or is late (`timeout` seconds) loses its look; the picture goes on, and a warning tells.

    `policy`: "creative" lets answers accumulate, so that the picture is driven away from all that it began to become;
    "guard" steers away from what of the list `watch` is seen now, and is off, at no cost, while nothing is (what acts in attention
    or replaces the unconditional cannot be looked past: then what was seen is avoided to the end); "distinct" and
    "surplus" look at all pictures of a prompt together: of each thing the surest picture, or the surest quarter of them, keeps it,
    the others leave it; or a function of a `Sight`, or a `GroupPolicy`. `kind`: "replace" (in the place of the unconditional,
    no extra pass; default of creative, joined with the call's own `negative_prompt`), "recommended" (as `Recommended`, for a
    guard throughout; default of guard, distinct and surplus), "signed" (default otherwise), "perp_neg", "nag" (needs no
    guidance), or a function `Negative -> Method`.

    `questions`: texts (`{noun}`: what the prompt is of) or `Question`s; else those for the list `watch`, else those for
    `category`, else derived from each prompt ("What kind of pet is it?"). Words of the prompt and of `keep` never
    become negatives (in a guard's list they may); nor do empty answers, yes and no, "unknown", or plurals and `synonyms`
    of what is there. At most `most` negatives, and as many as the text encoder reads to the end.

    `looks`: how many, dense early (`negguide.methods.looks.dense`; a guard not at the first step), or marks in fractions
    of sampling, or of sigma with `looks_unit="sigma"`; None: six, of a guard three, at 0.24, 0.36 and 0.6.
    `min_confidence`: answers below it do not count; None: all count, for a guard those from 0.97, so that clean pictures stay.
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
        return not self.acts

    @property
    def couples(self) -> bool:
        return self.acts and (is_of_groups(self.policy) or self._sample.couples)

    def for_layers(self, kinds: Collection[Kind]) -> Method:
        acting = self._sample.for_layers(kinds)
        return self if type(acting) is type(self._sample) else dataclasses.replace(self, kind=acting.name)

    def prompts(self) -> Sequence[Condition]:
        return [condition for condition in self._sample.prompts() if condition.prompt != SOMETHING]

    def companions(self) -> Sequence[Condition]:
        return [condition for condition in self._sample.companions() if condition.prompt != SOMETHING]

    def check_beside(self, others: Sequence[Method]) -> None:
        rivals = [other._sample if isinstance(other, AdaptiveNegatives) else other for other in others]
        try:
            self._sample.check_beside(rivals)
        except ValueError as error:
            raise ValueError(
                f"{self.name} with kind={self.kind_at_work!r} does not go beside another method here ({error}); choose "
                "kind='signed' or 'perp_neg', or give the other negatives as the call's negative_prompt"
            ) from error

    def guides_now(self, step: Step, state: RunState) -> bool:
        inner = self._ready(step, state).inner
        # Images in which nothing is seen stay guided: their step is not given up, `combine` parts them from the others.
        return inner is None or None in inner.texts or inner.guides(step)

    def conditions(self, step: Step, state: RunState) -> Sequence[Condition]:
        inner = self._ready(step, state).inner
        return () if inner is None or not inner.guides(step) else inner.method.conditions(step, inner.state)

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        inner = self._ready(step, state).inner
        return None if inner is None else inner.method.listens(step, context, inner.state)

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        if (inner := self._memory(state).inner) is not None:
            with tokens_of_rows(tokens, inner.on(tokens["cond"] if "cond" in tokens else tokens[tokens.branches[0]])):
                inner.method.tokens(tokens, inner.state)
            _hand_on_notes(inner, state)

    def combine(self, guidance: Guidance, state: RunState) -> None:
        memory = self._memory(state)
        memory.plain = None
        if (inner := memory.inner) is None:
            return
        if self.can_look_past:
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
        return self.acts

    def looks_at(self, step: Step, state: RunState) -> bool:
        memory = self._memory(state)
        return memory.is_due(step) or (memory.inner is not None and memory.inner.looks_at(step))

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        if not self.acts:
            return
        memory = self._memory(state)
        if (inner := memory.inner) is not None and inner.looks_at(denoised.step):
            with estimate_of_rows(denoised, inner.on(denoised.x0)):
                inner.method.denoised(denoised, inner.state)
            _hand_on_notes(inner, state)
        if memory.is_due(denoised.step):
            memory.look(denoised)

    def _ready(self, step: Step, state: RunState) -> Session:
        """The memory of the run, with all answers in force that are due at this step."""
        memory = self._memory(state)
        for note in memory.collect(step):
            state.setdefault("notes", []).append(note)
            if warning := _warning(note, self):
                memory.warn_once(warning)
        return memory

    def _memory(self, state: RunState) -> Session:
        return memory_of(state, self, lambda: Session(self, as_watcher(self.watcher) if self.acts else None))

    @property
    def _sample(self) -> Method:
        """The method that would act on some negative: what it says of itself holds for all of them."""
        return self.steering(SOMETHING)


def _warning(note: Mapping[str, Any], options: AdaptiveOptions) -> str | None:
    """What the user should hear of a look without reading the trace."""
    if "error" in note:
        return f"{options.name}: the look at step {note['looked_at']} was lost ({note['error']}); the picture goes on"
    cut = [row for row in note["images"] if "left_out" in row and len(row["negatives"]) != options.most]
    if not cut:
        return None
    return (
        f"{options.name}: image {cut[0]['image']} has more negatives than its text encoder reads to the end; the "
        f"{options.drop} are left out ({', '.join(cut[0]['left_out'])})"
    )


def _hand_on_notes(inner: Inner, state: RunState) -> None:
    """What the method that acts has to tell stands among our own notes."""
    if notes := inner.state.pop("notes", None):
        state.setdefault("notes", []).extend(notes)


register_preset(
    "guard",
    AdaptiveNegatives,
    summary="a vision-language model watches for listed things and steers away only from those it sees",
    cost="2 while nothing is seen, as recommended while something is; looks by the watcher",
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
