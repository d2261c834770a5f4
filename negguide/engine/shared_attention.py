"""Joint attention in which the image's tokens attend to each other once, whatever number of texts stands beside them.

A companion that keeps the prompt's image tokens has the prompt's queries, keys and values for them. What they say to each other
is then the same in every such row; only what they hear of their own text differs. Softmax over both is the mean of the two
attentions, weighted by the sums of their exponentials, so one attention among image tokens serves all rows:

    attention(q, [k_image; k_text]) = s attention(q, k_image) + (1 - s) attention(q, k_text)
    s = sigmoid(logsumexp(q k_image) - logsumexp(q k_text))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from negguide.pipeline.families.family import Side


class SharedAttention(TorchFunctionMode):
    """Takes the place of `scaled_dot_product_attention` while a joint layer runs whose companions have the prompt's image.

    Args:
        rows: of the forward, all of them.
        cond: the prompt's.
        companions: those that share its image tokens, in as many groups as large as `cond`, up to the last row.
        image: number of image tokens, references of an edit included.
        side: where they stand.
    """

    def __init__(self, rows: int, cond: slice, companions: slice, image: int, side: Side) -> None:
        super().__init__()
        self._rows = rows
        self._cond = cond
        self._companions = companions
        self._image = image
        self._side = side
        self.used = 0
        """How often it stood in."""

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> object:
        kwargs = kwargs or {}
        if func is functional.scaled_dot_product_attention:
            result = self._attention(*args, **kwargs)
            if result is not None:
                self.used += 1
                return result
        return func(*args, **kwargs)

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor | None:
        """Of (rows, heads, tokens, d); None where this is not the attention that is shared, or another kind of it."""
        tokens = query.shape[-2]
        joint = query.ndim == 4 and query.shape == key.shape == value.shape and len(query) == self._rows
        usual = not dropout_p and not is_causal and not enable_gqa and not torch.is_grad_enabled()
        if not joint or not usual or tokens <= self._image or not _is_of_rows(attn_mask, query):
            return None
        attend = partial_attention(query.device.type, query.dtype)
        if attend is None:
            return None
        masked = None if attn_mask is None else attn_mask.expand(self._rows, -1, -1, -1)
        span = slice(0, self._image) if self._side == "first" else slice(tokens - self._image, tokens)
        text = slice(self._image, tokens) if self._side == "first" else slice(0, tokens - self._image)
        # (rows, tokens, heads, d) in memory, as attention gives it, so that heads are joined without a copy.
        result = query.new_empty(query.shape[0], tokens, query.shape[1], query.shape[3]).transpose(1, 2)
        for rows in self._others():
            mask = None if masked is None else masked[rows]
            result[rows] = functional.scaled_dot_product_attention(
                query[rows], key[rows], value[rows], attn_mask=mask, scale=scale
            )
        cond = self._cond
        among, sums = attend(
            query[cond, :, span], key[cond, :, span], value[cond, :, span], _part(masked, cond, span, span), scale
        )
        count = cond.stop - cond.start
        groups = (cond, *(slice(at, at + count) for at in range(self._companions.start, self._companions.stop, count)))
        for rows in groups:
            # The row's own queries: where text stands first, its length turns those of the image (rotary positions).
            heard, sums_of_text = attend(
                query[rows, :, span], key[rows, :, text], value[rows, :, text], _part(masked, rows, span, text), scale
            )
            share = torch.sigmoid(sums - sums_of_text).unsqueeze(-1).to(among.dtype)
            torch.lerp(heard, among, share, out=result[rows, :, span])
            result[rows, :, text] = functional.scaled_dot_product_attention(
                query[rows, :, text],
                key[rows],
                value[rows],
                attn_mask=_part(masked, rows, text, slice(None)),
                scale=scale,
            )
        return result

    def _others(self) -> Sequence[slice]:
        """Rows that share nothing."""
        before = slice(0, self._cond.start)
        between = slice(self._cond.stop, self._companions.start)
        return [rows for rows in (before, between) if rows.start < rows.stop]


def _is_of_rows(mask: Tensor | None, query: Tensor) -> bool:
    """Whether a mask says the same for every head, of keys or of pairs of tokens."""
    if mask is None:
        return True
    tokens = query.shape[-2]
    return (
        mask.ndim == 4 and mask.shape[0] in (1, len(query)) and mask.shape[1:] in ((1, 1, tokens), (1, tokens, tokens))
    )


def _part(mask: Tensor | None, rows: slice, queries: slice, keys: slice) -> Tensor | None:
    if mask is None:
        return None
    return mask[rows, :, queries if mask.shape[2] > 1 else slice(None), keys]


Partial = Callable[[Tensor, Tensor, Tensor, "Tensor | None", "float | None"], "tuple[Tensor, Tensor]"]
"""(queries, keys, values, mask, scale) -> what they give, (B, heads, N, d), and the logsumexp of each query, (B, heads, N)."""


@cache
def partial_attention(device: str, dtype: torch.dtype) -> Partial | None:
    """An attention that tells its sums of exponentials too; None where this torch has none that is right."""
    attend = {"cpu": _on_cpu, "cuda": _on_cuda}.get(device)
    return attend if attend is not None and _is_right(attend, device, dtype) else None


def _on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    bias = _bias(mask, query, key)
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    output, sums = attend(query, key, value, 0.0, False, attn_mask=bias, scale=scale)
    return output, sums


def _on_cuda(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None
) -> tuple[Tensor, Tensor]:
    bias = _bias(mask, query, key)
    if bias is not None:
        bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
    attend = torch.ops.aten._scaled_dot_product_efficient_attention
    output, sums, *_ = attend(query, key, value, bias, True, 0.0, False, scale=scale)
    # Its sums are padded to a multiple of 32 queries.
    return output, sums[..., : query.shape[2]]


def _bias(mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
    """What is added to the scores, for masks of booleans too."""
    if mask is None:
        return None
    if mask.dtype is torch.bool:
        # Not minus infinity, so that a text of which nothing counts weighs nothing beside the image instead of being no number.
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, torch.finfo(query.dtype).min)
    return mask.to(query.dtype)


def _is_right(attend: Partial, device: str, dtype: torch.dtype) -> bool:
    """Whether two parts of an attention join to the whole."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return False
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 96, 64, generator=generator).to(device, dtype) for _ in range(3))
    try:
        with torch.no_grad():
            whole = functional.scaled_dot_product_attention(query, key, value).float()
            (ours, first), (other, second) = (
                attend(query, key[:, :, part], value[:, :, part], None, None) for part in (slice(0, 64), slice(64, 96))
            )
            share = torch.sigmoid(first.float() - second.float()).unsqueeze(-1)
            joined = torch.lerp(other.float(), ours.float(), share)
    except (RuntimeError, AttributeError, NotImplementedError, TypeError):
        return False
    return bool((joined - whole).abs().max() < 4 * torch.finfo(dtype).eps)
