"""HiDream-I1."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family, Rule

_DENOISER = ("HiDreamImageTransformer2DModel",)
FAMILY = Family(
    "HiDream",
    ("HiDreamImage",),
    # Llama's embeddings come layer by layer: (layers, rows, tokens, channels).
    rows=RowLayout(axes={"encoder_hidden_states_llama3": 1}),
    layers=(
        Rule(_DENOISER, r"double_stream_blocks\.\d+\.block\.attn1", "joint", "first"),
        Rule(_DENOISER, r"single_stream_blocks\.\d+\.block\.attn1", "joint", "first", values="first"),
    ),
)
