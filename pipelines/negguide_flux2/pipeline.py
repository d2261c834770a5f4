"""Flux2KleinPipeline whose call takes negatives: a custom pipeline, thin over `negguide.attach`.

pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline="pipelines/negguide_flux2", trust_remote_code=True)
pipe(prompt="a portrait of a person", negatives=["glasses", ("hat", 1.5)], method="nag")
"""

from diffusers import Flux2KleinPipeline

from negguide.custom import takes_negatives


@takes_negatives
class NegguideFlux2KleinPipeline(Flux2KleinPipeline):
    """Its call also takes `negatives`, `method` and a method's options; without them it is the stock pipeline."""
