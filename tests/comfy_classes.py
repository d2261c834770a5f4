"""Run with a ComfyUI's Python in its folder: the nodes inside attention on ComfyUI's own transformers, small, of random weights.

Prints JSON: model and node -> how far the picture moves, whether neutral settings are the stock sampler bit for bit, and how
far the first picture of two is from the same picture alone, relative to the greatest latent.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

WINDOW = {"start": 0.0, "stop": 1.0, "window_unit": "progress"}
SHAPES: dict[str, Any] = {
    "Flux": {
        "image_model": "flux", "in_channels": 16, "out_channels": 16, "patch_size": 2, "vec_in_dim": 24,
        "context_in_dim": 32, "hidden_size": 64, "mlp_ratio": 2.0, "num_heads": 2, "depth": 2, "depth_single_blocks": 2,
        "axes_dim": [8, 12, 12], "theta": 10000, "qkv_bias": True, "guidance_embed": False,
    },
    "QwenImage": {
        "image_model": "qwen_image", "patch_size": 2, "in_channels": 64, "out_channels": 16, "num_layers": 2,
        "attention_head_dim": 32, "num_attention_heads": 2, "joint_attention_dim": 32, "pooled_projection_dim": 24,
        "guidance_embeds": False, "axes_dims_rope": (8, 12, 12),
    },
    "WAN21_T2V": {
        "image_model": "wan2.1", "model_type": "t2v", "patch_size": (1, 2, 2), "in_dim": 16, "dim": 64, "ffn_dim": 64,
        "freq_dim": 32, "text_dim": 32, "out_dim": 16, "num_heads": 2, "num_layers": 2, "window_size": (-1, -1),
        "qk_norm": True, "cross_attn_norm": True, "eps": 1e-6,
    },
}  # fmt: skip
"""Names of `comfy.supported_models`, and the configuration of a small denoiser of that kind."""


def main() -> None:
    sys.path[:0] = [str(Path.cwd()), str(Path(__file__).parents[1])]
    sys.argv = [*sys.argv[:1], "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()  # before the rest of ComfyUI, which reads the arguments when it is imported
    import comfy.model_patcher
    import comfy.samplers
    import comfy.supported_models
    import torch

    from comfyui.attention_nodes import NAGNode, NegToMeNode, VSFNode
    from comfyui.negatives import Entry

    torch.set_num_threads(1)

    def text(seed: int, length: int = 7) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return [
            [
                torch.randn(1, length, 32, generator=generator),
                {"pooled_output": torch.randn(1, 24, generator=generator)},
            ]
        ]

    def model_of(name: str) -> Any:
        config = getattr(comfy.supported_models, name)({**SHAPES[name], "dtype": torch.float32})
        config.custom_operations = comfy.ops.manual_cast
        model = config.get_model({}).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(0)
        for parameter in model.diffusion_model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        cpu = torch.device("cpu")
        return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)

    def sampled(model: Any, noise: Any) -> Any:
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(text(1), text(2))
        guider.set_cfg(3.0)
        sigmas, euler = torch.tensor([1.0, 0.7, 0.3, 0.0]), comfy.samplers.sampler_object("euler")
        return guider.sample(noise, torch.zeros_like(noise), euler, sigmas, disable_pbar=True, seed=0)

    negatives = (Entry(text(3, 11), words=(1, 2)), Entry(text(4, 5), 0.5, words=(1,)))
    pushing = {"reference": "first", "threshold": -1.0, "match": "paper", **WINDOW}
    nodes: dict[str, Any] = {
        "nag": lambda model, on: NAGNode.execute(model, negatives, scale=5.0 if on else 1.0, tau=2.5, alpha=0.25),
        "vsf": lambda model, on: VSFNode.execute(model, negatives, scale=3.5 if on else 0.0),
        "negtome": lambda model, on: NegToMeNode.execute(model, alpha=0.9 if on else 0.0, **pushing),
    }
    report: dict[str, Any] = {}
    for name in SHAPES:
        model = model_of(name)
        frames = (3,) if name.startswith("WAN") else (1,) if name == "QwenImage" else ()
        noise = torch.randn(2, 16, *frames, 8, 6, generator=torch.Generator().manual_seed(5))
        stock = sampled(model, noise)
        size = float(stock.abs().max())
        for kind, node in nodes.items():
            try:
                (patched,) = node(model, True).args
            except ValueError as error:
                report[f"{name} {kind}"] = str(error)
                continue
            together, alone = sampled(patched, noise), sampled(patched, noise[:1])
            (neutral,) = node(model, False).args
            report[f"{name} {kind}"] = {
                "moves": float((together - stock).abs().max()) / size,
                "neutral": torch.equal(sampled(neutral, noise), stock),
                "alone": float((together[0] - alone[0]).abs().max()) / size,
            }
    print(json.dumps(report))


if __name__ == "__main__":
    import torch

    with torch.no_grad():
        main()
