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
    "hunyuan_video_15": "HunyuanVideo15AutoBlocks",
}
OF_PROMPT = frozenset({"zimage", "krea2"})
"""Families whose pipeline class counts its scale from the prompt's prediction, one below that of a guider."""


def modular(name: str, guider: Any = None) -> Any:
    """The modular pipeline of a family with the components of its small pipeline."""
    import diffusers.modular_pipelines as modular_pipelines

    return filled(name, getattr(modular_pipelines, BLOCKS[name])(), guider)


def filled(name: str, blocks: Any, guider: Any = None) -> Any:
    """A pipeline of these blocks, with the components of the family's small pipeline."""
    _fit_templates(name, blocks)
    parts = families.build(name).components
    pipe = blocks.init_pipeline()
    pipe.update_components(**{k: v for k, v in parts.items() if v is not None and k in pipe.component_names})
    if "guider" in pipe.component_names:
        pipe.update_components(guider=guider or diffusers.ClassifierFreeGuidance(scale(name)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _fit_templates(name: str, blocks: Any) -> None:
    """Around a prompt the templates of the small pipelines, since the real ones are longer than all of their words."""
    block = blocks.sub_blocks["text_encoder"]
    while block.sub_blocks:
        block = next(iter(block.sub_blocks.values()))
    small = families.build(name)
    if name == "qwen":
        block.prompt_template_encode = small.prompt_template_encode
        block.prompt_template_encode_start_idx = small.prompt_template_encode_start_idx
    elif name == "krea2":
        type(block)._encode_prompt.__globals__.update(
            KREA2_TEXT_ENCODER_SELECT_LAYERS=small.text_encoder_select_layers,
            _PROMPT_TEMPLATE_ENCODE_PREFIX=small.prompt_template_encode_prefix,
            _PROMPT_TEMPLATE_ENCODE_START_IDX=small.prompt_template_encode_start_idx,
            _PROMPT_TEMPLATE_ENCODE_SUFFIX=small.prompt_template_encode_suffix,
            _PROMPT_TEMPLATE_ENCODE_NUM_SUFFIX_TOKENS=small.prompt_template_encode_num_suffix_tokens,
        )


def scale(name: str) -> float:
    """The guider's scale that is 5 in the pipeline class."""
    return 6.0 if name in OF_PROMPT else 5.0


def text_options(name: str) -> dict[str, Any]:
    """What of the small pipelines' calls concerns their text encoders."""
    inputs = {given.name for given in modular(name).blocks.sub_blocks["text_encoder"].inputs}
    return {key: value for key, value in families.arguments(name).items() if key in inputs - {"prompt"}}


def run(name: str, pipe: Any, **more: Any) -> Tensor:
    """What a short call of a modular pipeline draws."""
    inputs = [given.name for given in pipe.blocks.inputs]
    given = {k: v for k, v in families.arguments(name, **more).items() if k in inputs}
    output = "videos" if name in ("wan", "ltx", "hunyuan_video_15") else "images"
    drawn: Tensor = pipe(**{**given, "output_type": "pt"}, output=output)
    return drawn
