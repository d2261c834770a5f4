"""Pictures to latents and back, by the VAE that a node was given, in the middle of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def pictures_of(model: Any, patcher: Any, vae: Any, latents: Tensor, longest: int | None = None) -> list[Image]:
    """Latents (B, ...) as the sampler holds them -> pictures, of videos the frame in the middle; sides of `longest` at most."""
    import comfy.model_management

    values = vae.decode(model.process_latent_out(latents))
    values = values[:, values.shape[1] // 2] if values.ndim == 5 else values
    comfy.model_management.load_model_gpu(patcher)  # the VAE may have taken its place
    pictures = as_pictures(values)
    for picture in pictures:
        picture.thumbnail((longest or 512, longest or 512))
    return pictures


def as_pictures(values: Tensor) -> list[Image]:
    """An IMAGE (B, H, W, 3 or more) in [0, 1] -> pictures."""
    from PIL import Image

    colours = values[..., :3].detach().clamp(0, 1)
    return [Image.fromarray((colour * 255).round().byte().cpu().numpy()) for colour in colours]


def latents_of(model: Any, patcher: Any, vae: Any, pictures: Sequence[Image], like: Tensor) -> Tensor:
    """Pictures -> clean latents (B, ...) as the sampler holds them, of the size of `like` (B, ...), whatever size they have.

    Raises `ValueError` where the VAE makes latents of another kind than those of this run, such as a video of several frames.
    """
    import comfy.model_management
    import numpy as np
    import torch

    rows = []
    for picture in pictures:

        def encoded(picture: Image = picture) -> Tensor:
            pixels = np.asarray(picture.convert("RGB"), dtype="float32") / 255
            return torch.as_tensor(vae.encode(torch.from_numpy(pixels)[None]))[0]  # one by one: many would be a video

        row = encoded()
        if row.shape[-2:] != like.shape[-2:]:
            sides = zip(picture.size, row.shape[:-3:-1], like.shape[:-3:-1], strict=True)
            width, height = (round(side * wanted / found) for side, found, wanted in sides)
            row = encoded(picture.resize((width, height)))
        if row.shape != like.shape[1:]:
            raise ValueError(
                f"a picture to keep away from has latents of the shape {tuple(row.shape)}, those of this run have "
                f"{tuple(like.shape[1:])}: connect the VAE of the model; a video of several frames takes no pictures"
            )
        rows.append(model.process_latent_in(row).to(like))
    comfy.model_management.load_model_gpu(patcher)
    return torch.stack(rows)
