"""Run with a ComfyUI's Python in its folder: the same pictures through ComfyUI and through the stock pipeline, as differences.

Same noise, noise levels (Euler) and model, the Toybox's UNet and its transformer. Prints JSON: method -> greatest difference of
latents, relative to the greatest latent.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

PROMPT, NEGATIVES, SCALE = "a pet on grass", [("cat", 1.0), ("hat", 0.5)], 5.0
WINDOW: dict[str, Any] = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
NAG: dict[str, Any] = {"scale": 5.0, "tau": 2.5, "alpha": 0.25}
NEGTOME: dict[str, Any] = {"reference": "first", "alpha": 0.9, "threshold": 0.65, "match": "paper", **WINDOW}


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

    torch.set_num_threads(1)
    nodes = {cls.GET_SCHEMA().node_id: cls for cls in asyncio.run(asyncio.run(comfy_entrypoint()).get_node_list())}
    unet: Any = load_pipeline("sd")
    unet.scheduler = EulerDiscreteScheduler.from_config(unet.scheduler.config, timestep_spacing="linspace")
    cases: dict[str, Any] = {
        "plain": ("sd", SCALE, None, {}),
        "perp_neg": ("sd", SCALE, ng.PerpNeg(NEGATIVES, unconditional="own"), {}),
        "signed": ("sd", SCALE, ng.NegativePrompt(NEGATIVES, mode="signed", unconditional="own"), {}),
        "ccfg": ("sd", SCALE, ng.ContrastiveNegative(NEGATIVES, tau=0.002, unconditional="own"), {"tau": 0.002}),
        "plain sd3": ("sd3", SCALE, None, {}),
        "nag": ("sd3", SCALE, ng.NAG(NEGATIVES, **NAG, pooled="prompt"), NAG),
        "nag at cfg 1": ("sd3", 1.0, ng.NAG(NEGATIVES, **NAG, pooled="prompt"), NAG),
        "vsf": ("sd3", 1.0, ng.VSF(NEGATIVES, scale=3.5), {"scale": 3.5}),
        "neg_to_me": (
            "sd3",
            SCALE,
            ng.NegToMe("first", threshold=0.65, window=(0.0, 1.0), placement="attention"),
            NEGTOME,
        ),
    }
    differences = {}
    for case, (name, scale, method, inputs) in cases.items():
        pipe: Any = unet if name == "sd" else load_pipeline(name)
        pipe.scheduler.set_timesteps(10)
        sigmas = pipe.scheduler.sigmas.clone()
        noise = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3))
        model, clip, _ = load_toybox(name)

        def conditioning(text: str, clip: Any = clip) -> Any:
            return clip.encode_from_tokens_scheduled(clip.tokenize(text))

        chain: Any = ()
        for text, weight in NEGATIVES:
            (chain,) = nodes["NegguideNegativeText"].execute(clip, text, weight, previous=chain, **WINDOW).args
        if method is not None:
            kind = "".join(part.capitalize() for part in case.partition(" ")[0].split("_"))
            given = inputs if case == "neg_to_me" else {**inputs, "negatives": chain}
            (model,) = nodes[f"Negguide{kind}"].execute(model, **given).args
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(conditioning(PROMPT), conditioning(""))
        guider.set_cfg(scale)
        # ComfyUI scales the noise of the UNet by sqrt(1 + sigma^2) at the greatest sigma, as its scheduler does not.
        start = noise if name == "sd3" else noise * pipe.scheduler.init_noise_sigma / (1 + sigmas[0] ** 2).sqrt()
        euler = comfy.samplers.sampler_object("euler")
        with torch.no_grad():
            ours = guider.sample(start, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=0)
        options: dict[str, Any] = {"num_inference_steps": 10, "guidance_scale": scale, "output_type": "latent"}
        options |= {"num_images_per_prompt": 2, "latents": noise.clone()}
        options |= {"max_sequence_length": 0} if name == "sd3" else {}
        with ng.attach(pipe, *([] if method is None else [method])):
            expected = pipe(PROMPT, **options).images
        ours = ours * pipe.vae.config.scaling_factor
        differences[case] = float((ours - expected).abs().max() / expected.abs().max())
    print(json.dumps(differences))


if __name__ == "__main__":
    main()
