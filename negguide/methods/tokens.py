"""What a method hears inside a denoiser: image tokens right after an attention layer, and the values of its text.

A method answers `listens` at each step: None where it does not listen, which then costs nothing, or a `Listen` that says
after which layers its `tokens` (and `values`) are called and what rides along in the same forward.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from negguide.methods.step import Condition, Step

if TYPE_CHECKING:
    from torch import Tensor

Label = tuple[Literal["main", "companion"], int]
"""Rows of a forward by use and key of the plan."""

Branch = Literal["cond", "uncond"] | Condition | Label
"""Whose prediction some rows make: the prompt's, that of what the pipeline has in the negative place, a condition's. A
condition that rides as a companion is found before an equal one that guides; the latter then goes by its label."""

Kind = Literal["self", "cross", "joint"]

Pooled = Literal["prompt", "own"]

Placement = Literal["attention", "layer"]
"""What is heard of a layer: what attention gives, before the layer's output projection; or what the layer gives, after it."""


@dataclasses.dataclass(frozen=True)
class Layer:
    """An attention layer over image tokens. `index` of `count`: its place among those of the denoiser, inputs first."""

    name: str
    """Its name inside the denoiser, e.g. "up_blocks.1.attentions.0.transformer_blocks.0.attn1"."""
    kind: Kind
    """"joint": image and text tokens attend to each other."""
    index: int
    count: int
    reads_any_text: bool = False
    """`Tokens.attend_to` can ask it with the text of any condition. Elsewhere let that text ride as a companion."""


@dataclasses.dataclass(frozen=True)
class RunContext:
    """What a method may know of the running denoiser, and of the pictures that its latents stand for."""

    family: str
    """Row of `negguide.pipeline.families`, e.g. "Stable Diffusion XL", "Flux"."""
    defaults: Mapping[str, Mapping[str, Any]]
    """Options of methods that differ in this family, by the method's name."""
    find_layers: Callable[[], tuple[Layer, ...]]
    groups: tuple[tuple[int, ...], ...]
    """Rows of the same prompt, in the order of the call; every row 0 <= i < B stands in one group."""
    guided: bool
    """False for calls without classifier-free guidance: only the branch "cond" exists."""
    text: Callable[[Branch], tuple[Tensor, Tensor | None]]
    """The text of a branch or any condition as cross layers take it, (B, L, d), and its attention bias (B, 1, L) or None."""
    noised: Callable[[Tensor, Tensor], Tensor]
    """(clean latents, standard noise) -> latents as the scheduler holds them at this step."""
    inverted: Callable[[Tensor], Sequence[Tensor]]
    """Clean latents (P, R, ...) of pictures for each group -> for every step of the run, the noisy latents (P, R, ...) from
    which the denoiser, unguided, would make them (DDIM inversion); costs a row a picture and step."""
    encode: Callable[[Sequence[Any]], Tensor]
    """PIL pictures -> clean latents (R, ...), shaped and scaled like the rows of `Step.sample`, on its device."""
    decode: Callable[..., list[Any]]
    """Clean latents (B, ...) -> PIL pictures. `longest=`: pixels of the longer side, at most (then of smaller latents);
    `vae=`: another decoder of the same latents, a module or a hub id, such as a tiny autoencoder. `frames=`: of videos, the
    frames at these fractions of each, image by image."""
    prompts: tuple[str, ...]
    """The prompt of each image; "" where it was given as embeddings."""
    own_negatives: tuple[str, ...]
    """The call's own negative prompt of each image; "" where it has none in words."""
    fits: Callable[[str], bool]
    """Whether the text encoders read a text to its end."""

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers that can be listened to; raises `Unsupported` for denoisers that are not known."""
        return self.find_layers()


@dataclasses.dataclass(frozen=True)
class Listen:
    """What a method wants of one step.

    `layers`: after which its `tokens` and `values` are called. `companions`: conditions whose rows ride in the same
    forward as the prompt's; their predictions are not used. `appended`: conditions whose text embeddings are appended to
    those of the prompt. `references`: noisy latents (P, R, ...) of R reference pictures for each of the P groups, at this
    step's level, which ride in every forward with the group's own text. `placement`: what `tokens` hears of a layer; a
    layer without an output projection of its own has one answer to both. `same_image`: companions keep the prompt's image
    tokens throughout, so that what depends on the image alone need not be computed for them. `pooled`: whose pooled text
    vector, where a denoiser takes one, modulates the companions' rows.
    """

    layers: Callable[[Layer], bool]
    companions: tuple[Condition, ...] = ()
    appended: tuple[Condition, ...] = ()
    references: Tensor | None = None
    placement: Placement = "layer"
    same_image: bool = False
    pooled: Pooled = "prompt"


class _Rows:
    """Rows of one forward, by branch; edited in place of the others."""

    def __init__(self, step: Step, layer: Layer, context: RunContext, rows: Tensor, slots: Slots) -> None:
        self.step = step
        self.layer = layer
        self.context = context
        self._rows = rows
        self._slots = slots
        self._edits: dict[Label, Tensor] = {}
        self._whole: Tensor | None = rows

    @property
    def branches(self) -> tuple[Branch, ...]:
        """Those present in this forward, companions last. Pipelines that ask one by one have one branch a forward."""
        return tuple(self._slots.name(label) for label in self._slots.labels)

    @property
    def companions(self) -> tuple[Branch, ...]:
        """Those of `branches` that only ride along."""
        return tuple(self._slots.name(label) for label in self._slots.labels if label[0] == "companion")

    @property
    def heard(self) -> Tensor:
        """All rows as the layer gave them."""
        return self._rows

    @property
    def touched(self) -> bool:
        """Whether a branch has been edited."""
        return bool(self._edits)

    @property
    def edits(self) -> dict[Label, Tensor]:
        """What the rows that have been edited are now."""
        return dict(self._edits)

    def write(self) -> None:
        """Put the edited rows into the tensor that was heard, which must be nobody else's."""
        for label, value in self._edits.items():
            self._rows[self._slots.rows(label)] = value

    def __contains__(self, branch: Branch) -> bool:
        return self._slots.find(branch) is not None

    def __getitem__(self, branch: Branch) -> Tensor:
        """The rows of a branch, (B, ..., C) in the model's dtype; `KeyError` if it is not in this forward."""
        label = self._label(branch)
        return self._edits[label] if label in self._edits else self._rows[self._slots.rows(label)]

    def __setitem__(self, branch: Branch, value: Tensor) -> None:
        label, before = self._label(branch), self[branch]
        if value.shape != before.shape:
            raise ValueError(
                f"{branch!r} at {self.layer.name} is {tuple(before.shape)}, it cannot become {tuple(value.shape)}"
            )
        self._edits[label], self._whole = value.to(before.dtype), None

    def result(self) -> Tensor:
        """All rows, the edited ones in their places."""
        import torch

        if self._whole is None:
            parts = [self._edits.get(label, self._rows[self._slots.rows(label)]) for label in self._slots.labels]
            rest = self._rows[len(self._slots.labels) * self._slots.count :]
            self._whole = parts[0] if len(parts) == 1 and not len(rest) else torch.cat([*parts, rest])
        return self._whole

    def _label(self, branch: Branch) -> Label:
        label = self._slots.find(branch)
        if label is None:
            raise KeyError(f"{branch!r} has no rows in this forward, which holds {list(self.branches)}")
        return label


class Tokens(_Rows):
    """Image tokens right after an attention layer, each branch (B, N, d); assign a branch to change it.

    Text tokens are not among them. Every branch present wants its own edit: `for branch in tokens.branches`.
    `grid`: (h, w) of the N tokens, row by row; None for videos.
    """

    def __init__(
        self,
        step: Step,
        layer: Layer,
        context: RunContext,
        rows: Tensor,
        slots: Slots,
        grid: tuple[int, int] | None,
        ask: Callable[[Tensor, slice, Tensor | None], Tensor],
    ) -> None:
        super().__init__(step, layer, context, rows, slots)
        self.grid = grid
        self._ask = ask

    def references(self, branch: Branch = "cond") -> Tensor:
        """Tokens (P, R, N, d) of the reference pictures in this layer and branch, as asked by `Listen.references`."""
        label = self._label(branch)
        mains = [slot for slot in self._slots.labels if slot[0] == "main"]
        place = mains.index(label) if label in mains else self._slots.cond_place(mains)
        start = len(self._slots.labels) * self._slots.count
        shape = (len(mains), len(self.context.groups), -1, *self._rows.shape[1:])
        return self._rows[start:].reshape(shape)[place]

    def attend_to(self, text: Branch, branch: Branch = "cond") -> Tensor:
        """What a cross-attention layer says to the same image tokens with another text; (B, N, d).

        Costs keys, values and attention of that text: queries and output projection are those of the running forward. The
        image prompt of an IP-Adapter is kept. No method hears it.

        Args:
            text: a condition that `companions` names, or a branch.
            branch: whose image tokens are asked.

        Raises:
            ValueError: for layers without `Layer.reads_any_text`.
        """
        if not self.layer.reads_any_text:
            raise ValueError(
                f"{self.layer.name} ({self.layer.kind}-attention) cannot be asked with another text; only cross layers of "
                "known families can: let the text ride as a companion"
            )
        return self._ask(self.context.text(text)[0], self._slots.rows(self._label(branch)), self.context.text(text)[1])


class Values(_Rows):
    """The value projection of the text tokens of a cross or joint layer, each branch (B, L, C); assign to change it."""

    def __init__(
        self,
        step: Step,
        layer: Layer,
        context: RunContext,
        rows: Tensor,
        slots: Slots,
        parts: Mapping[int | None, slice],
    ) -> None:
        super().__init__(step, layer, context, rows, slots)
        self._parts = parts

    def part(self, condition: Condition | None = None) -> slice:
        """Tokens of an appended text inside the branch "cond"; None: those of the branch's own text."""
        key = None if condition is None else self._slots.key(condition)
        if key not in self._parts:
            raise KeyError(f"{condition!r} was not appended at this step")
        return self._parts[key]


@dataclasses.dataclass(frozen=True)
class Slots:
    """Who has which rows of a forward: `labels` in order, `count` rows each."""

    labels: tuple[Label, ...]
    count: int
    names: Mapping[int, Branch]
    """"cond", "uncond" or a condition for each key that guides."""
    conditions: Mapping[int, Condition]
    key: Callable[[Condition], int]
    """Key of a condition in the plan of the call."""

    def name(self, label: Label) -> Branch:
        """The branch of a label, by which alone it is found."""
        use, key = label
        if use == "companion":
            return self.conditions[key]
        name = self.names[key]
        return label if isinstance(name, Condition) and ("companion", key) in self.labels else name

    def rows(self, label: Label) -> slice:
        """Its rows."""
        at = self.labels.index(label)
        return slice(at * self.count, (at + 1) * self.count)

    def find(self, branch: Branch) -> Label | None:
        """The label of a branch, companions first; None if it is not in this forward."""
        if isinstance(branch, Condition):
            key = self.key(branch)
            order: tuple[Label, ...] = (("companion", key), ("main", key))
            return next((label for label in order if label in self.labels), None)
        if isinstance(branch, tuple):
            return branch if branch in self.labels else None
        return next((label for label in self.labels if label[0] == "main" and self.names[label[1]] == branch), None)

    def cond_place(self, mains: Sequence[Label]) -> int:
        """Where the prompt's rows stand among the main ones."""
        return next(at for at, label in enumerate(mains) if self.names[label[1]] == "cond")
