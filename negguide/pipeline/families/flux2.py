"""Flux.2: no guidance of its own in dev, classifier-free guidance in the undistilled klein."""

from negguide.pipeline.families.family import Family, ImageModules, Rule

_DENOISER = ("Flux2Transformer2DModel",)
FAMILY = Family(
    "Flux.2",
    ("Flux2",),
    cfg_off={"guidance_scale": 1.0},
    # Attention and MLP of the single blocks are one projection, so only the double blocks can be tapped.
    layers=(Rule(_DENOISER, r"transformer_blocks\.\d+\.attn", "joint"),),
    # Single blocks make attention and feed-forward of one projection, and are not heard.
    image_modules=ImageModules(
        _DENOISER,
        r"transformer_blocks\.\d+\.(?:norm1|norm2|ff|attn\.(?:to_q|to_k|to_v|norm_q|norm_k|to_out\.0))",
        "last",
        unread=r"single_transformer_blocks\.\d+|norm_out|proj_out",
    ),
    taken_over=True,
    refused_pipelines={
        "Flux2KleinKV": "it keeps what its layers made of the reference pictures beside the prompt, which other texts would change",
    },
)
