"""Token matching and pushing of NegToMe (arXiv:2412.01339, section 3), in blocks with a running maximum."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Match = Literal["paper", "release"]
"""Which token is subtracted, and where.

"paper": each source token i finds its best reference token, j = argmax_j S_ij, and is pushed from r_j if S_ij exceeds the
threshold. "release": what the authors' published code does: the maximum goes over *source* tokens, i = argmax_i S_ij, and
the token at position j is pushed from the reference token at i. Both agree where the best match is mutual (early steps of
pictures with the same prompt); elsewhere "release" subtracts a token that has little to do with the one it changes.
"""

_ON_CPU = (1024, 512)
_ELSEWHERE = (4096, 4096)
"""Rows and columns of similarities that are alive at a time: on a CPU such a block stays in its cache."""


def _block(x: Tensor) -> tuple[int, int]:
    return _ON_CPU if x.device.type == "cpu" else _ELSEWHERE


def _working(x: Tensor) -> torch.dtype:
    """Products are made in float32. Accelerators multiply half-precision tokens as they are and sum in float32."""
    return x.dtype if x.device.type != "cpu" and x.element_size() == 2 else torch.float32


def unit(x: Tensor) -> Tensor:
    """Tokens (..., d) of length 1; zero tokens stay zero. Norms in float32."""
    return torch.nn.functional.normalize(x.float(), dim=-1).to(_working(x))


def _best(x: Tensor, reference: Tensor, columns: int) -> tuple[Tensor, Tensor]:
    """Running maximum of x @ reference.T over its columns: x (S, d), reference (M, d) -> values and indices (S,)."""
    x = x.to(reference.dtype)
    values, index = (x @ reference[:columns].T).max(dim=-1)
    for start in range(columns, reference.shape[0], columns):
        more, places = (x @ reference[start : start + columns].T).max(dim=-1)
        index = torch.where(more > values, places + start, index)
        values = torch.maximum(values, more)
    return values.float(), index


def best_match(x: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """For each token of `x` (S, d) its most similar token of `r` (M, d): cosine (S,) float32 and index (S,).

    The (S, M) similarities are never held as a whole. The length of a source token does not change which reference is
    best, so only the reference tokens are normalised beforehand.
    """
    rows, columns = _block(x)
    reference = unit(r)
    parts = [_best(part, reference, columns) for part in x.split(rows)]
    length = torch.linalg.vector_norm(x, dim=-1, dtype=torch.float32).clamp_min(1e-12)
    return torch.cat([values for values, _ in parts]) / length, torch.cat([index for _, index in parts])


def best_among_others(x: Tensor) -> tuple[Tensor, Tensor]:
    """For each token of k images `x` (k, N, d) its most similar token of all *other* images.

    Cosine (k, N) float32, and index (k, N) into `x.flatten(0, 1)`. S_ab of two images serves both of them.
    """
    k, n, _ = x.shape
    rows, columns = _block(x)
    tokens = unit(x)
    if (k * n) ** 2 <= 4 * rows * columns:
        flat = tokens.flatten(0, 1)
        similarity = (flat @ flat.T).view(k, n, k, n)
        similarity.diagonal(dim1=0, dim2=2).fill_(-torch.inf)
        values, index = similarity.view(k, n, k * n).max(dim=-1)
        return values.float(), index
    best = torch.full((k, n), -torch.inf, dtype=tokens.dtype, device=x.device)
    best_index = torch.zeros((k, n), dtype=torch.long, device=x.device)

    def keep(image: int, part: slice, values: Tensor, index: Tensor) -> None:
        best_index[image, part] = torch.where(values > best[image, part], index, best_index[image, part])
        best[image, part] = torch.maximum(values, best[image, part])

    for a in range(k):
        for b in range(a + 1, k):
            for i in range(0, n, rows):
                for j in range(0, n, columns):
                    ours, theirs = slice(i, min(i + rows, n)), slice(j, min(j + columns, n))
                    similarity = tokens[a, ours] @ tokens[b, theirs].T
                    values, index = similarity.max(dim=1)
                    keep(a, ours, values, index + (b * n + j))
                    values, index = similarity.T.contiguous().max(dim=1)
                    keep(b, theirs, values, index + (a * n + i))
    return best.float(), best_index


def push(
    x: Tensor, target: Tensor, similarity: Tensor, alpha: float, threshold: float, region: Tensor | None = None
) -> Tensor:
    """`(1 + alpha) x - alpha target` where the similarity exceeds the threshold, else `x` itself; dtype of `x`.

    `x`, `target`: (..., d); `similarity`: (...). `alpha` < 0 pulls towards the target. `region`: (...) floats in [0, 1]
    that scale alpha from token to token (0: exactly `x`).
    """
    strength = alpha * (similarity > threshold).to(x.dtype)
    if region is not None:
        strength = strength * region.to(x.dtype)
    return torch.addcmul(x, x - target, strength.unsqueeze(-1))


def push_from(
    x: Tensor,
    r: Tensor,
    alpha: float,
    threshold: float,
    match: Match = "paper",
    region: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Tokens `x` (k, N, d) of k images pushed from their matches among the reference tokens `r` (M, d); dtype of `x`.

    `region`: (N,) in [0, 1], see `push`. `out`: where to write, not `x` nor `r` themselves. "release" compares place by
    place: M is R N tokens of R reference images, else `ValueError`.
    """
    k, n, d = x.shape
    result = torch.empty_like(x) if out is None else out
    if match == "release":
        if r.shape[0] % n:
            raise ValueError(
                f"match='release' needs as many reference tokens as image tokens, got {r.shape[0]} for {n}; use match='paper'"
            )
        return result.copy_(_released(x, r.reshape(-1, n, d), alpha, threshold, region))
    rows, columns = _block(x)
    reference = unit(r)
    each = None if region is None else region.repeat(k).split(rows)
    for at, (part, there) in enumerate(zip(x.reshape(-1, d).split(rows), result.view(-1, d).split(rows), strict=True)):
        values, index = _best(part, reference, columns)
        similarity = values / torch.linalg.vector_norm(part, dim=-1, dtype=torch.float32).clamp_min(1e-12)
        there.copy_(push(part, r[index], similarity, alpha, threshold, None if each is None else each[at]))
    return result


def push_apart(
    x: Tensor,
    alpha: float,
    threshold: float,
    match: Match = "paper",
    region: Tensor | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Each of k > 1 images `x` (k, N, d) pushed from its matches among all the others; dtype of `x`.

    All are pushed at once: targets are the tokens as given. `out`: where to write, not `x` itself.
    """
    result = torch.empty_like(x) if out is None else out
    if match == "release":
        for i in range(len(x)):
            others = torch.cat([x[:i], x[i + 1 :]])
            result[i] = _released(x[i : i + 1], others, alpha, threshold, region)[0]
        return result
    similarity, index = best_among_others(x)
    flat = x.flatten(0, 1)
    for i in range(len(x)):
        result[i] = push(x[i], flat[index[i]], similarity[i], alpha, threshold, region)
    return result


def _released(x: Tensor, references: Tensor, alpha: float, threshold: float, region: Tensor | None) -> Tensor:
    """The "release" match with several reference images (R, N, d): at each position the one of the best similarity."""
    images = []
    for image in x:
        best: Tensor | None = None
        target = image
        for reference in references:
            similarity, index = best_match(reference, image)
            subtracted = reference[index]
            if best is not None:
                subtracted = torch.where((similarity > best).unsqueeze(-1), subtracted, target)
                similarity = torch.maximum(similarity, best)
            best, target = similarity, subtracted
        assert best is not None
        images.append(push(image, target, best, alpha, threshold, region))
    return torch.stack(images)
