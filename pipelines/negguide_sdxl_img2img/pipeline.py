"""StableDiffusionXLImg2ImgPipeline whose call takes negatives: a custom pipeline, thin over `negguide.attach`.

pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline="pipelines/negguide_sdxl_img2img", trust_remote_code=True)
pipe("a portrait of a person", image=photo, negatives=["glasses", ("hat", 1.5)])
"""

from diffusers import StableDiffusionXLImg2ImgPipeline

from negguide.custom import takes_negatives


@takes_negatives
class NegguideStableDiffusionXLImg2ImgPipeline(StableDiffusionXLImg2ImgPipeline):
    """Its call also takes `negatives`, `method` and a method's options; without them it is the stock pipeline."""
