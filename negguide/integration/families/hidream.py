"""HiDream-I1."""

from negguide.integration.families.family import Family
from negguide.integration.tree import RowLayout

FAMILY = Family(
    "HiDream",
    ("HiDreamImage",),
    # Llama's embeddings come layer by layer: (layers, rows, tokens, channels).
    rows=RowLayout(axes={"encoder_hidden_states_llama3": 1}),
)
