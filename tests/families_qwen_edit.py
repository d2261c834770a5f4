"""Tiny pipelines that edit pictures with Qwen-Image; the text encoder reads the text alone, the transformer sees the picture."""

from __future__ import annotations

from typing import Any

import diffusers
from families_llms import qwen_image
from families_qwen import qwen_processor


def _edit(cls: Any, module: Any, sizes: Any) -> Any:
    # The pipelines bring every given picture to a megapixel.
    module.calculate_dimensions = lambda area, ratio: sizes
    parts = qwen_image().components
    pipe = cls(**parts, processor=qwen_processor())
    pipe.prompt_template_encode, pipe.prompt_template_encode_start_idx = "Draw:{}!!", 5
    return pipe


def qwen_edit() -> Any:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit

    return _edit(diffusers.QwenImageEditPipeline, pipeline_qwenimage_edit, (32, 32, None))


def qwen_edit_plus() -> Any:
    from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

    return _edit(diffusers.QwenImageEditPlusPipeline, pipeline_qwenimage_edit_plus, (32, 32))
