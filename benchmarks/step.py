"""What a method adds to every step beside the denoiser: processor time of Python, with a denoiser that does nothing.

    python benchmarks/step.py

The Toybox pipeline's UNet hands its input back, so that what is left is the pipeline's own loop and ours. The time of a step is
the difference between calls of 60 and of 10 steps, the median of 15 rounds; printed is what a method adds to the plain step. The
exit code is 0 when the bars hold: 0.05 ms for a neutral method, 0.3 ms for Perp-Neg.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput

import negguide as ng
from negguide.toybox.load import load_pipeline

METHODS: dict[str, ng.Method] = {
    "Perp-Neg, neutral": ng.PerpNeg(("cat", 0.0)),
    "Perp-Neg": ng.PerpNeg("cat"),
    "Perp-Neg, four negatives": ng.PerpNeg(["cat", "dog", "hat", "tree"]),
    "negative prompt": ng.NegativePrompt("cat"),
    "NAG, beside its layers": ng.NAG("cat"),
}
BARS = {"Perp-Neg, neutral": 0.05, "Perp-Neg": 0.3}
ROUNDS, SHORT, LONG = 15, 10, 60


def handing_back(sample: torch.Tensor, *args: Any, return_dict: bool = True, **kwargs: Any) -> Any:
    """A denoiser that predicts its input."""
    return UNet2DConditionOutput(sample) if return_dict else (sample,)


def milliseconds(pipe: Any) -> float:
    """Processor time of a step."""

    def seconds(steps: int) -> float:
        generator = torch.Generator().manual_seed(0)
        started = time.process_time()
        pipe("a pet on grass", num_inference_steps=steps, output_type="latent", generator=generator)
        return time.process_time() - started

    seconds(2)
    differences = [(seconds(LONG) - seconds(SHORT)) / (LONG - SHORT) for _ in range(ROUNDS)]
    return 1000 * statistics.median(differences)


def main() -> int:
    torch.set_num_threads(1)
    pipe = load_pipeline("sd")
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.forward = handing_back
    plain = milliseconds(pipe)
    print(f"| method | adds to the {plain:.3f} ms of a plain step |\n|---|---:|")
    missed = False
    for name, method in METHODS.items():
        with ng.attach(pipe, method):
            more = milliseconds(pipe) - plain
        missed |= more > BARS.get(name, more)
        print(f"| {name} | {more:.3f} ms |", flush=True)
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
