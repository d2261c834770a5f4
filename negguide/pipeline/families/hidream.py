"""HiDream-I1."""

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.families.family import Family

FAMILY = Family(
    "HiDream",
    ("HiDreamImage",),
    # Llama's embeddings come layer by layer: (layers, rows, tokens, channels).
    rows=RowLayout(axes={"encoder_hidden_states_llama3": 1}),
)
