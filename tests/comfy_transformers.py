"""Tiny transformers for the stand-in of ComfyUI: text and image in one sequence, and text in layers of its own."""

from __future__ import annotations

from typing import Any

import torch
from comfy_standin import CONST, CONTEXT, HEADS, WIDTH, Attention, Patcher, attend, patcher
from torch import Tensor, nn


def attention(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any]) -> Tensor:
    """Attention as ComfyUI documents it for transformers: another function may stand in its place."""
    override = options.get("optimized_attention_override")
    return attend(q, k, v, HEADS) if override is None else override(attend, q, k, v, HEADS, transformer_options=options)


class Transformer(nn.Module):
    """What both share: tokens of 1x1 latents."""

    patch_size = 1

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.outside = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.words = nn.Linear(CONTEXT, WIDTH)
        self.build()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)
        self.requires_grad_(False)

    def build(self) -> None:
        raise NotImplementedError

    def layers(self, image: Tensor, text: Tensor, options: dict[str, Any]) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        image = self.layers(self.inside(x.flatten(2).transpose(1, 2)), self.words(context), options)
        return self.outside(image).transpose(1, 2).reshape(x.shape)


class Flux(Transformer):
    def build(self) -> None:
        self.joint = nn.ModuleList([Attention(WIDTH), Attention(WIDTH)])

    def layers(self, image: Tensor, text: Tensor, options: dict[str, Any]) -> Tensor:
        length = text.shape[1]
        for layer in self.joint:
            both = torch.cat([text, image], 1)
            n = attention(layer.to_q(both), layer.to_k(both), layer.to_v(both), options)
            both = both + layer.to_out(n).tanh()
            text, image = both[:, :length], both[:, length:]
        return image


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn, self.cross_attn = Attention(WIDTH), Attention(WIDTH)


class WanModel(Transformer):
    patch_size = (1, 1, 1)

    def build(self) -> None:
        self.blocks = nn.ModuleList([_Block(), _Block()])

    def layers(self, image: Tensor, text: Tensor, options: dict[str, Any]) -> Tensor:
        for block in self.blocks:
            for layer, seen in ((block.self_attn, None), (block.cross_attn, text)):
                seen = image if seen is None else seen
                z = attention(layer.to_q(image), layer.to_k(seen), layer.to_v(seen), options)
                image = image + layer.to_out(z).tanh()
        return image


def transformer(kind: type[Transformer]) -> Patcher:
    """A MODEL of one of them, a flow model."""
    model = patcher(CONST)
    model.model.diffusion_model = kind()
    return model
