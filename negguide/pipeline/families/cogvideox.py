"""CogVideoX."""

from negguide.pipeline.families.family import Family, ImageModules, Rule

_DENOISER = ("CogVideoXTransformer3DModel",)
FAMILY = Family(
    "CogVideoX",
    ("CogVideoX",),
    refused={"use_dynamic_cfg": bool},
    layers=(Rule(_DENOISER, r"transformer_blocks\.\d+\.attn1", "joint", values="last"),),
    image_modules=ImageModules(
        _DENOISER,
        "",
        "last",
        stream=r"transformer_blocks\.\d+\.(?:attn1\.(?:to_q|to_k|to_v|to_out\.0)|ff)",
        unread="norm_out|proj_out",
    ),
    frames_axis=1,
    # Its learned or sinusoidal positions count the text's tokens, too.
    fixed_text=lambda config: not config.get("use_rotary_positional_embeddings"),
)
