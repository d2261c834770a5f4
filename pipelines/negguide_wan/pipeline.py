"""WanPipeline whose call takes negatives: a custom pipeline, thin over `negguide.attach`.

pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline="pipelines/negguide_wan", trust_remote_code=True)
pipe("a street in the rain", negatives=["glasses", ("hat", 1.5)])
"""

from diffusers import WanPipeline

from negguide.custom import takes_negatives


@takes_negatives
class NegguideWanPipeline(WanPipeline):
    """Its call also takes `negatives`, `method` and a method's options; without them it is the stock pipeline."""
