"""Modular SDXL whose call takes negatives: diffusers' own blocks with one of negguide's behind the text encoder.

blocks = ModularPipelineBlocks.from_pretrained("pipelines/modular_sdxl", trust_remote_code=True)
pipe = blocks.init_pipeline("stabilityai/stable-diffusion-xl-base-1.0")
pipe.load_components()
pipe(prompt="a portrait of a person", negatives=["glasses", ("hat", 0.5)], output="images")
"""

from typing import ClassVar

from diffusers.modular_pipelines import StableDiffusionXLAutoBlocks as Stock

from negguide.modular import EncodeNegativesStep


class NegguideStableDiffusionXLBlocks(Stock):
    """Its call also takes `negatives`, `negative_method` and `negative_options`; without them it is the stock pipeline."""

    block_classes: ClassVar[list[type]] = [Stock.block_classes[0], EncodeNegativesStep, *Stock.block_classes[1:]]
    block_names: ClassVar[list[str]] = [Stock.block_names[0], "negatives", *Stock.block_names[1:]]
