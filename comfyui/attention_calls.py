"""The attention calls of one pass of a transformer, in the place of which methods act: NAG, VSF and NegToMe on its tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from negguide import maths
from negguide.methods.mask import Mask
from negguide.methods.nag import NAG

from .negatives import Entry
from .riding import Pushing

if TYPE_CHECKING:
    from torch import Tensor


@dataclasses.dataclass(frozen=True)
class Text:
    """A negative as the model is given it: `tokens` (1, L, D)."""

    entry: Entry
    tokens: Tensor


class Calls:
    """What both kinds of model share; `context` (rows, L, D) is the text that the model is given in the place of its own."""

    riding = 0
    """Rows that ride along behind those of the call."""
    context: Tensor

    def __init__(
        self,
        model: Any,
        x: Tensor,
        context: Tensor,
        rows: Sequence[int],
        nag: NAG | None,
        nag_texts: Sequence[Text],
        vsf_scale: float,
        vsf_texts: Sequence[Text],
        pushing: Pushing | None,
    ) -> None:
        self.rows, self.count, self.own = list(rows), len(x), context.shape[1]
        self.nag, self.nag_texts, self.pushing = nag, nag_texts, pushing
        self.vsf_scale, self.vsf_texts = vsf_scale, vsf_texts
        self.words = sum(text.tokens.shape[1] for text in vsf_texts)
        self.earlier: Callable[..., Tensor] | None = None
        patch = model.patch_size if isinstance(model.patch_size, int) else model.patch_size[-1]
        self.grid = tuple(-(-side // patch) for side in x.shape[-2:])
        self.prepare(context)

    def prepare(self, context: Tensor) -> None:
        """Make `context` of the model's own (B, L, D)."""
        raise NotImplementedError

    def attend(
        self, function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **more: Any
    ) -> Tensor:
        """ComfyUI's override of attention: `function` and what it is called with -> its result, with the methods in it."""
        raise NotImplementedError

    def usual(self, function: Callable[..., Tensor], *args: Any, **more: Any) -> Tensor:
        """Attention as it were without us, by another node's override if there is one."""
        return function(*args, **more) if self.earlier is None else self.earlier(function, *args, **more)

    def moved(self, z_pos: Tensor, z_neg: Sequence[Tensor]) -> Tensor:
        """NAG on the prompt's image tokens (n, N, C), `z_neg` those that saw each negative."""
        method = self.nag
        assert method is not None and method.scale is not None and method.tau is not None and method.alpha is not None
        mixed = maths.compose(z_neg, [self._weight(text.entry, z_pos) for text in self.nag_texts], base=z_pos)
        return maths.nag(z_pos, mixed, method.scale, method.tau, method.alpha).to(z_pos.dtype)

    def flipped(self, v: Tensor, begin: int, axis: int) -> Tensor:
        """Values with those of VSF's words, from place `begin` of the axis, turned round."""
        import torch

        weights = torch.ones(v.shape[axis], device=v.device, dtype=torch.float32)
        for text in self.vsf_texts:
            end = begin + text.tokens.shape[1]
            weights[begin:end], begin = -self.vsf_scale * text.entry.weight, end
        return maths.flip_values(v.movedim(axis, -2), weights).movedim(-2, axis).to(v.dtype)

    def _weight(self, entry: Entry, z: Tensor) -> float | Tensor:
        if entry.mask is None:
            return entry.weight
        region = Mask.of(entry.mask.reshape(entry.mask.shape[-2:]).cpu().float()).tensor(*self.grid)
        return entry.weight * region.flatten().to(z.device).view(1, -1, 1)


class JointCalls(Calls):
    """Text and image in one sequence, text first: NAG's negatives ride along as rows with their own text and the same image.

    Texts of different lengths are filled up, and what fills them is left out of attention again.
    """

    def prepare(self, context: Tensor) -> None:
        import torch

        self.riding = len(self.nag_texts) * len(self.rows)
        lengths = [self.own] * self.count + [t.tokens.shape[1] for t in self.nag_texts for _ in self.rows]
        for row in self.rows:
            lengths[row] += self.words
        self.length, self.lengths = max(lengths), lengths
        self.context = context.new_zeros(len(lengths), self.length, context.shape[2])
        self.context[: self.count, : self.own] = context
        if self.words:
            words = torch.cat([text.tokens.to(context) for text in self.vsf_texts], 1)
            self.context[self.rows, self.own : self.own + self.words] = words
        for at, text in enumerate(self.nag_texts):
            begin = self.count + at * len(self.rows)
            self.context[begin : begin + len(self.rows), : text.tokens.shape[1]] = text.tokens.to(context)

    def attend(
        self, function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **more: Any
    ) -> Tensor:
        axis, pictures = 2 if more.get("skip_reshape") else 1, self.grid[0] * self.grid[1]
        total = q.shape[axis]
        if total < self.length + pictures:  # a layer of the image alone (Stable Diffusion 3.5 medium)
            return self.usual(function, q, k, v, *args, **more)
        heads_apart = bool(more.get("skip_output_reshape"))
        z = self._apart(function, axis, q, k, v, args, more)
        z = z.transpose(1, 2).flatten(2) if heads_apart else z
        image = slice(self.length, self.length + pictures)
        if self.nag_texts:
            riding = z[self.count :, image].chunk(len(self.nag_texts))
            z[self.rows, image] = self.moved(z[self.rows, image], riding)
        if self.pushing is not None:
            z[: self.count, image] = self.pushing.push(z[: self.count, image], self.grid)
        if self.nag_texts:  # so that the next layer compares like with like
            z[self.count :, image] = z[self.rows, image].repeat(len(self.nag_texts), 1, 1)
        return z.unflatten(2, (q.shape[1], -1)).transpose(1, 2) if heads_apart else z

    def _apart(
        self, function: Callable[..., Tensor], axis: int, q: Tensor, k: Tensor, v: Tensor, args: Any, more: Any
    ) -> Tensor:
        """Attention, by rows of the same length of text."""
        import torch

        if not self.words and len(set(self.lengths)) == 1:
            return self.usual(function, q, k, v, *args, **more).clone()
        if more.get("mask") is not None or (len(args) > 1 and args[1] is not None):
            raise ValueError("this model masks its attention, beside which NAG and VSF cannot act; use Perp-Neg")
        prompt, result = set(self.rows) if self.words else set(), None
        for length, flips in sorted({(n, row in prompt) for row, n in enumerate(self.lengths)}):
            rows = [row for row, n in enumerate(self.lengths) if n == length and (row in prompt) == flips]
            seen = torch.tensor([*range(length), *range(self.length, q.shape[axis])], device=q.device)
            part = [tensor[rows].index_select(axis, seen) for tensor in (q, k, v)]
            if flips:
                part[2] = self.flipped(part[2], self.own, axis)
            z = self.usual(function, *part, *args, **more)
            along = 2 if more.get("skip_output_reshape") else 1
            if result is None:
                shape = list(z.shape)
                shape[0], shape[along] = len(q), q.shape[axis]
                result = z.new_zeros(shape)
            whole = z.new_zeros(len(rows), *result.shape[1:])
            result[rows] = whole.index_copy(along, seen, z)
        assert result is not None
        return result


class CrossCalls(Calls):
    """Text in layers of its own: the negatives' tokens stand behind the prompt's, and only the prompt's image tokens see them."""

    def prepare(self, context: Tensor) -> None:
        import torch

        texts = [text.tokens.to(context).expand(self.count, -1, -1) for text in (*self.vsf_texts, *self.nag_texts)]
        self.context = torch.cat([context, *texts], 1)
        self.calls = 0

    def __init__(self, model: Any, *args: Any) -> None:
        super().__init__(model, *args)
        # In each block the image's own attention comes first, attention to text last; a picture's features may be between.
        self.in_a_block = 3 if hasattr(model.blocks[0].cross_attn, "k_img") else 2

    def attend(
        self, function: Callable[..., Tensor], q: Tensor, k: Tensor, v: Tensor, *args: Any, **more: Any
    ) -> Tensor:
        import torch

        place, self.calls = self.calls % self.in_a_block, self.calls + 1
        if place == 0:
            z = self.usual(function, q, k, v, *args, **more)
            return z if self.pushing is None else self.pushing.push(z, self.grid)
        if place < self.in_a_block - 1 or not (self.nag_texts or self.vsf_texts):
            return self.usual(function, q, k, v, *args, **more)
        lengths = [text.tokens.shape[1] for text in self.nag_texts]
        (own, *keys), (own_v, *values) = (t.split([self.own + self.words, *lengths], 1) for t in (k, v))
        result = self.usual(function, q, own[:, : self.own], own_v[:, : self.own], *args, **more)
        rows = torch.tensor(self.rows, device=q.device)
        z_pos = result[rows]
        if self.words:
            z_pos = self.usual(function, q[rows], own[rows], self.flipped(own_v[rows], self.own, 1), *args, **more)
        if keys:
            z_neg = [
                self.usual(function, q[rows], a[rows], b[rows], *args, **more)
                for a, b in zip(keys, values, strict=True)
            ]
            z_pos = self.moved(z_pos, z_neg)
        return result.index_copy(0, rows, z_pos)
