"""A small stand-in for the parts of ComfyUI that the node pack uses, written from its documentation: no code of it is here.

`installed(monkeypatch)` puts it in the place of the modules `comfy` and `comfy_api`; `patcher()` is a MODEL with a tiny UNet
of random weights, `text(seed)` a CONDITIONING, `sample(...)` what the stock KSampler node does with Euler.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import sys
import types
from collections.abc import Callable
from typing import Any

import torch
from comfy_nodes import ComfyExtension, ComfyNode, NodeOutput, Socket
from torch import Tensor, nn

CONTEXT, WIDTH, HEADS = 12, 16, 2
SIGMAS = torch.tensor([14.0, 7.0, 3.0, 1.0, 0.3, 0.0])


class CONST:
    pass


class EPS:
    pass


class V_PREDICTION(EPS):
    pass


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v))
    return nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class Attention(nn.Module):
    def __init__(self, context: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.to_k, self.to_v = (nn.Linear(context, WIDTH, bias=False) for _ in range(2))
        self.to_out = nn.Linear(WIDTH, WIDTH)


class Block(nn.Module):
    """Self-attention and attention to text, with the patches that ComfyUI documents for them."""

    def __init__(self, place: tuple[str, int]) -> None:
        super().__init__()
        self.place = place
        self.attn1, self.attn2 = Attention(WIDTH), Attention(CONTEXT)
        self.norm = nn.LayerNorm(WIDTH)

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        patches = options.get("patches", {})
        extra = {key: value for key, value in options.items() if key not in ("patches", "patches_replace")}
        extra |= {"n_heads": HEADS, "dim_head": WIDTH // HEADS, "attn_precision": None, "block": self.place}
        n = self.norm(x)
        n = self.attn1.to_out(attend(self.attn1.to_q(n), self.attn1.to_k(n), self.attn1.to_v(n), HEADS))
        for patch in patches.get("attn1_output_patch", []):
            n = patch(n, extra)
        x = x + n
        n, values = self.norm(x), context
        for patch in patches.get("attn2_patch", []):
            n, context, values = patch(n, context, values, extra)
        q, k, v = self.attn2.to_q(n), self.attn2.to_k(context), self.attn2.to_v(values)
        replace = options.get("patches_replace", {}).get("attn2", {}).get(self.place)
        return x + self.attn2.to_out(attend(q, k, v, HEADS) if replace is None else replace(q, k, v, extra))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inside, self.outside = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.input_blocks = nn.ModuleList([nn.Identity(), Block(("input", 1))])
        self.middle_block = Block(("middle", 0))
        self.output_blocks = nn.ModuleList([Block(("output", 0))])
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.2)
        self.requires_grad_(False)

    def forward(self, x: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        options = {**options, "original_shape": list(x.shape)}
        tokens = self.inside(x.flatten(2).transpose(1, 2))
        for block in (self.input_blocks[1], self.middle_block, self.output_blocks[0]):
            tokens = block(tokens, context, options)
        return self.outside(tokens).transpose(1, 2).reshape(x.shape)


class BaseModel:
    def __init__(self, sampling: Any) -> None:
        self.diffusion_model, self.model_sampling = UNet(), sampling

    def process_latent_in(self, latents: Tensor) -> Tensor:
        return latents / 2

    def process_latent_out(self, latents: Tensor) -> Tensor:
        return latents * 2

    def apply_model(self, x: Tensor, sigma: Tensor, context: Tensor, options: dict[str, Any]) -> Tensor:
        wide = sigma.view(-1, 1, 1, 1)
        if isinstance(self.model_sampling, CONST):
            return x - wide * self.diffusion_model(x, context, options)
        output = self.diffusion_model(x / (wide**2 + 1).sqrt(), context, options)
        if isinstance(self.model_sampling, V_PREDICTION):
            return x / (wide**2 + 1) - output * wide / (wide**2 + 1).sqrt()
        return x - wide * output


def calc_cond_batch(
    model: BaseModel, conds: list[Any], x: Tensor, sigma: Tensor, options: dict[str, Any]
) -> list[Tensor]:
    """What is asked of ComfyUI's function: wrappers, then the predictions."""
    wrappers = options.get("transformer_options", {}).get("wrappers", {}).get("calc_cond_batch", {})
    return _wrapped(_predicted, None, [w for keyed in wrappers.values() for w in keyed])(
        model, conds, x, sigma, options
    )


def _predicted(model: BaseModel, conds: list[Any], x: Tensor, sigma: Tensor, options: dict[str, Any]) -> list[Tensor]:
    """The clean estimate of each condition, from one call of the model; zeros where the condition is None."""
    results = [torch.zeros_like(x) for _ in conds]
    places = [at for at, cond in enumerate(conds) if cond is not None]
    context = torch.cat([_text_of(conds[at][0]).expand(len(x), -1, -1) for at in places])
    transformer = {**options.get("transformer_options", {}), "cond_or_uncond": places, "sigmas": sigma}
    count = len(places)
    model.calls = getattr(model, "calls", 0) + count
    wrappers = [w for keyed in transformer.get("wrappers", {}).get("apply_model", {}).values() for w in keyed]
    apply_model = _wrapped(lambda x, t, _, c, __, options: model.apply_model(x, t, c, options), model, wrappers)
    output = apply_model(torch.cat([x] * count), torch.cat([sigma] * count), None, context, None, transformer)
    for at, part in zip(places, output.chunk(count), strict=True):
        results[at] = part
    return results


def _text_of(cond: dict[str, Any]) -> Tensor:
    prepared = cond["model_conds"].get("c_crossattn")
    return cond["cross_attn"] if prepared is None else prepared.cond


def convert_cond(conditioning: Any) -> list[dict[str, Any]]:
    return [{**more, "cross_attn": embeds, "model_conds": {}} for embeds, more in conditioning]


def process_conds(model: BaseModel, noise: Tensor, conds: dict[str, Any], device: Any) -> None:
    for cond in itertools.chain(*conds.values()):
        cond["model_conds"] = {"c_crossattn": types.SimpleNamespace(cond=cond["cross_attn"])}


class Patcher:
    """A MODEL: the model itself is shared by clones, the options are not."""

    def __init__(self, model: BaseModel) -> None:
        self.model, self.model_options, self.wrappers = model, {"transformer_options": {}}, {}

    def clone(self) -> Patcher:
        other = Patcher(self.model)
        other.model_options, other.wrappers = copy.deepcopy(self.model_options), _copied(self.wrappers)
        return other

    def add_wrapper_with_key(self, kind: str, key: str, wrapper: Callable[..., Any]) -> None:
        self.wrappers.setdefault(kind, {}).setdefault(key, []).append(wrapper)

    def remove_wrappers_with_key(self, kind: str, key: str) -> None:
        self.wrappers.get(kind, {}).pop(key, None)

    def set_model_sampler_cfg_function(self, function: Callable[..., Any]) -> None:
        self.model_options["sampler_cfg_function"] = function

    def set_model_sampler_post_cfg_function(self, function: Callable[..., Any]) -> None:
        self.model_options.setdefault("sampler_post_cfg_function", []).append(function)

    def set_model_attn1_output_patch(self, patch: Callable[..., Any]) -> None:
        self._patches().setdefault("attn1_output_patch", []).append(patch)

    def set_model_attn2_patch(self, patch: Callable[..., Any]) -> None:
        self._patches().setdefault("attn2_patch", []).append(patch)

    def set_model_attn2_replace(self, patch: Callable[..., Any], block: str, number: int) -> None:
        replace = self.model_options["transformer_options"].setdefault("patches_replace", {})
        replace.setdefault("attn2", {})[(block, number)] = patch

    def _patches(self) -> dict[str, Any]:
        return self.model_options["transformer_options"].setdefault("patches", {})


class CFGGuider:
    def __init__(self, patcher: Patcher) -> None:
        self.model_patcher, self.cfg = patcher, 1.0

    def set_conds(self, positive: Any, negative: Any) -> None:
        self.given = {"positive": positive, "negative": negative}

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def sample(self, noise: Tensor, sigmas: Tensor = SIGMAS) -> Tensor:
        self.conds = {name: convert_cond(conditioning) for name, conditioning in self.given.items()}
        self.model_options = _copied(self.model_patcher.model_options)
        self.model_options["transformer_options"] |= {"sample_sigmas": sigmas, "wrappers": self.model_patcher.wrappers}
        kinds = self.model_patcher.wrappers.get("outer_sample", {})
        return _wrapped(self._euler, self, [w for keyed in kinds.values() for w in keyed])(noise, sigmas)

    def _euler(self, noise: Tensor, sigmas: Tensor) -> Tensor:
        process_conds(self.model_patcher.model, noise, self.conds, None)
        x = noise if isinstance(self.model_patcher.model.model_sampling, CONST) else noise * sigmas[0]
        for sigma, following in itertools.pairwise(sigmas):
            denoised = self.predict(x, sigma.expand(len(x)))
            x = x + (x - denoised) / sigma * (following - sigma)
        return x

    def predict(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Guidance as ComfyUI documents it: no negative at cfg 1, a formula of one's own, then functions after it."""
        model, options, w = self.model_patcher.model, self.model_options, self.cfg
        cond, uncond = self.conds["positive"], None if w == 1 else self.conds["negative"]
        d_cond, d_uncond = calc_cond_batch(model, [cond, uncond], x, sigma, options)
        denoised = d_uncond + (d_cond - d_uncond) * w
        about = {"input": x, "sigma": sigma, "model": model, "model_options": options, "cond_scale": w}
        about |= {"cond_denoised": d_cond, "uncond_denoised": d_uncond, "cond": cond, "uncond": uncond}
        if (own := options.get("sampler_cfg_function")) is not None:
            denoised = x - own(about)
        for function in options.get("sampler_post_cfg_function", []):
            denoised = function({**about, "denoised": denoised})
        return denoised


def _wrapped(function: Callable[..., Any], owner: Any, wrappers: list[Any]) -> Callable[..., Any]:
    if not wrappers:
        return function
    inner = _wrapped(function, owner, wrappers[1:])

    class Executor:
        class_obj = owner

        def __call__(self, *args: Any) -> Any:
            return inner(*args)

    return lambda *args: wrappers[0](Executor(), *args)


def _copied(value: Any) -> Any:
    """Dicts and lists anew, what they hold shared."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def installed(monkeypatch: Any) -> types.ModuleType:
    """The node pack's `nodes`, imported with this stand-in in the place of ComfyUI."""
    names = (
        "Model",
        "Conditioning",
        "Mask",
        "Float",
        "Int",
        "Boolean",
        "Combo",
        "String",
        "Guider",
        "Clip",
        "Vae",
        "Latent",
        "Image",
    )
    sockets: dict[str, Any] = {name: Socket(name.upper()) for name in names}
    about = {"Custom": Socket, "ComfyNode": ComfyNode, "NodeOutput": NodeOutput, "Schema": types.SimpleNamespace}
    modules = {
        "comfy_api": {},
        "comfy_api.latest": {"io": types.SimpleNamespace(**sockets, **about), "ComfyExtension": ComfyExtension},
        "comfy": {},
        "comfy.samplers": {"calc_cond_batch": calc_cond_batch, "CFGGuider": CFGGuider, "process_conds": process_conds},
        "comfy.sampler_helpers": {"convert_cond": convert_cond},
        "comfy.model_management": {"load_model_gpu": lambda patcher: None},
        "comfy.ldm": {},
        "comfy.ldm.modules": {},
        "comfy.ldm.modules.attention": {"optimized_attention": attend},
    }
    for name, contents in modules.items():
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
    for name in [name for name in sys.modules if name.partition(".")[0] == "comfyui"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module("comfyui.nodes")


def patcher(sampling: type[Any] = EPS) -> Patcher:
    return Patcher(BaseModel(sampling()))


def text(seed: int, length: int = 5) -> list[Any]:
    embeds = torch.randn(1, length, CONTEXT, generator=torch.Generator().manual_seed(seed))
    return [[embeds, {"pooled_output": None}]]


def noise(count: int = 3) -> Tensor:
    return torch.randn(count, 4, 6, 6, generator=torch.Generator().manual_seed(7))


def sample(model: Patcher, start: Tensor, cfg: float = 4.0, sigmas: Tensor = SIGMAS) -> Tensor:
    guider = CFGGuider(model)
    guider.set_conds(text(1), text(2))
    guider.set_cfg(cfg)
    return guider.sample(start, sigmas)
