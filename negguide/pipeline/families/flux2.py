"""Flux.2: no guidance of its own in dev, classifier-free guidance in the undistilled klein."""

from negguide.pipeline.families.family import Family, Rule

FAMILY = Family(
    "Flux.2",
    ("Flux2",),
    cfg_off={"guidance_scale": 1.0},
    # Attention and MLP of the single blocks are one projection, so only the double blocks can be tapped.
    layers=(Rule(("Flux2Transformer2DModel",), r"transformer_blocks\.\d+\.attn", "joint"),),
    taken_over=True,
    refused_pipelines={
        "Flux2KleinKV": "it keeps what its layers made of the reference pictures beside the prompt, which other texts would change",
    },
)
