"""NAG written from the equations of arXiv:2505.21179, section 3, as the rival that `attention.py` measures against.

Each denoiser is written out with the paper's cost: the image's row once wherever text does not reach it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Strength = tuple[float, float, float]


def nag(z_pos: Tensor, z_neg: Tensor, strength: Strength) -> Tensor:
    """The paper's equations, one after the other."""
    scale, tau, alpha = strength
    z = z_pos * scale - z_neg * (scale - 1)
    ratio = z.norm(p=1, dim=-1, keepdim=True) / z_pos.norm(p=1, dim=-1, keepdim=True)
    z = z * (ratio.clamp(max=tau) / ratio)
    return z * alpha + z_pos * (1 - alpha)


def heads(attn: Any, x: Tensor) -> Tensor:
    """(B, N, C) -> (B, heads, N, d)."""
    return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)


def flat(x: Tensor) -> Tensor:
    """(B, heads, N, d) -> (B, N, C)."""
    return x.transpose(1, 2).flatten(2)


@dataclass
class CrossRival:
    """An attention processor: one more attention to the negative's text for the prompt's rows."""

    strength: Strength
    negative: Tensor
    guided: bool
    """The batch is [unconditional; conditional]."""

    def __call__(self, attn: Any, hidden_states: Tensor, encoder_hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
        rows = len(hidden_states) // (2 if self.guided else 1)
        text = torch.cat([encoder_hidden_states, self.negative])
        q, k, v = attn.to_q(hidden_states), attn.to_k(text), attn.to_v(text)
        if getattr(attn, "norm_q", None) is not None:
            q, k = attn.norm_q(q), attn.norm_k(k)
        q = torch.cat([q, q[-rows:]])
        z = flat(scaled_dot_product_attention(heads(attn, q), heads(attn, k), heads(attn, v)))
        z_pos, z_neg = z[-2 * rows : -rows], z[-rows:]
        z = torch.cat([z[: -2 * rows], nag(z_pos, z_neg, self.strength)])
        return attn.to_out[0](z)


def rotated(x: Tensor, rope: Any) -> Tensor:
    """Diffusers' own rotation; it gives a pair only to those who hand it a pair."""
    turned = apply_rotary_emb(x, rope)
    assert isinstance(turned, Tensor)
    return turned


def joint(attn: Any, image: Tensor, text: Tensor, strength: Strength, rope: Any = None) -> tuple[Tensor, Tensor | None]:
    """Joint attention of one image row and two text rows; what it gives the image is guided. `rope`: text stands first."""

    def three(x: Tensor, names: Sequence[str], norms: Sequence[str]) -> list[Tensor]:
        parts = [heads(attn, getattr(attn, name)(x)) for name in names]
        return [
            getattr(attn, norm)(x) if getattr(attn, norm, None) else x for x, norm in zip(parts, norms, strict=True)
        ]

    own = [x.expand(2, -1, -1, -1) for x in three(image, ("to_q", "to_k", "to_v"), ("norm_q", "norm_k", ""))]
    other = three(text, ("add_q_proj", "add_k_proj", "add_v_proj"), ("norm_added_q", "norm_added_k", ""))
    pairs = zip(own, other, strict=True)
    q, k, v = (torch.cat([mine, more] if rope is None else [more, mine], 2) for mine, more in pairs)
    if rope is not None:
        q, k = rotated(q, rope), rotated(k, rope)
    z = flat(scaled_dot_product_attention(q, k, v))
    count = image.shape[1]
    z_image, z_text = (z[:, :count], z[:, count:]) if rope is None else (z[:, -count:], z[:, :-count])
    out = attn.to_out[0](nag(z_image[:1], z_image[1:], strength))
    return out, None if getattr(attn, "context_pre_only", False) else attn.to_add_out(z_text)


def double_block(
    block: Any, image: Tensor, text: Tensor, temb: Tensor, strength: Strength, rope: Any = None
) -> tuple[Tensor, Tensor]:
    """A block of SD3, or a double block of Flux: one image row, two text rows; `temb` of both texts."""
    norm, gate, shift, scale, gate_ff = block.norm1(image, emb=temb[:1])
    last = getattr(block, "context_pre_only", False)
    if last:
        c_norm = block.norm1_context(text, temb)
    else:
        c_norm, c_gate, c_shift, c_scale, c_gate_ff = block.norm1_context(text, emb=temb)
    out, c_out = joint(block.attn, norm, c_norm, strength, rope)
    image = image + gate[:, None] * out
    image = image + gate_ff[:, None] * block.ff(block.norm2(image) * (1 + scale[:, None]) + shift[:, None])
    if last or c_out is None:
        return image, text
    text = text + c_gate[:, None] * c_out
    inner = block.norm2_context(text) * (1 + c_scale[:, None]) + c_shift[:, None]
    return image, text + c_gate_ff[:, None] * block.ff_context(inner)


def sd3_rival(model: Any, negative: Tensor, pooled: Tensor, strength: Strength, call: dict[str, Any]) -> tuple[Tensor]:
    """The forward of SD3's transformer."""
    latents = call["hidden_states"]
    image = model.pos_embed(latents)
    temb = model.time_text_embed(call["timestep"].expand(2), torch.cat([call["pooled_projections"], pooled]))
    text = model.context_embedder(torch.cat([call["encoder_hidden_states"], negative]))
    for block in model.transformer_blocks:
        image, text = double_block(block, image, text, temb, strength)
    out = model.proj_out(model.norm_out(image, temb[:1]))
    p, (h, w) = model.config.patch_size, latents.shape[-2:]
    grid = out.view(1, h // p, w // p, p, p, -1)
    return (grid.permute(0, 5, 1, 3, 2, 4).reshape(1, -1, h, w),)


def flux_rival(model: Any, negative: Tensor, pooled: Tensor, strength: Strength, call: dict[str, Any]) -> tuple[Tensor]:
    """The forward of Flux's transformer; in single blocks both streams are whole."""
    image = model.x_embedder(call["hidden_states"])
    time_ = [(call[name] * 1000).expand(2) for name in ("timestep", "guidance") if call.get(name) is not None]
    temb = model.time_text_embed(*time_, torch.cat([call["pooled_projections"], pooled]))
    rope = model.pos_embed(torch.cat([call["txt_ids"], call["img_ids"]]))
    text = model.context_embedder(torch.cat([call["encoder_hidden_states"], negative]))
    for block in model.transformer_blocks:
        image, text = double_block(block, image, text, temb, strength, rope)
    length = text.shape[1]
    whole = torch.cat([text, image.expand(2, -1, -1)], 1)
    for block in model.single_transformer_blocks:
        norm, gate = block.norm(whole, emb=temb)
        attn = block.attn
        q, k = attn.norm_q(heads(attn, attn.to_q(norm))), attn.norm_k(heads(attn, attn.to_k(norm)))
        q, k = rotated(q, rope), rotated(k, rope)
        z = flat(scaled_dot_product_attention(q, k, heads(attn, attn.to_v(norm))))
        guided = nag(z[:1, length:], z[1:, length:], strength)
        z = torch.cat([z[:, :length], guided.expand(2, -1, -1)], 1)
        whole = whole + gate[:, None] * block.proj_out(torch.cat([z, block.act_mlp(block.proj_mlp(norm))], 2))
    return (model.proj_out(model.norm_out(whole[:1, length:], temb[:1])),)
