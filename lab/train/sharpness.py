"""How sharp the edges of pictures are.

python -m lab.train.sharpness [--model sd] [--count 300] [--autoencoder FOLDER]

Draws fully specified prompts, renders clean scenes of the same kinds, colours and backgrounds at the same size, and prints how
sharp the edges of the drawn pictures are beside those of the renders. `--autoencoder`: of another edition, for the same latents.
"""

from __future__ import annotations

import argparse
import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def sharpness(pictures: Tensor) -> Tensor:
    """Mean squared Laplacian (B,) of the grey pictures (B, 3, H, W) in [-1, 1]."""
    kernel = torch.tensor([[0.0, 1.0, 0.0], [1.0, -4.0, 1.0], [0.0, 1.0, 0.0]], device=pictures.device)[None, None]
    grey = pictures.float().mean(1, keepdim=True)
    return F.conv2d(grey, kernel).square().flatten(1).mean(1)


def renders(asked: list[dict[str, str]], size: int) -> np.ndarray:
    """A clean render for each specification of kind, colour and background; the rest as the world has it."""
    from lab.train.data import BENCH
    from negguide.toybox.world.render import render
    from negguide.toybox.world.sample import sample

    rng = np.random.default_rng([BENCH, len(asked), size])
    pictures = []
    for row in asked:
        scene = next(scene for scene, _ in iter(lambda: sample(rng), None) if scene.kind == row["kind"])
        scene = dataclasses.replace(scene, colour=row["colour"], background=row["background"], style="clean")
        pictures.append(render(scene, size))
    return np.stack(pictures)


def relative_sharpness(model: str, count: int, autoencoder: str | None = None) -> tuple[float, float]:
    """Mean sharpness of `count` pictures that a bundled pipeline draws, and of the renders beside them."""
    from diffusers import AutoencoderKL

    from lab.generate import generate
    from lab.score import SEED_START, specified
    from negguide.toybox.load import PIPELINES, load_pipeline
    from negguide.toybox.world.captions import prompt

    pipe, usual = load_pipeline(model), PIPELINES[model]
    call = {"steps": usual.steps, "guidance_scale": usual.guidance_scale, **usual.more}
    if autoencoder is not None:
        own = AutoencoderKL.from_pretrained(autoencoder)
        pipe.vae.encoder, pipe.vae.decoder = own.encoder, own.decoder
        pipe.vae.quant_conv, pipe.vae.post_quant_conv = own.quant_conv, own.post_quant_conv
    asked = specified(count)
    texts = [prompt(row["kind"], colour=row["colour"], background=row["background"]) for row in asked]
    drawn = generate(pipe, texts, range(SEED_START, SEED_START + count), **call)
    pairs = (drawn, renders(asked, drawn.shape[1]))
    made, true = (
        float(sharpness(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1).mean())
        for pictures in pairs
    )
    return made, true


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--autoencoder", metavar="FOLDER")
    given = parser.parse_args()
    made, true = relative_sharpness(given.model, given.count, given.autoencoder)
    print(f"{given.model}: edges of {given.count} pictures {made:.4f}, of renders {true:.4f}: {made / true:.3f}")


if __name__ == "__main__":
    main()
