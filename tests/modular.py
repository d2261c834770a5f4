"""Small modular pipelines of the real classes, made of the components of the families' small pipelines."""

from __future__ import annotations

from typing import Any

import diffusers
import families
from torch import Tensor

BLOCKS = {
    "sdxl": "StableDiffusionXLAutoBlocks",
    "sd3": "StableDiffusion3AutoBlocks",
    "wan": "WanBlocks",
    "zimage": "ZImageAutoBlocks",
    "klein": "Flux2KleinBaseAutoBlocks",
    "ltx": "LTXAutoBlocks",
    "flux": "FluxAutoBlocks",
    "qwen": "QwenImageAutoBlocks",
    "krea2": "Krea2AutoBlocks",
}
OF_PROMPT = frozenset({"zimage", "krea2"})
"""Families whose pipeline class counts its scale from the prompt's prediction, one below that of a guider."""


def modular(name: str, guider: Any = None) -> Any:
    """The modular pipeline of a family with the components of its small pipeline."""
    import diffusers.modular_pipelines as modular_pipelines

    _fit_templates(name)
    return filled(name, getattr(modular_pipelines, BLOCKS[name])(), guider)


def filled(name: str, blocks: Any, guider: Any = None) -> Any:
    """A pipeline of these blocks, with the components of the family's small pipeline."""
    _fit_templates(name)
    parts = families.build(name).components
    pipe = blocks.init_pipeline()
    pipe.update_components(**{k: v for k, v in parts.items() if v is not None and k in pipe.component_names})
    if "guider" in pipe.component_names:
        pipe.update_components(guider=guider or diffusers.ClassifierFreeGuidance(scale(name)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _fit_templates(name: str) -> None:
    """The templates that the small pipelines have around a prompt, since the real ones are longer than all of their words."""
    if name == "krea2":
        from diffusers.modular_pipelines.krea2 import encoders

        small = families.build(name)
        encoders.KREA2_TEXT_ENCODER_SELECT_LAYERS = small.text_encoder_select_layers
        encoders._PROMPT_TEMPLATE_ENCODE_PREFIX = small.prompt_template_encode_prefix
        encoders._PROMPT_TEMPLATE_ENCODE_START_IDX = small.prompt_template_encode_start_idx
        encoders._PROMPT_TEMPLATE_ENCODE_SUFFIX = small.prompt_template_encode_suffix
        encoders._PROMPT_TEMPLATE_ENCODE_NUM_SUFFIX_TOKENS = small.prompt_template_encode_num_suffix_tokens
    elif name == "qwen":
        from diffusers.modular_pipelines.qwenimage import encoders

        encoders.QWENIMAGE_PROMPT_TEMPLATE, encoders.QWENIMAGE_PROMPT_TEMPLATE_START_IDX = "Draw:{}!!", 5


def scale(name: str) -> float:
    """The guider's scale that is 5 in the pipeline class."""
    return 6.0 if name in OF_PROMPT else 5.0


def run(name: str, pipe: Any, **more: Any) -> Tensor:
    """What a short call of a modular pipeline draws."""
    inputs = [given.name for given in pipe.blocks.inputs]
    given = {k: v for k, v in families.arguments(name, **more).items() if k in inputs}
    output = "videos" if name in ("wan", "ltx") else "images"
    drawn: Tensor = pipe(**{**given, "output_type": "pt"}, output=output)
    return drawn
