"""What NAG costs, as a ratio to the plain pipeline and to a literal implementation of its equations in the same run.

    python benchmarks/attention.py                    # all seven pipelines, CPU, one thread
    python benchmarks/attention.py sd3 flux --rounds 9 --out attention.json

Pipelines: Wan-, SD3-, Flux-, Qwen-Image- and Z-Image-type transformers with random weights at about a thousand tokens, and the
Toybox's UNets. Arms: plain; NAG attached already; attached anew for the call; the rival, written from the paper's equations in
`nag_rivals.py`, for Qwen-Image and Z-Image our NAG with nothing shared (the negative has a whole row).
Rounds are interleaved; a round's processor times are divided by its plain one, and the median is told. NAG and the rival must
make the same latents: the largest difference is told too, and what NAG changes at all. Prints a Markdown table, writes JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.models.transformers.transformer_flux import FluxTransformer2DModel
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
from diffusers.models.transformers.transformer_sd3 import SD3Transformer2DModel
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel
from diffusers.models.transformers.transformer_z_image import ZImageTransformer2DModel
from nag_rivals import CrossRival, Strength, flux_rival, sd3_rival
from torch import Tensor

import negguide as ng
from negguide import formats
from negguide.engine import denoiser_modules
from negguide.toybox.load import load_pipeline

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import families
import families_llms
import families_transformers

NEGATIVE = "cat"


@dataclass
class Case:
    """A pipeline, its call, and the context in which its calls are the rival's."""

    pipe: Any
    call: dict[str, Any]
    rival: Callable[[], Any]

    def run(self) -> tuple[float, Tensor]:
        """Processor seconds of one call, and its latents."""
        started = time.process_time()
        output = self.pipe(**self.call, generator=torch.Generator().manual_seed(0))
        return time.process_time() - started, output[0]


def _alive(pipe: Any, transformer: torch.nn.Module) -> Any:
    pipe.transformer = transformer
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval().requires_grad_(False)
            families._enliven(part)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _cross_case(pipe: Any, call: dict[str, Any], part: str, strength: Strength, encode: Callable[[], Tensor]) -> Case:
    layers = [m for name, m in getattr(pipe, part).named_modules() if name.endswith("attn2")]
    guided = call["guidance_scale"] > 1

    @contextmanager
    def rival() -> Iterator[None]:
        before = [layer.processor for layer in layers]
        processor = CrossRival(strength, encode(), guided)
        for layer in layers:
            layer.processor = processor
        try:
            yield
        finally:
            for layer, own in zip(layers, before, strict=True):
                layer.processor = own

    return Case(pipe, call, rival)


def _joint_case(pipe: Any, call: dict[str, Any], forward: Callable[..., Any], encode: Callable[[], Any]) -> Case:
    @contextmanager
    def rival() -> Iterator[None]:
        text, pooled = encode()
        pipe.transformer.forward = lambda **named: forward(pipe.transformer, text, pooled, (5.0, 2.5, 0.25), named)
        try:
            yield
        finally:
            del pipe.transformer.forward

    return Case(pipe, call, rival)


def _wan() -> Case:
    model = WanTransformer3DModel(
        (1, 2, 2), 8, 32, 16, 16, 32, 256, 1024, 6, True, "rms_norm_across_heads", rope_max_seq_len=64
    )
    pipe = _alive(families_transformers.wan(), model)
    call = {"prompt": "a pet", "height": 192, "width": 192, "num_frames": 17, "num_inference_steps": 4}
    call |= {"guidance_scale": 1.0, "output_type": "latent", "max_sequence_length": 16}

    def encode() -> Tensor:
        embeds = pipe.encode_prompt(NEGATIVE, do_classifier_free_guidance=False, max_sequence_length=16)[0]
        text: Tensor = model.condition_embedder.text_embedder(embeds)
        return text

    return _cross_case(pipe, call, "transformer", (9.0, 2.5, 0.25), encode)


def _sd3() -> Case:
    model = SD3Transformer2DModel(64, 2, 4, 6, 32, 8, 64, 256, 64, 4, 96)
    pipe = _alive(families_transformers.sd3(), model)
    side = 64 * pipe.vae_scale_factor
    call = {"prompt": "a pet", "height": side, "width": side, "num_inference_steps": 4, "guidance_scale": 1.0}
    call |= {"output_type": "latent", "max_sequence_length": 256}
    return _joint_case(
        pipe,
        call,
        sd3_rival,
        lambda: pipe.encode_prompt(NEGATIVE, None, None, do_classifier_free_guidance=False, max_sequence_length=256)[
            ::2
        ],
    )


def _flux() -> Case:
    model = FluxTransformer2DModel(1, 16, None, 2, 4, 32, 8, 32, 32, True, (8, 12, 12))
    pipe = _alive(families_transformers.flux(), model)
    side = 64 * pipe.vae_scale_factor
    call = {"prompt": "a pet", "height": side, "width": side, "num_inference_steps": 4}
    call |= {"output_type": "latent", "max_sequence_length": 256}
    return _joint_case(pipe, call, flux_rival, lambda: pipe.encode_prompt(NEGATIVE, None, max_sequence_length=256)[:2])


def _unet(name: str, steps: int, guidance: float) -> Case:
    pipe = load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    call = {"prompt": "a pet on grass", "num_images_per_prompt": 4, "num_inference_steps": steps}
    call |= {"guidance_scale": guidance, "output_type": "latent"}
    return _cross_case(
        pipe, call, "unet", (3.0, 2.5, 0.5), lambda: pipe.encode_prompt(NEGATIVE, pipe.device, 4, False)[0]
    )


def _rows_case(pipe: Any, call: dict[str, Any]) -> Case:
    """A case whose rival gives the negative a whole row of its own, as releases for such models do."""

    @contextmanager
    def rival() -> Iterator[None]:
        known = denoiser_modules.shared_modules
        denoiser_modules.shared_modules = lambda denoiser: None
        try:
            with ng.attach(pipe, ng.NAG(NEGATIVE)):
                yield
        finally:
            denoiser_modules.shared_modules = known

    return Case(pipe, call, rival)


def _qwen() -> Case:
    model = QwenImageTransformer2DModel(2, 16, 4, 6, 32, 8, 16, False, (8, 12, 12))
    pipe = _alive(families_llms.qwen_image(), model)
    side = 64 * pipe.vae_scale_factor
    call = {"prompt": "a pet", "height": side, "width": side, "num_inference_steps": 4, "output_type": "latent"}
    return _rows_case(pipe, call)


def _zimage() -> Case:
    model = ZImageTransformer2DModel(
        (2,), (1,), 4, 256, 6, 1, 8, 8, cap_feat_dim=32, axes_dims=[8, 12, 12], axes_lens=[512, 64, 64]
    )
    pipe = _alive(families_llms.z_image(), model)
    side = 64 * pipe.vae_scale_factor
    call = {"prompt": "a pet", "height": side, "width": side, "num_inference_steps": 4, "guidance_scale": 0.0}
    return _rows_case(pipe, call | {"output_type": "latent"})


CASES: dict[str, Callable[[], Case]] = {
    "wan": _wan,
    "sd3": _sd3,
    "flux": _flux,
    "qwen": _qwen,
    "zimage": _zimage,
    "few-step": lambda: _unet("few-step", 4, 1.0),
    "sd": lambda: _unet("sd", 8, 5.0),
}
"""Label -> what builds it."""


@torch.no_grad()
def measure(case: Case, rounds: int) -> dict[str, float]:
    """Median ratios of interleaved rounds."""
    method = ng.NAG(NEGATIVE)
    names = ("plain", "attached", "anew", "rival")
    times: dict[str, list[float]] = {name: [] for name in names}
    difference = effect = 0.0
    for turn in range(rounds + 1):
        plain, own = case.run()
        with ng.attach(case.pipe, method):
            anew, _ = case.run()
            attached, ours = case.run()
        started = time.process_time()
        with case.rival():
            preparing = time.process_time() - started
            seconds, theirs = case.run()
        if turn:  # the first warms all up
            for name, value in zip(names, (plain, attached, anew, preparing + seconds), strict=True):
                times[name].append(value)
        difference = float((ours - theirs).abs().max() / theirs.abs().max())
        effect = float((own - theirs).abs().max() / theirs.abs().max())
    result = {"plain_seconds": statistics.median(times["plain"]), "difference": difference, "effect": effect}
    for name in names[1:]:
        result[name] = statistics.median(a / b for a, b in zip(times[name], times["plain"], strict=True))
    result["to_rival"] = statistics.median(a / b for a, b in zip(times["attached"], times["rival"], strict=True))
    return result


def markdown(found: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"{found['processor']}, {found['threads']} thread(s), load {found['load']:.1f} on {found['cores']} cores, "
        f"median of {found['rounds']} rounds, processor time",
        "",
        "| pipeline | plain, s | NAG / plain | attached anew / plain | rival / plain | NAG / rival | difference | effect |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {row['plain_seconds']:.2f} | {row['attached']:.2f} | {row['anew']:.2f} | {row['rival']:.2f} "
        f"| {row['to_rival']:.2f} | {row['difference']:.0e} | {row['effect']:.0e} |"
        for name, row in found["rows"].items()
    ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", metavar="pipeline", help=f"some of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out/attention.json"))
    given = parser.parse_args()
    if unknown := set(given.pipelines) - set(CASES):
        parser.error(f"no pipeline {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    torch.set_num_threads(given.threads)
    diffusers.utils.logging.set_verbosity_error()
    load = os.getloadavg()[0]
    rows = {name: measure(CASES[name](), given.rounds) for name in given.pipelines or CASES}
    found = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": given.threads,
        "load": max(load, os.getloadavg()[0]),
        "rounds": given.rounds,
        "rows": rows,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(formats.stamped(found), indent=2) + "\n")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
