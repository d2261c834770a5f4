"""Run with a ComfyUI's Python in its folder: how far a picture depends on the rest of its batch, on the Toybox.

Prints JSON: plain guidance, ComfyUI's own PerpNegGuider, negguide's Perp-Neg -> how far picture 0 of 4 is from the same picture
alone, relative to its greatest latent. A dot product over the whole batch mixes its pictures; one for each picture does not.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parents[1])]
    sys.argv = [*sys.argv[:1], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()  # before the rest of ComfyUI, which reads the arguments when it is imported
    import comfy.samplers
    import torch
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    from comfyui.negatives import Entry
    from comfyui.nodes import METHOD_NODES
    from comfyui.toybox import load_toybox

    torch.set_num_threads(1)
    model, clip, _ = load_toybox()
    prompt, negative, empty = (
        clip.encode_from_tokens_scheduled(clip.tokenize(t)) for t in ("a pet on grass", "cat", "")
    )
    noise = torch.randn(4, 8, 16, 16, generator=torch.Generator().manual_seed(1))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "normal", 20)

    def guider(kind: str) -> Any:
        if kind == "ComfyUI's Perp-Neg":
            made = Guider_PerpNeg(model)
            made.set_conds(prompt, negative, empty)
            made.set_cfg(5.0, 1.0)
            return made
        patched = model
        if kind == "negguide's Perp-Neg":
            node = next(cls for cls in METHOD_NODES if cls.method == "perp_neg")
            (patched,) = node.execute(model, negatives=(Entry(negative),)).args
        made = comfy.samplers.CFGGuider(patched)
        made.set_conds(prompt, empty)
        made.set_cfg(5.0)
        return made

    def sampled(kind: str, start: Any) -> Any:
        euler = comfy.samplers.sampler_object("euler")
        return guider(kind).sample(start, torch.zeros_like(start), euler, sigmas, disable_pbar=True, seed=0)

    report = {}
    for kind in ("plain guidance", "ComfyUI's Perp-Neg", "negguide's Perp-Neg"):
        alone, together = sampled(kind, noise[:1])[0], sampled(kind, noise)[0]
        report[kind] = float((together - alone).abs().max() / alone.abs().max())
    print(json.dumps(report))


if __name__ == "__main__":
    import torch

    with torch.no_grad():
        main()
