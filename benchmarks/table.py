"""What every method costs beside SDXL-, SD3-, Flux- and Wan-type pipelines: one command, one table, on a CPU or a GPU.

    python benchmarks/table.py                          # small models on a CPU, one thread
    python benchmarks/table.py --device cuda            # models of the published sizes, bfloat16, 1024x1024
    python benchmarks/table.py --show table.json        # the tables of an earlier run

Arms are interleaved; each round's times are divided by the plain pipeline's of the same round, and the median is told; so are the
peak of memory (on a GPU), as a ratio, denoiser passes and calls of text encoders. "NAG, literal" is `nag_rivals.py`, the
paper's equations written into the one denoiser. On a GPU the times are between CUDA events. Prints a Markdown table, writes
JSON after every pipeline.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from large import Setting, build
from nag_rivals import CrossRival, flux_rival, sd3_rival

import negguide as ng
from negguide import formats

NEGATIVE = "cat"
MORE = ["cat", "hat", "car", "tree"]
GUIDED: dict[str, tuple[ng.Method, ...]] = {
    "attached, neutral": (ng.PerpNeg((NEGATIVE, 0.0)),),
    "negative": (ng.NegativePrompt(NEGATIVE),),
    "signed": (ng.NegativePrompt(NEGATIVE, mode="signed"),),
    "perp_neg": (ng.PerpNeg(NEGATIVE),),
    "perp_neg, 4 negatives": (ng.PerpNeg(MORE),),
    "perp_neg, first 40 %": (ng.PerpNeg(ng.Negative(NEGATIVE, window=ng.Window(0, 0.4))),),
    "ccfg": (ng.ContrastiveNegative(NEGATIVE),),
    "dng": (ng.DynamicNegative(NEGATIVE),),
    "apg": (ng.APG(),),
    "cfg_zero_star": (ng.CFGZeroStar(),),
    "interval": (ng.Interval((0.2, 0.8)),),
}
ONE_CALL: dict[str, tuple[ng.Method, ...]] = {
    "perp_neg, in one call": (ng.PerpNeg(NEGATIVE),),
    "perp_neg, 4 negatives, in one call": (ng.PerpNeg(MORE),),
}
"""With all conditions of a step in one forward, which needs more memory and, where a GPU is not busy, less time."""
ATTENTION: dict[str, tuple[ng.Method, ...]] = {
    "nag": (ng.NAG(NEGATIVE),),
    "nag, 4 negatives": (ng.NAG(MORE),),
    "vsf": (ng.VSF(NEGATIVE),),
    "recommended": (ng.negatives(NEGATIVE),),
}
TWO: dict[str, tuple[ng.Method, ...]] = {
    "2 pictures": (),
    "negtome": (ng.NegToMe(),),
    "negtome, all": (ng.NegToMe(reference="all"),),
}
"""Methods that need two pictures of a prompt, beside the pipeline that makes two."""
LITERAL = "nag, literal"


@dataclass
class Arm:
    """One way to make the pictures, and what it cost, once a round."""

    run: Callable[[], Any]
    beside: str
    seconds: list[float] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)
    passes: float | None = None
    encoded: int = 0


@contextmanager
def _cross(setting: Setting) -> Iterator[None]:
    """The literal rival in every cross-attention layer."""
    pipe, guided = setting.pipe, setting.call["guidance_scale"] > 1
    if setting.denoiser == "unet":
        text = pipe.encode_prompt(NEGATIVE, device=pipe.device, do_classifier_free_guidance=False)[0]
    else:
        length = setting.call["max_sequence_length"]
        text = pipe.encode_prompt(NEGATIVE, do_classifier_free_guidance=False, max_sequence_length=length)[0]
        text = pipe.transformer.condition_embedder.text_embedder(text)
    model = getattr(pipe, setting.denoiser)
    layers = [module for name, module in model.named_modules() if name.endswith("attn2")]
    before = [layer.processor for layer in layers]
    processor = CrossRival((5.0, 2.5, 0.25), text, guided)
    for layer in layers:
        layer.processor = processor
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            layer.processor = own


@contextmanager
def _joint(setting: Setting, forward: Callable[..., Any]) -> Iterator[None]:
    """The literal rival in the place of the transformer's forward."""
    pipe, length = setting.pipe, setting.call["max_sequence_length"]
    if forward is sd3_rival:
        found = pipe.encode_prompt(NEGATIVE, None, None, do_classifier_free_guidance=False, max_sequence_length=length)[
            ::2
        ]
    else:
        found = pipe.encode_prompt(NEGATIVE, None, max_sequence_length=length)[:2]
    pipe.transformer.forward = lambda **named: forward(pipe.transformer, *found, (5.0, 2.5, 0.25), named)
    try:
        yield
    finally:
        del pipe.transformer.forward


CASES: dict[str, tuple[str, bool]] = {
    "sdxl, guided": ("sdxl", True),
    "sdxl, without guidance": ("sdxl", False),
    "sd3, guided": ("sd3", True),
    "sd3, without guidance": ("sd3", False),
    "flux": ("flux", False),
    "wan, guided": ("wan", True),
    "wan, without guidance": ("wan", False),
}
"""Label -> pipeline, and whether it is guided."""


def arms_of(name: str, guided: bool, setting: Setting, call: Callable[[int], Any]) -> dict[str, Arm]:
    """What is measured beside this pipeline."""
    pipe = setting.pipe

    def attached(methods: tuple[ng.Method, ...], images: int, one_call: bool = False) -> Callable[[], Any]:
        def run() -> float:
            with ng.attach(pipe, *methods, one_call=one_call) as handle:
                call(images)
            return handle.passes

        return run

    def literal() -> None:
        forward = {"sd3": sd3_rival, "flux": flux_rival}.get(name)
        with _cross(setting) if forward is None else _joint(setting, forward):
            call(1)

    arms = {"plain": Arm(lambda: call(1), "plain")}
    methods = {**(GUIDED if guided else {}), **ATTENTION}
    arms |= {label: Arm(attached(chosen, 1), "plain") for label, chosen in methods.items()}
    if guided:
        arms |= {label: Arm(attached(chosen, 1, one_call=True), "plain") for label, chosen in ONE_CALL.items()}
    if name == "sdxl" or not guided:  # SD3's is written for a row, Wan's pipeline guides in two calls
        arms[LITERAL] = Arm(literal, "plain")
    if name != "wan":
        for label, chosen in TWO.items():
            arms[label] = Arm(attached(chosen, 2) if chosen else lambda: call(2), "2 pictures")
    return arms


class Clock:
    """Seconds and peak bytes of what is run: between CUDA events on a GPU, processor time elsewhere."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device.startswith("cuda")

    def __call__(self, run: Callable[[], Any]) -> tuple[float, float, Any]:
        if not self.on_gpu:
            started = time.process_time()
            result = run()
            return time.process_time() - started, float("nan"), result
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record()
        result = run()
        after.record()
        torch.cuda.synchronize()
        return before.elapsed_time(after) / 1000, float(torch.cuda.max_memory_allocated()), result


@contextmanager
def counted(pipe: Any) -> Iterator[list[int]]:
    """Calls of text encoders inside."""
    calls = [0]

    def count(*_: Any) -> None:
        calls[0] += 1

    hooks = [
        part.register_forward_pre_hook(count)
        for name, part in pipe.components.items()
        if name.startswith("text_encoder") and part is not None
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def measure(label: str, size: str, device: str, steps: int, rounds: int) -> dict[str, Any]:
    """Median ratios of interleaved rounds of one pipeline; the first round warms up and is left out."""
    name, guided = CASES[label]
    setting = build(name, size, device, guided, steps)

    def call(images: int) -> Any:
        more = {} if name == "wan" else {"num_images_per_prompt": images}
        generator = torch.Generator("cpu").manual_seed(0)
        return setting.pipe(**setting.call, **more, generator=generator)

    arms, clock = arms_of(name, guided, setting, call), Clock(device)
    refused = {}
    for turn in range(rounds + 1):
        for arm_name, arm in list(arms.items()):
            try:
                with counted(setting.pipe) as encoded:
                    seconds, memory, passes = clock(arm.run)
            except (ValueError, NotImplementedError) as error:
                refused[arm_name] = str(error)
                del arms[arm_name]
                continue
            if not turn:
                arm.encoded = encoded[0]
                continue
            arm.seconds.append(seconds)
            arm.memory.append(memory)
            arm.passes = passes if isinstance(passes, float) else None
    rows = {}
    for arm_name, arm in arms.items():
        plain = arms[arm.beside]
        rows[arm_name] = {
            "seconds": statistics.median(arm.seconds),
            "time": statistics.median(a / b for a, b in zip(arm.seconds, plain.seconds, strict=True)),
            "memory": statistics.median(a / b for a, b in zip(arm.memory, plain.memory, strict=True)),
            "passes": arm.passes,
            "text_encoder_calls": arm.encoded,
        }
    weights = sum(part.numel() for part in getattr(setting.pipe, setting.denoiser).parameters())
    return {"weights": weights, "call": setting.call, "rows": rows, "refused": refused}


def markdown(found: dict[str, Any]) -> str:
    """The tables, one a pipeline."""
    lines = [f"{found['device']}, torch {found['torch']}, {found['steps']} steps, median of {found['rounds']} rounds"]
    for label, case in found["pipelines"].items():
        plain = case["rows"]["plain"]["seconds"]
        lines += ["", f"### {label}: {case['weights'] / 1e6:,.0f} M weights, plain {plain:.2f} s", ""]
        lines += [
            "| method | time / plain | peak memory / plain | passes | text encoder calls |",
            "|---|---:|---:|---:|---:|",
        ]
        for arm, row in case["rows"].items():
            memory = "" if row["memory"] != row["memory"] else f"{row['memory']:.2f}"
            passes = "" if row["passes"] is None else f"{row['passes']:g}"
            lines.append(f"| {arm} | {row['time']:.2f} | {memory} | {passes} | {row['text_encoder_calls']} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pipelines", nargs="*", metavar="pipeline", help=f"some of: {'; '.join(CASES)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", choices=("small", "real"), help="small on a CPU, real on a GPU, unless said")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("out/table.json"))
    parser.add_argument("--show", type=Path, help="print the tables of this file and measure nothing")
    given = parser.parse_args()
    if given.show is not None:
        print(markdown(json.loads(given.show.read_text())))
        return 0
    if unknown := set(given.pipelines) - set(CASES):
        parser.error(f"no pipeline {', '.join(sorted(unknown))}; there are {'; '.join(CASES)}")
    on_gpu = given.device.startswith("cuda")
    size = given.size or ("real" if on_gpu else "small")
    if not on_gpu:
        torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    named = torch.cuda.get_device_name() if on_gpu else platform.processor() or platform.machine()
    found: dict[str, Any] = {"device": named, "torch": torch.__version__, "diffusers": diffusers.__version__}
    found |= {"size": size, "steps": given.steps, "rounds": given.rounds, "pipelines": {}}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for label in given.pipelines or CASES:
        found["pipelines"][label] = measure(label, size, given.device, given.steps, given.rounds)
        given.out.write_text(json.dumps(formats.stamped(found), indent=1) + "\n")
        print(f"measured {label}", file=sys.stderr, flush=True)
        if on_gpu:
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
