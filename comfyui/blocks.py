"""Where a patch of a UNet's block stands: its step, its rows, the grid of its image tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from negguide.methods.base import Step

from .steps import step_at

if TYPE_CHECKING:
    from torch import Tensor

PROMPT = 0
"""The place of the prompt in ComfyUI's `cond_or_uncond`."""
RIDING = "negguide riding"
"""Key in the options of a call for pictures that ride along behind the rows of each branch: `comfyui.riding.Riding`."""


def step_in(tokens: Tensor, options: dict[str, Any]) -> Step:
    """The step that a patch of attention is called in."""
    return step_at(tokens, options["sigmas"], options)


def rows_of(place: int, count: int, options: dict[str, Any]) -> list[int]:
    """The rows that belong to the prompt (0) or the negative prompt (1), of `count` rows, without pictures that ride along."""
    places = options["cond_or_uncond"]
    size = count // len(places)
    own = size - (riding.rows if (riding := options.get(RIDING)) is not None else 0)
    return [at * size + row for at, found in enumerate(places) if found == place for row in range(own)]


def grid_of(tokens: int, options: dict[str, Any]) -> tuple[int, int]:
    """Height and width of a layer's image tokens, halved from those of the latents."""
    height, width = options["original_shape"][-2:]
    while height * width > tokens and (height > 1 or width > 1):
        height, width = -(-height // 2), -(-width // 2)
    if height * width != tokens:
        raise ValueError(
            f"{tokens} image tokens are no grid of latents {tuple(options['original_shape'])}; leave the mask out"
        )
    return height, width


def is_unet(model: Any) -> bool:
    """Whether the blocks of a MODEL are those of a UNet (Stable Diffusion 1 and 2, SDXL)."""
    unet = model.model.diffusion_model
    return hasattr(unet, "input_blocks") and hasattr(unet, "output_blocks")


def blocks_of(model: Any, name: str) -> list[tuple[str, int]]:
    """The places of blocks in a UNet: ("input", 0), ..., ("middle", 0), ..., ("output", 0), ...

    Raises `ValueError`, in words for the user of the node `name`, for models that are no UNets.
    """
    unet = model.model.diffusion_model
    if not is_unet(model):
        raise ValueError(f"{name} works here on UNets; {type(unet).__name__} is none")
    counts = {"input": len(unet.input_blocks), "middle": 1, "output": len(unet.output_blocks)}
    return [(part, number) for part, count in counts.items() for number in range(count)]
