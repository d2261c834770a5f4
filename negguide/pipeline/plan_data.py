"""What a plan of a pipeline call holds, and what can be read off it without asking the pipeline anything."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

from negguide.methods.base import Condition
from negguide.methods.step import OtherWeights
from negguide.pipeline import argument_tree
from negguide.pipeline.call import Call
from negguide.pipeline.families import Family
from negguide.pipeline.guidance import Mode, follows_latents, without_embedded
from negguide.pipeline.layout import Layout
from negguide.pipeline.probe import Probe, RecordedCall
from negguide.pipeline.schedule import Schedule
from negguide.pipeline.unread import Cut

Row = Mapping[argument_tree.Path, Any]

OWN_KEY = 0
"""Key of what the pipeline itself puts in the negative place."""


@dataclass
class EncodedText:
    """A text as a pipeline encodes it."""

    row: Row | None
    """Its row of each argument that it changes; None where the arguments cannot be taken apart into rows."""
    whole: Mapping[argument_tree.Path, object] | None
    """The overlay of the text for all images, in that case."""
    print: object
    """What tokenizers and embedding tables said of it then (`text_tokens.fingerprint`)."""


@dataclass
class PlanData(abc.ABC):
    """What one call of a pipeline asks of its denoiser.

    `overlays[key]`: what to lay over the reference call (batch: the unconditional rows; else the conditional call) to
    ask for a condition; key 0 is the pipeline's own unconditional. `keys` maps conditions to keys; conditions that this
    pipeline encodes alike share one.
    """

    mode: Mode
    family: Family
    call: Call
    pipe: Any
    denoisers: Mapping[str, torch.nn.Module]
    layout: Layout
    schedule: Schedule
    scale: float
    sign: float
    takeover: bool
    caching: bool
    arguments: dict[str, object]
    """Changes to the user's arguments in the real call (guidance switched on or off)."""
    reference: RecordedCall
    through: Literal["negative_prompt", "prompt"]
    property_scale: float | None
    settings: Mapping[str, object]
    """What the pipeline kept of the call's guidance when it was probed."""
    main: str
    lent: bool = False
    """Whether guidance is on only for the sake of the methods: steps at which none of them acts are the plain call's."""
    on: Mapping[str, object] | None = None
    """Takeover: changes to the arguments under which the pipeline would guide by itself; None: it never does."""
    guided: Mode = "single"
    """Takeover: how it would then ask."""
    silenced: dict[argument_tree.Path, object] = field(default_factory=dict)
    """Takeover: what the pipeline leaves out of its unconditional although it follows the latents (guess mode): zeros."""
    own: dict[argument_tree.Path, object] = field(default_factory=dict)
    """Overlay of the pipeline's unconditional as probed; `overlays[0]` follows the running call."""
    overlays: dict[int, dict[argument_tree.Path, object]] = field(default_factory=dict)
    keys: dict[Condition, int] = field(default_factory=dict)
    others: dict[int, OtherWeights] = field(default_factory=dict)
    """Keys that other weights predict."""
    of_prompt: set[int] = field(default_factory=set)
    """Those of them that predict for the prompt itself."""
    texts: dict[str | None, EncodedText] = field(default_factory=dict)
    """Texts that were encoded, also in earlier calls; None: as if no negative had been given."""
    first_schedule: Schedule | None = None
    """That of the first section, in later ones of a video that is made in sections."""
    checked: set[str | None] = field(default_factory=set)
    """Those of them that were encoded in this call, or would be encoded alike now."""
    cuts: list[Cut] = field(default_factory=list)
    """Texts that a tokenizer of the pipeline did not read to the end."""
    text_paths: dict[argument_tree.Path, None] = field(default_factory=dict)
    """Where arguments of the denoiser follow from a text."""

    def __post_init__(self) -> None:
        if self.mode == "batch":
            cond, uncond = self.half(self.reference.named, "cond"), self.half(self.reference.named, "uncond")
            self.text_paths |= dict.fromkeys(self.text_part(argument_tree.diff(cond, uncond, self.family.rows.batches)))

    @property
    def rows(self) -> int:
        """Images of the call: rows of one denoiser pass."""
        return self.layout.rows

    @property
    def guides(self) -> bool:
        """Whether there is guidance, the pipeline's or ours."""
        return self.mode != "single" or self.takeover

    def begin(self, call: Call, pipe: object, denoisers: Mapping[str, torch.nn.Module], caching: bool) -> None:
        """Make ready for a run, which may be a repetition: forget what callbacks did to the last one."""
        self.call, self.pipe, self.denoisers, self.caching = call, pipe, denoisers, caching
        self.overlays, self.keys, self.others = {OWN_KEY: dict(self.own)}, {}, {}
        self.of_prompt.clear()
        self.schedule, self.first_schedule = self.first_schedule or self.schedule, None

    @property
    def asks(self) -> Mode:
        """How the pipeline asks when it guides by itself."""
        return self.guided if self.takeover else self.mode

    @property
    def changes(self) -> dict[str, object]:
        """What makes the pipeline guide by itself, but for the negative prompt."""
        changes = self.arguments if self.on is None else self.on
        return {key: value for key, value in changes.items() if key != "negative_prompt"}

    def asked_rows(self, count: int) -> int:
        """Rows of a denoiser call of a probe of texts for `count` images."""
        asks = self.mode if self.through == "prompt" else self.asks
        return count * (2 if asks == "batch" else 1)

    def stood(self) -> dict[str, Any]:
        """The part of the reference call that stands where `texts_in` finds other texts."""
        if self.mode == "batch":
            return self.half(self.reference.named, "cond" if self.through == "prompt" else "uncond")
        return self.reference.named

    def texts_in(self, probed: Probe, count: int) -> dict[str, object]:
        """The part of what a probe of `count` images asked that holds their texts."""
        if self.through == "negative_prompt":
            return self.unconditional_of(probed, count)
        return self.half(probed.asked[0].named, "cond", count) if self.mode == "batch" else probed.asked[0].named

    def unconditional_of(self, probed: Probe, count: int | None = None) -> dict[str, object]:
        """The unconditional part of what a guided pipeline asked (for `count` images, if not those of the plan)."""
        return self.half(probed.asked[0].named, "uncond", count) if self.asks == "batch" else probed.asked[-1].named

    def refresh_own(self, named: Mapping[str, object]) -> bool:
        """Follow the pipeline's real unconditional call (callbacks may change it); whether it differs from the plan."""
        own, changed = self.overlays[OWN_KEY], False
        for path, before in own.items():
            now = argument_tree.at(named, path)
            if now is not before:
                changed |= not argument_tree.same(now, before)
                own[path] = now
        return changed

    def text_part(self, overlay: Mapping[argument_tree.Path, object]) -> dict[argument_tree.Path, object]:
        """The overlay without what follows from the latents of a step."""
        texts = {
            path: value
            for path, value in without_embedded(overlay).items()
            if path[0] != self.main and not follows_latents(path)
        }
        return {**texts, **self.silenced}

    def is_text(self, path: argument_tree.Path) -> bool:
        """Whether an argument may follow from a text."""
        return path not in self.silenced and path in self.text_part({path: None})

    def half(
        self, named: Mapping[str, object], which: Literal["cond", "uncond"], rows: int | None = None
    ) -> dict[str, object]:
        """The call for one half of a batched guidance call (of `rows` images, if not those of the plan)."""
        rows = self.rows if rows is None else rows
        first = (which == "cond") == self.family.cond_first
        part = slice(0, rows) if first else slice(rows, 2 * rows)
        result: dict[str, object] = argument_tree.take(named, part, 2 * rows, self.family.rows)
        return result

    @abc.abstractmethod
    def probe_of(self, prompt: str | None) -> Probe:
        """What the pipeline asks for one text, the same for all images; None: as if none had been given."""

    @abc.abstractmethod
    def probe_of_texts(self, texts: Sequence[str]) -> Probe:
        """What the pipeline asks for as many images as there are texts, one for each."""

    @abc.abstractmethod
    def probe_with(self, arguments: Mapping[str, object]) -> Probe:
        """What the pipeline asks with these arguments."""

    @abc.abstractmethod
    def overlay_of(self, probed: Probe) -> dict[argument_tree.Path, object]:
        """What to lay over the reference call to ask for the texts of a probe of this call."""
