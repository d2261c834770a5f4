"""The nodes of the bundled models."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from .inputs import CATEGORY
from .toybox import load_toybox

_MODELS = {
    "sd": "a UNet as Stable Diffusion's (25 steps, cfg 5, ddim)",
    "sd3": "a flow transformer as Stable Diffusion 3's (25 steps, cfg 5, euler, simple)",
    "few-step": "a UNet for few steps (4 steps, cfg 1, ddim, sgm_uniform)",
}
_MODELS_TIP = "Which: " + "; ".join(f"{name}: {what}" for name, what in _MODELS.items()) + "."


class ToyboxNode(io.ComfyNode):
    """The bundled models."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideToybox",
            display_name="Load Toybox (negguide)",
            category=CATEGORY,
            description=(
                "negguide's small bundled models (128x128 pictures of a toy world, seconds on a CPU), to try things without a "
                "download; latents from Empty Toybox latents."
            ),
            inputs=[
                io.Combo.Input("model", options=list(_MODELS), default="sd", optional=True, tooltip=_MODELS_TIP),
            ],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls, model: str = "sd") -> Any:
        return io.NodeOutput(*load_toybox(model))


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
