"""ComfyUI's models of the bundled denoisers: made from the configuration and the weights of diffusers'."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class _Share(float):
    """A width in units of the first block's, e.g. 1.5: the product with a whole number is a whole number."""

    def __mul__(self, other: float) -> int:
        return round(float(self) * other)

    __rmul__ = __mul__


class _Depth(int):
    """A number of layers or heads that counts as such, and for which 64 times itself is the width that the model has."""

    width: int

    def __new__(cls, number: int, width: int) -> _Depth:
        depth = super().__new__(cls, number)
        depth.width = width
        return depth

    def __mul__(self, other: int) -> int:
        return self.width if other == 64 else int(self) * other

    __rmul__ = __mul__


def unet_of(unet: Any, weights: Mapping[str, Tensor], vae: Any) -> Any:
    """ComfyUI's model of a diffusers UNet's configuration and weights."""
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

    class Toybox(comfy.supported_models_base.BASE):
        unet_config: Mapping[str, Any] = {}
        unet_extra_config: Mapping[str, Any] = {"num_heads": unet.attention_head_dim, "num_head_channels": -1}
        latent_format = _latents(vae)
        custom_operations = Operations
        memory_usage_factor = 1.0

    model = comfy.model_base.BaseModel(Toybox(shape), model_type=comfy.model_base.ModelType.EPS)
    names = comfy.utils.unet_to_diffusers(shape)
    model.diffusion_model.load_state_dict({names[name]: weight for name, weight in weights.items()})
    return model.eval()


def transformer_of(transformer: Any, weights: Mapping[str, Tensor], vae: Any) -> Any:
    """ComfyUI's model of a Stable Diffusion 3 transformer's configuration and weights."""
    import comfy.model_base
    import comfy.ops
    import comfy.supported_models_base
    import comfy.utils
    import torch

    width = transformer.num_attention_heads * transformer.attention_head_dim
    text = {"in_features": transformer.joint_attention_dim, "out_features": width}
    shape = {
        "input_size": transformer.sample_size,
        "patch_size": transformer.patch_size,
        "in_channels": transformer.in_channels,
        "depth": _Depth(transformer.num_attention_heads, width),
        "num_blocks": transformer.num_layers,
        "adm_in_channels": transformer.pooled_projection_dim,
        "context_embedder_config": {"target": "torch.nn.Linear", "params": text},
        "pos_embed_max_size": transformer.pos_embed_max_size,
        "num_patches": transformer.pos_embed_max_size**2,
        "qk_norm": "rms" if transformer.qk_norm == "rms_norm" else None,
        "dtype": torch.float32,
    }

    class Toybox(comfy.supported_models_base.BASE):
        unet_config: Mapping[str, Any] = {}
        unet_extra_config: Mapping[str, Any] = {}
        sampling_settings: Mapping[str, Any] = {"shift": 1.0}
        latent_format = _latents(vae)
        custom_operations = comfy.ops.manual_cast
        memory_usage_factor = 1.0

    model = comfy.model_base.SD3(Toybox(shape))
    names = comfy.utils.mmdit_to_diffusers({"depth": _Depth(transformer.num_layers, width)})
    state = model.diffusion_model.state_dict()
    for name, weight in weights.items():
        there = names[name]
        if isinstance(there, str):
            state[there].copy_(weight)
        elif there[1] is not None:
            state[there[0]].narrow(*there[1]).copy_(weight)
        else:
            state[there[0]].copy_(there[2](weight))
    return model.eval()


def _latents(vae: Any) -> Any:
    import comfy.latent_formats

    class Latents(comfy.latent_formats.LatentFormat):
        scale_factor = vae.scaling_factor
        latent_channels = vae.latent_channels

    return Latents
