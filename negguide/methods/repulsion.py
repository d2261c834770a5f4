"""Repulsion on the clean estimate: pictures of one prompt keep away from each other, and from references."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from negguide import maths
from negguide.methods.base import Denoised, Method, Window
from negguide.methods.checks import finite
from negguide.methods.options import check_options, option
from negguide.methods.reference import Reference, ReferenceLike, as_references, latents_of
from negguide.methods.registry import register
from negguide.methods.state import RunState, memory_of
from negguide.methods.step import as_window

if TYPE_CHECKING:
    from torch import Tensor


class _Repulsion(Method):
    """What both methods share: who is pushed from whom, and when. The fields are those of the dataclasses below."""

    needs_guidance: ClassVar[bool] = False

    references: ReferenceLike | Sequence[ReferenceLike]
    within: bool
    window: Window

    def __post_init__(self) -> None:
        check_options(self)
        object.__setattr__(self, "references", as_references(self.references))
        object.__setattr__(self, "window", as_window(self.window))
        if not self.within and not self.references:
            raise ValueError(
                f"{type(self).__name__}(within=False) without references has nothing to keep away from; "
                "give references, or leave within=True"
            )

    @property
    def couples(self) -> bool:
        return self.within

    @property
    def sees_denoised(self) -> bool:
        return self._acts and not self.window.is_empty

    def denoised(self, denoised: Denoised, state: RunState) -> None:
        if not self._acts or not self.window.is_open(denoised.step):
            return
        others, sees = self._surroundings(denoised, state)
        if others is not None:
            denoised.x0 = denoised.x0 + self._push(denoised.x0, others, sees).to(denoised.x0.dtype)

    def _surroundings(self, denoised: Denoised, state: RunState) -> tuple[Tensor | None, Tensor]:
        """Points (K, ...) that images are pushed from, and (B, K) which image from which; None where there are none."""
        import torch

        x0 = denoised.x0
        parts, sees = [], []
        if self.within and any(len(group) > 1 for group in denoised.context.groups):
            parts.append(x0)
            sees.append(_neighbours(denoised.context.groups, len(x0)).to(x0.device))
        if self.references:
            references = cast("tuple[Reference, ...]", self.references)
            points = memory_of(state, self, lambda: latents_of(references, denoised.context.encode, x0))
            parts.append(points)
            sees.append(torch.ones(len(x0), len(points), dtype=torch.bool, device=x0.device))
        return (torch.cat(parts), torch.cat(sees, 1)) if parts else (None, x0.new_zeros(0))

    def _push(self, x0: Tensor, others: Tensor, sees: Tensor) -> Tensor:
        raise NotImplementedError

    @property
    def _acts(self) -> bool:
        raise NotImplementedError


@register
@dataclasses.dataclass(frozen=True)
class SPELL(_Repulsion):
    """`x0 += lambda sum_k relu(r / |x0 - z_k| - 1) (x0 - z_k)`: leads out of a ball around each z_k, else does nothing.

    The z_k are the clean estimates of the other images of the same prompt in this batch (`within`), and the
    `references` (pictures or latents). `radius`: how far apart two pictures shall be at least, as the root mean square
    of their difference per latent element, so that it does not depend on the resolution: the paper's r is `radius *
    sqrt(elements)`. Take it from data: `radius_from(latents)` of some results of the same model; larger spreads
    more and spoils more; 0 never acts. `overcompensation` is lambda (1.6 in the paper, since a later step may lead
    back; 0 never acts). `window`: all of sampling by default; late steps seldom need a push.

    >>> SPELL(radius=0.5).overcompensation
    1.6
    """

    name: ClassVar[str] = "spell"
    summary: ClassVar[str] = "keeps pictures at least a radius apart, and away from references"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2410.06025"

    radius: float = option(
        0.5, help="Least distance of two pictures, root mean square per latent element; 0 never acts.", low=0
    )
    references: ReferenceLike | Sequence[ReferenceLike] = option((), help="Pictures to keep away from.")
    within: bool = option(True, help="Keep the pictures of a prompt from each other too.")
    overcompensation: float = option(
        1.6, help="How far a picture is pushed, in units of what is missing of the radius; 0 never acts.", low=0
    )
    window: Window = option(default_factory=Window, help="When it acts, in fractions of sampling or in sigma.")

    def _push(self, x0: Tensor, others: Tensor, sees: Tensor) -> Tensor:
        r = self.radius * x0[0].numel() ** 0.5
        return maths.spell(x0, others, sees, r, self.overcompensation)

    @property
    def _acts(self) -> bool:
        return self.radius > 0 and self.overcompensation > 0


@register
@dataclasses.dataclass(frozen=True)
class ParticleGuidance(_Repulsion):
    """`x0_i += scale * sum_j k(x0_i, x0_j) (x0_i - x0_j)`, `k = exp(-|.|^2 / h)`, h by the median rule.

    The x0_j are the other images of the same prompt (`within`) and the `references`. `scale` is dimensionless: 0
    never acts, 0.2 moves a pair by a tenth of its distance, above 0.5 pictures break up. In the paper's symbols it is
    `2 alpha_t sigma_t^2 / h_t` of a potential on the clean estimates; the paper's own potential stands on x_t (or on
    DINO features) with `alpha_t = 30 sigma_t^2`, so that it, too, is strong early and fades; here the window does
    that, by default the first 60 %.

    >>> ParticleGuidance(0.2, window=(0, 0.4)).scale
    0.2
    """

    name: ClassVar[str] = "particle_guidance"
    summary: ClassVar[str] = "pushes the pictures of a prompt apart, the more the nearer they are"
    cost: ClassVar[str] = "no extra pass"
    paper: ClassVar[str] = "arXiv:2310.13102"

    scale: float = option(
        0.2,
        help="0.2 moves a pair by a tenth of its distance at each step; above 0.5 pictures break up, 0 never acts.",
        low=0,
    )
    references: ReferenceLike | Sequence[ReferenceLike] = option((), help="Pictures to keep away from.")
    within: bool = option(True, help="Keep the pictures of a prompt from each other too.")
    window: Window = option(
        default_factory=lambda: Window(0.0, 0.6), help="When it acts, in fractions of sampling or in sigma."
    )

    def _push(self, x0: Tensor, others: Tensor, sees: Tensor) -> Tensor:
        return self.scale * maths.particle_guidance(x0, others, sees)

    @property
    def _acts(self) -> bool:
        return self.scale > 0


def radius_from(latents: Tensor, quantile: float = 0.5) -> float:
    """A `SPELL.radius` from results of the same model: a quantile of the distance of each to the nearest other.

    `latents` (K, ...), K at least 2: `pipe(..., output_type="latent").images` of independent pictures, best of the
    prompt in question. `quantile` in [0, 1]: 0.5 asks of all what half of them keep by themselves. Root mean square
    per element. How the paper picks its radii could not be checked; this rule is ours.
    """
    if latents.ndim < 2 or len(latents) < 2:
        raise ValueError(f"latents have the shape {tuple(latents.shape)}; at least two pictures, (K, ...), are needed")
    finite("quantile", quantile, low=0.0, high=1.0)
    return float(maths.nearest(latents).quantile(quantile)) / latents[0].numel() ** 0.5


def _neighbours(groups: Sequence[Sequence[int]], rows: int) -> Tensor:
    """(B, B) bool: pairs of different images of the same prompt."""
    import torch

    same = torch.zeros(rows, rows, dtype=torch.bool)
    for group in groups:
        for row in group:
            same[row, list(group)] = True
    return same.fill_diagonal_(False)
