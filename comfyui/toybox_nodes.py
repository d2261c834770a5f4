"""The nodes of the bundled model."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .inputs import CATEGORY
from .toybox import load_toybox


class ToyboxNode(io.ComfyNode):
    """The bundled model."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideToybox",
            display_name="Load Toybox (negguide)",
            category=CATEGORY,
            description=(
                "negguide's small bundled model (128x128 pictures of a toy world, seconds on a CPU), to try things without a "
                "download: 25 steps, cfg 5, ddim; latents from Empty Toybox latents."
            ),
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> Any:
        return io.NodeOutput(*load_toybox())


class ToyboxLatentsNode(io.ComfyNode):
    """Empty latents of the bundled model's size."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideToyboxLatents",
            display_name="Empty Toybox latents (negguide)",
            category=CATEGORY,
            description="Empty latents for the Toybox: 8 channels, 16x16, for pictures of 128x128.",
            inputs=[io.Int.Input("batch_size", default=4, min=1, max=4096, tooltip="Number of pictures.")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, batch_size: int) -> Any:
        import torch

        return io.NodeOutput({"samples": torch.zeros(batch_size, 8, 16, 16)})
