"""Run outside a checkout, where only `pip install negguide` was: the core works, and nothing of the extras came with it."""

from importlib.util import find_spec

import torch

import negguide as ng
from negguide.toybox.load import load_pipeline

EXTRAS = ("accelerate", "gradio", "open_clip", "pyarrow", "ray", "scipy", "sklearn", "torchvision")

assert "site-packages" in ng.__file__, ng.__file__
assert not (there := [name for name in EXTRAS if find_spec(name)]), there

pipe = load_pipeline()


def picture() -> torch.Tensor:
    """One picture in two steps, as a tensor."""
    return pipe("a pet", num_inference_steps=2, generator=torch.Generator().manual_seed(0), output_type="pt").images


plain = picture()
with ng.attach(pipe, ng.PerpNeg("cat")):
    guided = picture()
assert not torch.equal(guided, plain) and torch.equal(picture(), plain)
print("the core works without the extras")
