"""The Toybox, negguide's small bundled model, as MODEL, CLIP and VAE of ComfyUI, so that every example runs with no download.

Its UNet is of the shape of Stable Diffusion's, only smaller, and becomes ComfyUI's own: every patch and sampler works on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Text:
    """What CLIP Text Encode asks of a CLIP: tokens of a text, and their conditioning."""

    def __init__(self, tokenizer: Any, encoder: Any) -> None:
        self._tokenizer, self._encoder = tokenizer, encoder

    def tokenize(self, text: str) -> Tensor:
        """Token numbers (1, L) of a text; what goes beyond the model's length is cut."""
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        numbers: Tensor = tokens.input_ids
        return numbers

    def encode_from_tokens_scheduled(self, tokens: Tensor, **_: Any) -> list[Any]:
        """Embeddings (1, L, C) of the tokens, as a CONDITIONING."""
        import torch

        with torch.no_grad():
            encoded = self._encoder(tokens.to(self._encoder.device))
        return [[encoded.last_hidden_state, {"pooled_output": encoded.pooler_output}]]


class Pictures:
    """What VAE Decode and VAE Encode ask of a VAE: latents to pictures and back."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def decode(self, samples: Tensor) -> Tensor:
        """Latents (B, 8, H, W) -> pictures (B, 4 H, 4 W, 3) in [0, 1]."""
        import torch

        with torch.no_grad():
            pictures: Tensor = self._vae.decode(samples.to(self._vae.device, self._vae.dtype)).sample
        return (pictures / 2 + 0.5).clamp(0, 1).movedim(1, -1).float()

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, 3 or more) in [0, 1] -> latents (B, 8, H / 4, W / 4)."""
        import torch

        values = pixels[..., :3].movedim(-1, 1).to(self._vae.device, self._vae.dtype) * 2 - 1
        with torch.no_grad():
            latents: Tensor = self._vae.encode(values).latent_dist.mode()
        return latents


class _Share(float):
    """A width in units of the first block's, e.g. 1.5: the product with a whole number is a whole number."""

    def __mul__(self, other: float) -> int:
        return round(float(self) * other)

    __rmul__ = __mul__


def load_toybox() -> tuple[Any, Text, Pictures]:
    """MODEL, CLIP and VAE of the bundled Toybox."""
    import comfy.model_management
    import comfy.model_patcher

    from negguide.toybox.load import load_pipeline

    pipe: Any = load_pipeline("sd")
    model = _model(pipe.unet.config, pipe.unet.state_dict(), pipe.vae.config)
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    patcher = comfy.model_patcher.ModelPatcher(model.to(offload), load_device=device, offload_device=offload)
    return patcher, Text(pipe.tokenizer, pipe.text_encoder), Pictures(pipe.vae)


def _model(unet: Any, weights: Mapping[str, Tensor], vae: Any) -> Any:
    """ComfyUI's model of a diffusers UNet's configuration and weights."""
    import comfy.latent_formats
    import comfy.model_base
    import comfy.ops
    import comfy.supported_models_base
    import comfy.utils
    import torch

    widths = list(unet.block_out_channels)
    depth = [int(kind.startswith("CrossAttn")) for kind in unet.down_block_types]
    layers = unet.layers_per_block
    shape = {
        "image_size": unet.sample_size,
        "in_channels": unet.in_channels,
        "out_channels": unet.out_channels,
        "model_channels": widths[0],
        "num_res_blocks": [layers] * len(widths),
        "channel_mult": [_Share(width / widths[0]) for width in widths],
        "transformer_depth": [level for level in depth for _ in range(layers)],
        "transformer_depth_output": [level for level in depth for _ in range(layers + 1)],
        "transformer_depth_middle": 1,
        "context_dim": unet.cross_attention_dim,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": unet.use_linear_projection,
        "dtype": torch.float32,
    }

    class Operations(comfy.ops.manual_cast):
        class GroupNorm(comfy.ops.manual_cast.GroupNorm):
            def __init__(self, num_groups: int, num_channels: int, **more: Any) -> None:
                super().__init__(unet.norm_num_groups, num_channels, **more)

    class Latents(comfy.latent_formats.LatentFormat):
        scale_factor = vae.scaling_factor
        latent_channels = vae.latent_channels

    class Toybox(comfy.supported_models_base.BASE):
        unet_config: Mapping[str, Any] = {}
        unet_extra_config: Mapping[str, Any] = {"num_heads": unet.attention_head_dim, "num_head_channels": -1}
        latent_format = Latents
        custom_operations = Operations
        memory_usage_factor = 1.0

    model = comfy.model_base.BaseModel(Toybox(shape), model_type=comfy.model_base.ModelType.EPS)
    names = comfy.utils.unet_to_diffusers(shape)
    model.diffusion_model.load_state_dict({names[name]: weight for name, weight in weights.items()})
    return model.eval()
