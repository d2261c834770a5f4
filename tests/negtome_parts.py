"""NegToMe by hand: hooks on a stock pipeline that go token by token, without negguide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import families
import torch
from test_maths_negtome import by_hand
from torch import Tensor

from negguide.methods import Window

ALWAYS = Window()
MODULES: dict[str, Callable[[str], bool]] = {
    "sd15": lambda name: name.startswith("up_blocks") and name.endswith("attn1"),
    "sdxl": lambda name: name.startswith("up_blocks") and name.endswith("attn1"),
    "sd3": lambda name: name.endswith(".attn"),
    "flux": lambda name: name.endswith(".attn"),
    "flux, no guidance": lambda name: name.endswith(".attn"),
    "pixart": lambda name: name.endswith("attn1"),
    "qwen": lambda name: name.endswith(".attn"),
    "wan": lambda name: name.endswith("attn1"),
}
BATCHED = ("sd15", "sdxl", "sd3", "pixart")
ATOL = 1e-4


def call(family: str, **more: Any) -> dict[str, Any]:
    images = more.pop("images", 2)
    key = "num_videos_per_prompt" if family == "wan" else "num_images_per_prompt"
    count = images * (len(more["prompt"]) if isinstance(more.get("prompt"), list) else 1)
    seed = more.pop("seed", 0)
    off = {"true_cfg_scale": 1.0, "negative_prompt": None} if family == "flux, no guidance" else {}
    generators = [torch.Generator().manual_seed(seed + i) for i in range(count)]
    return families.arguments(family.split(",")[0], **{key: images, **more, **off}) | {
        "generator": generators if count > 1 else generators[0]
    }


def run(family: str, **more: Any) -> Tensor:
    output = families.build(family.split(",")[0])(**call(family, **more))
    return output.frames if hasattr(output, "frames") else output.images


@contextmanager
def hooked(
    family: str, push: Callable[[Tensor], Tensor], images: int, before_projection: bool = False
) -> Iterator[None]:
    """`push`: tokens (images, N, d) of one branch and one prompt -> pushed ones. `before_projection`: where layers have one."""
    pipe = families.build(family.split(",")[0])
    denoiser = getattr(pipe, families.FAMILIES[family.split(",")[0]].denoiser)
    size: list[int] = []

    def look(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        size[:] = [kwargs["hidden_states"].shape[1]] if "hidden_states" in kwargs else [0]

    def hook(module: Any, args: Any, output: Any, single: bool) -> Any:
        whole = output[0] if isinstance(output, tuple) else output
        text = whole.shape[1] - size[0] if single else 0
        rows = torch.cat([push(part) for part in whole[:, text:].split(images)])
        whole = torch.cat([whole[:, :text], rows], dim=1)
        return (whole, *output[1:]) if isinstance(output, tuple) else whole

    def hook_inside(projection: Any, args: Any) -> Any:
        return (torch.cat([push(part) for part in args[0].split(images)]), *args[1:])

    handles = [denoiser.register_forward_pre_hook(look, with_kwargs=True)]
    for name, module in denoiser.named_modules():
        if MODULES[family](name):
            single = name.startswith("single")
            if before_projection and not single:
                handles.append(module.to_out[0].register_forward_pre_hook(hook_inside))
                continue
            handles.append(module.register_forward_hook(lambda m, a, o, s=single: hook(m, a, o, s)))
    assert len(handles) > 1
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def first(one: Callable[..., Tensor], alpha: float, threshold: float) -> Callable[[Tensor], Tensor]:
    def push(x: Tensor) -> Tensor:
        return torch.stack([x[0], *(one(image, x[0], alpha, threshold).float() for image in x[1:])])

    return push


def from_all(alpha: float, threshold: float) -> Callable[[Tensor], Tensor]:
    def push(x: Tensor) -> Tensor:
        others = [torch.cat([x[:i], x[i + 1 :]]).flatten(0, 1) for i in range(len(x))]
        return torch.stack([by_hand(x[i], others[i], alpha, threshold).float() for i in range(len(x))])

    return push


def close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, atol=ATOL * float(b.abs().max()))
