"""Run with a ComfyUI's Python in its folder: the same pictures through ComfyUI and through the stock pipeline, as differences.

Same noise, noise levels (Euler) and model, the Toybox. Prints JSON: method -> greatest difference of latents, relative to the
greatest latent.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

PROMPT, NEGATIVES, SCALE = "a pet on grass", [("cat", 1.0), ("hat", 0.5)], 5.0


def main() -> None:
    sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parents[1])]
    sys.argv = [*sys.argv[:1], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()  # before the rest of ComfyUI, which reads the arguments when it is imported
    import comfy.samplers
    import torch
    from diffusers import EulerDiscreteScheduler

    import negguide as ng
    from comfyui.nodes import comfy_entrypoint
    from comfyui.toybox import load_toybox
    from negguide.toybox.load import load_pipeline

    methods = {
        "perp_neg": ng.PerpNeg(NEGATIVES, unconditional="own"),
        "signed": ng.NegativePrompt(NEGATIVES, mode="signed", unconditional="own"),
        "ccfg": ng.ContrastiveNegative(NEGATIVES, tau=0.002, unconditional="own"),
        "plain": None,
    }
    torch.set_num_threads(1)
    nodes = {cls.GET_SCHEMA().node_id: cls for cls in asyncio.run(asyncio.run(comfy_entrypoint()).get_node_list())}
    by_method = {getattr(cls, "method", None): cls for cls in nodes.values()}
    model, clip, _ = load_toybox()
    pipe: Any = load_pipeline("sd")
    pipe.scheduler = EulerDiscreteScheduler.from_config(pipe.scheduler.config, timestep_spacing="linspace")
    pipe.scheduler.set_timesteps(10)
    sigmas = pipe.scheduler.sigmas.clone()
    noise = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3))

    def conditioning(text: str) -> Any:
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    chain: Any = ()
    for text, weight in NEGATIVES:
        window = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
        (chain,) = nodes["NegguideNegative"].execute(conditioning(text), weight, previous=chain, **window).args
    differences = {}
    for name, method in methods.items():
        patched = model
        if method is not None:
            more = {"tau": 0.002} if name == "ccfg" else {}
            (patched,) = by_method[name].execute(model, negatives=chain, **more).args
        guider = comfy.samplers.CFGGuider(patched)
        guider.set_conds(conditioning(PROMPT), conditioning(""))
        guider.set_cfg(SCALE)
        # ComfyUI scales the noise by sqrt(1 + sigma^2) at the greatest sigma, as this scheduler does not.
        start = noise * pipe.scheduler.init_noise_sigma / (1 + sigmas[0] ** 2).sqrt()
        euler = comfy.samplers.sampler_object("euler")
        with torch.no_grad():
            ours = guider.sample(start, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=0)
        options: dict[str, Any] = {"num_inference_steps": 10, "guidance_scale": SCALE, "output_type": "latent"}
        options |= {"num_images_per_prompt": 2, "latents": noise.clone()}
        if method is None:
            expected = pipe(PROMPT, **options).images
        else:
            with ng.attach(pipe, method):
                expected = pipe(PROMPT, **options).images
        ours = ours * pipe.vae.config.scaling_factor
        differences[name] = float((ours - expected).abs().max() / expected.abs().max())
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
