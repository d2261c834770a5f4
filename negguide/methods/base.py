"""What a method is: a frozen config that answers the events of a sampling step.

The runner (`negguide.engine`) owns the loop, the passes and the pipeline; a method only says which extra
conditions it wants predicted at a step and how it edits the guidance made of them. It knows no model by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from negguide.methods.events import Denoised, Embeddings, Guidance
from negguide.methods.state import RunState
from negguide.methods.step import OWN, UNCONDITIONAL, Condition, EachImage, Step, Window

__all__ = [
    "OWN",
    "UNCONDITIONAL",
    "Condition",
    "Denoised",
    "EachImage",
    "Embeddings",
    "Guidance",
    "Method",
    "Step",
    "Window",
]

if TYPE_CHECKING:
    from negguide.methods.tokens import Kind, Listen, RunContext, Tokens, Values


@dataclasses.dataclass(frozen=True)
class Method:
    """Base of all methods: a frozen, JSON-able config; override the events it answers.

    A method holds no state of a run: what it must remember between steps goes into `state`, a dict that the runner
    makes anew for each call of the pipeline and hands to every event; `negguide.methods.state.memory_of(state, self, Memory)`
    gives an object of its own type in it. What it appends to `state["notes"]` (a list, of
    JSON-able dicts) is handed on in the record of the step. A note with an `error` says that something it relies on failed
    (a watcher, say), so that the picture is not what the method makes: experiments then do not count it as made.
    """

    name: ClassVar[str] = ""
    """Registry name, as used on the command line and in JSON."""
    summary: ClassVar[str] = ""
    """One line for `negguide methods`."""
    cost: ClassVar[str] = ""
    """Denoiser passes per step in words, e.g. '2 + K (live negatives)'."""
    paper: ClassVar[str] = ""
    """Where it comes from, e.g. 'arXiv:2304.04968'."""
    needs_guidance: ClassVar[bool] = True
    """Whether it acts on classifier-free guidance (an error explains when the pipeline runs without)."""

    renamed: ClassVar[Mapping[str, str]] = {}
    """Former name of an option -> its name: files that an older version wrote go on loading, with a warning."""

    acts_alone: ClassVar[bool] = True
    """Whether its `combine` may do something at a step for which it asked no condition."""

    @property
    def is_neutral(self) -> bool:
        """Whether these settings change no step of any call: no guidance is switched on, and no pass paid, for its sake."""
        return not self.acts_alone and type(self).prompts is not Method.prompts and not self.prompts()

    @property
    def couples(self) -> bool:
        """Whether the pictures of a call look at each other. Where no method says so, picture i of a batch is picture i
        alone, so that a batch may be split; what couples must also be given the same companions to be made again.
        """
        return False

    def conditions(self, step: Step, state: RunState) -> Sequence[Condition]:
        """Conditions wanted at this step. Nothing wanted, nothing paid: answer () when the window is closed."""
        return ()

    def prompts(self) -> Sequence[Condition]:
        """Every condition it may ever ask for, so that all texts are encoded once, before the first step."""
        return ()

    def check_beside(self, others: Sequence[Method]) -> None:
        """Raise `ValueError`, with the remedy, when it cannot work together with one of the other attached methods."""

    def for_layers(self, kinds: Collection[Kind]) -> Method:
        """The method that acts on a pipeline of whose denoiser these kinds of attention layers are known, none where it is unknown.

        Itself, but for methods that choose by the pipeline; asked by `attach`.
        """
        return self

    def guides(self, step: Step) -> bool:
        """Whether this step is guided at all. Where any method says no, the prediction is the prompt's alone: one pass,
        and no method's `conditions` and `combine` are asked.
        """
        return True

    def guides_now(self, step: Step, state: RunState) -> bool:
        """What the runner asks instead of `guides`; for methods whose answer depends on what happened in the run."""
        return self.guides(step)

    def companions(self) -> Sequence[Condition]:
        """Every condition whose text it may ever want inside the denoiser (see `Listen`), encoded before the first step."""
        return ()

    def listens(self, step: Step, context: RunContext, state: RunState) -> Listen | None:
        """Whether, and after which attention layers, it wants to hear this step. None costs nothing."""
        return None

    def tokens(self, tokens: Tokens, state: RunState) -> None:
        """See or change image tokens right after one of the layers it listens to."""

    def values(self, values: Values, state: RunState) -> None:
        """See or change the values of the text tokens in one of the cross or joint layers it listens to."""

    @property
    def edits_embeddings(self) -> bool:
        """Whether `embeddings` is to be called."""
        return type(self).embeddings is not Method.embeddings

    def embeddings(self, embeddings: Embeddings, state: RunState) -> None:
        """See or change the prompt's embeddings of this step, before any prediction."""

    def combine(self, guidance: Guidance, state: RunState) -> None:
        """Edit the guidance of this step; leave it untouched to change nothing, bit for bit."""

    @property
    def sees_denoised(self) -> bool:
        """Whether `denoised` is called at all; where no method says so, no clean estimate is computed."""
        return type(self).denoised is not Method.denoised

    def looks_at(self, step: Step, state: RunState) -> bool:
        """Whether `denoised` is to be called at this step; asked after `conditions`, if `sees_denoised`."""
        return True

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        """See or change the clean estimate, per image."""
