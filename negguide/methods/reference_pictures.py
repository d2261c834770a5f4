"""Pictures to keep away from, as one run shows them to the denoiser: given ones, or those that a bank picks as it goes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from negguide.methods.avoid import Avoid, as_avoided, kept_tokens, latents_of
from negguide.methods.bank import Bank
from negguide.methods.step import Step
from negguide.methods.tokens import RunContext

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass
class ReferencePictures:
    """What one run has made of them so far. `noise` and `seed`: as in `NegToMe`."""

    reference: tuple[Avoid, ...] | Bank
    noise: str
    seed: int
    x0: Tensor | None = None
    """The clean estimate of the last step, by which a bank picks."""
    _clean: Tensor | None = None
    _drawn: Tensor | None = None
    """The noise that all of them are shown with."""
    _inverted: Sequence[Tensor] | None = None
    """Their own noisy latents of every step."""
    _bank: Any = None
    _age: int = 0
    """Steps since the bank was opened."""
    _hardest: Sequence[Sequence[int]] = ()
    """The bank's pictures for each group."""
    _encoded: dict[int, Tensor] = dataclasses.field(default_factory=dict)
    _kept: dict[tuple[int, int] | None, Tensor] = dataclasses.field(default_factory=dict)
    """Which tokens are to be avoided, by the grid of a layer."""

    def latents(self, step: Step, context: RunContext) -> Tensor | None:
        """Noisy latents (P, R, ...) at this step; None while a bank has nothing to go by."""
        import torch

        if isinstance(self.reference, Bank):
            clean = self._picked(self.reference, context)
            if clean is None:
                return None
        else:
            if self._clean is None:
                self._clean = latents_of(self.reference, context.encode, step.sample)
            clean = self._clean.expand(len(context.groups), *self._clean.shape)
        if self.noise == "clean":
            return clean
        if self.noise == "inverted":
            if self._inverted is None:
                self._inverted = context.inverted(clean)
            return self._inverted[step.index]
        if self._drawn is None:
            # Drawn on the CPU, the same for every picture and group, whatever else is in the batch.
            generator = torch.Generator().manual_seed(self.seed)
            self._drawn = torch.randn(step.sample.shape[1:], generator=generator).to(step.sample)
        return context.noised(clean, self._drawn.expand_as(clean))

    def tokens(self, tokens: Tensor, grid: tuple[int, int] | None) -> Tensor:
        """(R, N, d) of the pictures in a layer of that grid -> (M, d), of masked ones only what is to be avoided."""
        flat = tokens.flatten(0, 1)
        if isinstance(self.reference, Bank) or all(avoid.mask is None for avoid in self.reference):
            return flat
        if grid not in self._kept:
            self._kept[grid] = kept_tokens(self.reference, grid).to(flat.device)
        return flat[self._kept[grid]]

    def _picked(self, bank: Bank, context: RunContext) -> Tensor | None:
        """Clean latents (P, R, ...) of the bank's pictures most like the clean estimate of the last step."""
        import torch

        if self.x0 is None:
            return None
        if self._bank is None:
            self._bank = bank.open()
        if self._age % bank.every == 0:
            self._hardest = self._bank.hardest(context.decode(self.x0), context.groups, bank.count)
            for index in {index for picks in self._hardest for index in picks} - self._encoded.keys():
                self._encoded[index] = context.encode([self._bank.picture(index)])[0]
        self._age += 1
        return torch.stack([torch.stack([self._encoded[index] for index in picks]) for picks in self._hardest])


def as_reference(value: object) -> str | Bank | tuple[Avoid, ...]:
    """What `NegToMe(reference=...)` takes, checked and read."""
    if isinstance(value, str) and value in ("first", "all"):
        return value
    if isinstance(value, Bank):
        return value
    if isinstance(value, Mapping) and "folder" in value:
        return Bank.from_dict(value)
    if isinstance(value, str) and not Path(value).suffix:
        raise ValueError(
            f"reference is {value!r}; possible: 'first', 'all', a path to a picture, a picture, an Avoid with a mask, a list "
            "of them, or a Bank"
        )
    return as_avoided(value)
