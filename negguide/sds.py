"""Score distillation with Perp-Neg: the gradient as a pure function, and a guidance object as threestudio's systems call one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from negguide import maths

if TYPE_CHECKING:
    from torch import Tensor


def sds_gradient(
    noise: Tensor,
    cond: Tensor,
    uncond: Tensor,
    others: Tensor,
    weights: Tensor,
    scale: float,
    kept: Tensor,
) -> Tensor:
    """`(1 - abar_t) (eps_hat - noise)`, `eps_hat = eps_0 + s [ d_+ + sum_i w_i perp(d_i, d_+) ]`, `d = eps - eps_0`, per sample.

    The gradient of score distillation (DreamFusion, arXiv:2209.14988) with the guidance of Perp-Neg (arXiv:2304.04968).

    Args:
        noise: what was added to the latents, (B, ...).
        cond: predicted noise for the views' prompts, (B, ...).
        uncond: for the empty text, (B, ...).
        others: for K other views, (K, B, ...).
        weights: w_i of each, (B, K), 0 or below for what is negated (`negguide.maths.view_weights`).
        scale: s, the guidance scale; 100 is usual.
        kept: abar_t of each sample, (B,).

    Returns:
        (B, ...) in float32; what is not finite is 0 there.

    >>> sds_gradient(n, c, u, others, weights, 100.0, kept)  # doctest: +SKIP
    """
    start = maths.widen(uncond)
    toward = maths.widen(cond) - start
    each = (-1, *(1 for _ in start.shape[1:]))
    differences = [maths.widen(other) - start for other in others]
    direction = maths.perp_neg(toward, differences, [weight.view(each) for weight in weights.unbind(1)])
    guided = start + scale * direction
    return ((1.0 - kept).view(each) * (guided - maths.widen(noise))).nan_to_num()


@dataclasses.dataclass
class ScoreDistillation:
    """Guidance of a text-to-3D optimisation, called as threestudio calls its own: `guidance(rgb, prompt_utils, elevation, ...)`.

    Args:
        unet: predicts noise.
        vae: encodes pictures; None where `rgb_as_latents` is always said.
        scheduler: has `alphas_cumprod` and `add_noise`.
        scale: guidance scale.
        noise_from: least share of the training steps that noise is drawn from.
        noise_to: greatest share.
        generator: draws time and noise; None: the process's own.

    `prompt_utils` has `use_perp_neg`, `get_text_embeddings_perp_neg(elevation, azimuth, camera_distances, True)`, which gives
    embeddings in the order prompts, empty texts, then all other views sample by sample, and weights (B, K); else
    `get_text_embeddings(...)`, prompts and empty texts.
    """

    unet: Any
    vae: Any
    scheduler: Any
    scale: float = 100.0
    noise_from: float = 0.02
    noise_to: float = 0.98
    generator: Any = None

    def __call__(
        self,
        rgb: Tensor,
        prompt_utils: Any,
        elevation: Tensor,
        azimuth: Tensor,
        camera_distances: Tensor,
        rgb_as_latents: bool = False,
        **more: object,
    ) -> dict[str, object]:
        """The loss whose gradient with respect to the latents is that of score distillation, over the batch.

        Args:
            rgb: rendered pictures (B, H, W, 3) in [0, 1], or latents (B, h, w, C) with `rgb_as_latents`.
            prompt_utils: gives the embeddings of each camera's texts.
            elevation: of each camera, in degrees, (B,).
            azimuth: likewise.
            camera_distances: likewise.
            rgb_as_latents: whether `rgb` is latents.
            more: what else threestudio gives, unread.

        Returns:
            `loss_sds`, `grad_norm`, `min_step`, `max_step`.
        """
        import torch

        planes = rgb.permute(0, 3, 1, 2)
        latents = planes if rgb_as_latents else self._encoded(planes)
        count = len(self.scheduler.alphas_cumprod)
        least, most = int(self.noise_from * count), int(self.noise_to * count)
        rows = latents.shape[0]
        times = torch.randint(least, most + 1, (rows,), generator=self.generator, device=latents.device)
        noise = torch.randn(latents.shape, generator=self.generator, device=latents.device, dtype=latents.dtype)
        where = (elevation, azimuth, camera_distances, True)
        with torch.no_grad():
            if prompt_utils.use_perp_neg:
                text, weights = prompt_utils.get_text_embeddings_perp_neg(*where)
            else:
                text, weights = prompt_utils.get_text_embeddings(*where), latents.new_zeros(rows, 0)
            views = len(text) // rows
            noisy = self.scheduler.add_noise(latents, noise, times)
            prediction = self.unet(
                torch.cat([noisy] * 2 + [noisy.repeat_interleave(views - 2, 0)]),
                torch.cat([times] * 2 + [times.repeat_interleave(views - 2, 0)]),
                encoder_hidden_states=text.to(latents.dtype),
            ).sample
            others = prediction[2 * rows :].unflatten(0, (rows, views - 2)).transpose(0, 1)
            kept = self.scheduler.alphas_cumprod.to(latents.device)[times]
            gradient = sds_gradient(
                noise, prediction[:rows], prediction[rows : 2 * rows], others, weights, self.scale, kept
            )
        target = (latents - gradient.to(latents.dtype)).detach()
        loss = 0.5 * (latents.float() - target.float()).square().sum() / rows
        return {"loss_sds": loss, "grad_norm": gradient.norm(), "min_step": least, "max_step": most}

    def _encoded(self, planes: Tensor) -> Tensor:
        spread = self.vae.encode(2.0 * planes - 1.0).latent_dist
        latents: Tensor = spread.sample(self.generator) * self.vae.config.scaling_factor
        return latents
