"""negguide as a hosted Space: the bundled Toybox on a CPU; on a GPU also the models named in NEGGUIDE_MODELS.

Settings are variables of the Space: `NEGGUIDE_MODELS` (names of the Hub, with commas), `NEGGUIDE_MODEL` (of the first screen),
`NEGGUIDE_PREVIEW` (tiny autoencoder for live previews), `NEGGUIDE_CLIP` (open_clip model that judges). On a CPU they are ignored:
nobody would wait for it. The host is a public name that everybody may call, so none is refused.
"""

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import torch

from negguide.demo.options import Options
from negguide.demo.server import build, serve, warm


def options() -> Options:
    """What this Space offers."""
    if not torch.cuda.is_available():
        return Options(waiting=40, each=10, steps=50, hosts=("*",))
    models = tuple(name.strip() for name in os.environ.get("NEGGUIDE_MODELS", "").split(",") if name.strip())
    return Options(
        model=os.environ.get("NEGGUIDE_MODEL") or "toybox",
        allow_models=models,
        preview=os.environ.get("NEGGUIDE_PREVIEW") or None,
        clip=os.environ.get("NEGGUIDE_CLIP") or None,
        waiting=40,
        each=10,
        hosts=("*",),
    )


offered = options()
demo, engine = build(offered)

if __name__ == "__main__":
    warm(engine)
    serve(demo, engine, server_name="0.0.0.0", agents=True)
