"""What each door costs beside `attach`: processor time of a call in which the models themselves cost next to nothing.

    python benchmarks/doors.py                       # CPU, one thread
    python benchmarks/doors.py --rounds 9 --steps 20

Small SDXL- and SD-type pipelines with random weights, so that what is measured is the doors' own work and Python's. Rounds are
interleaved; told are the median of a call, and the median ratio to `attach` in the same round. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers.modular_pipelines.stable_diffusion_xl.modular_blocks_stable_diffusion_xl import (
    StableDiffusionXLAutoBlocks,
)

import negguide as ng
from negguide import custom, processors
from negguide.guiders import NAGGuidance, PerpNegGuidance

sys.path.append(str(Path(__file__).parents[1] / "tests"))
import families

Run = Callable[[], Any]


def _modular() -> Any:
    parts = families.build("sdxl").components
    pipe: Any = StableDiffusionXLAutoBlocks().init_pipeline()
    pipe.update_components(**{k: v for k, v in parts.items() if v is not None and k in pipe.component_names})
    pipe.update_components(guider=diffusers.ClassifierFreeGuidance(5.0))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _call_modular(pipe: Any, steps: int) -> None:
    given = families.arguments("sdxl", steps=steps)
    given.pop("guidance_scale")
    pipe(**given, output="images")


def _attached(pipe: Any, method: Any, call: Run) -> Run:
    def run() -> None:
        with ng.attach(pipe, method):
            call()

    return run


def _with_processors(unet: Any, embeds: Any, call: Run) -> Run:
    def run() -> None:
        processors.wrap_nag(unet, [embeds])
        with ExitStack() as stack:
            stack.callback(processors.unwrap, unet)
            call()

    return run


def _loop(steps: int) -> Run:
    pipe = families.build("sd15")

    def run() -> None:
        scheduler = copy.deepcopy(pipe.scheduler)
        scheduler.set_timesteps(steps)

        def predict(sample: Any, t: Any, text: Any) -> Any:
            return pipe.unet(scheduler.scale_model_input(sample, t), t, text, return_dict=False)[0]

        guided = ng.guide(
            predict,
            ng.PerpNeg("cat"),
            prompt="a pet on grass",
            encode=lambda text: pipe.encode_prompt(text, "cpu", 1, False)[0],
            scheduler=scheduler,
            guidance_scale=5.0,
        )
        side = 32 // pipe.vae_scale_factor
        latents = torch.randn(1, 4, side, side) * scheduler.init_noise_sigma
        with torch.no_grad():
            for t in scheduler.timesteps:
                latents = scheduler.step(guided(latents, t), t, latents, return_dict=False)[0]

    return run


def doors(steps: int) -> dict[str, dict[str, Run]]:
    """Group -> door -> one call through it; the first of a group is `attach`."""
    sdxl, sd = families.build("sdxl"), families.build("sd15")
    plain = _modular()
    perp = _modular()
    perp.update_components(guider=PerpNegGuidance(["cat"], 5.0).encode(perp))
    nag = _modular()
    nag.update_components(guider=NAGGuidance(["cat"], 5.0).encode(nag))
    folder = custom.with_negatives(sdxl)
    embeds = sdxl.encode_prompt("cat", do_classifier_free_guidance=False)[0]

    def call(name: str) -> Run:
        return lambda: families.run(name, steps=steps)

    def blocks(pipe: Any) -> Run:
        return lambda: _call_modular(pipe, steps)

    return {
        "Perp-Neg, SDXL": {
            "attach": _attached(sdxl, ng.PerpNeg("cat"), call("sdxl")),
            "none": call("sdxl"),
            "none, modular": blocks(plain),
            "custom pipeline": lambda: families.run("sdxl", folder, steps=steps, negatives=["cat"], method="perp_neg"),
            "attach, modular": _attached(plain, ng.PerpNeg("cat"), blocks(plain)),
            "guider, modular": blocks(perp),
        },
        "NAG, SDXL": {
            "attach": _attached(sdxl, ng.NAG("cat"), call("sdxl")),
            "processors": _with_processors(sdxl.unet, embeds, call("sdxl")),
            "attach, modular": _attached(plain, ng.NAG("cat"), blocks(plain)),
            "guider, modular": blocks(nag),
        },
        "Perp-Neg, SD": {"attach": _attached(sd, ng.PerpNeg("cat"), call("sd15")), "guide": _loop(steps)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    diffusers.utils.logging.set_verbosity_error()
    print("| method | door | ms of a call | beside attach |\n|---|---|---:|---:|")
    for group, ways in doors(options.steps).items():
        seconds: dict[str, list[float]] = {door: [] for door in ways}
        for round_ in range(options.rounds + 1):
            for door, run in ways.items():
                started = time.process_time()
                run()
                if round_:  # the first warms up
                    seconds[door].append(time.process_time() - started)
        for door, found in seconds.items():
            ratio = statistics.median(a / b for a, b in zip(found, seconds["attach"], strict=True))
            print(f"| {group} | {door} | {1000 * statistics.median(found):.0f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
