"""How sharp the edges of pictures are.

python -m lab.train.sharpness [--model sd] [--count 300] [--autoencoder FOLDER] [--sheet FILE]

Draws fully specified prompts, renders clean scenes of the same kinds, colours and backgrounds at the same size, and prints how
sharp the edges of the drawn pictures are beside those of the renders, and in how many the oracle sees all that was asked for.
`--autoencoder`: of another edition, for the same latents. `--sheet`: the first 30 pictures, one of each kind, to look at.
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


def draw(model: str, asked: list[dict[str, str]], autoencoder: str | None = None) -> np.ndarray:
    """What a bundled pipeline draws for specifications of kind, colour and background; from the seeds of `lab.score`."""
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    from lab.generate import generate
    from lab.score import SEED_START
    from lab.train.common import device
    from negguide.toybox.load import PIPELINES, load_pipeline
    from negguide.toybox.world.captions import prompt

    pipe, usual = load_pipeline(model).to(device()), PIPELINES[model]
    call = {"steps": usual.steps, "guidance_scale": usual.guidance_scale, **usual.more}
    if autoencoder is not None:
        own = AutoencoderKL.from_pretrained(autoencoder).to(device())
        pipe.vae.encoder, pipe.vae.decoder = own.encoder, own.decoder
        pipe.vae.quant_conv, pipe.vae.post_quant_conv = own.quant_conv, own.post_quant_conv
    texts = [prompt(row["kind"], colour=row["colour"], background=row["background"]) for row in asked]
    return generate(pipe, texts, range(SEED_START, SEED_START + len(asked)), **call)


def mean_sharpness(pictures: np.ndarray) -> float:
    """Mean sharpness of pictures (N, H, W, 3) uint8."""
    return float(sharpness(torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1).mean())


def share_right(pictures: np.ndarray, asked: list[dict[str, str]]) -> float:
    """Share of pictures in which the oracle sees the asked kind, colour and background."""
    from negguide.toybox.oracle import Oracle

    judged = Oracle.load().judge(pictures)
    seen = zip(judged.kind, judged.colour, judged.background, strict=True)
    return float(np.mean([list(row.values()) == list(what) for row, what in zip(asked, seen, strict=True)]))


def main() -> None:
    """The command."""
    from PIL import Image

    from lab.score import specified

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--autoencoder", metavar="FOLDER")
    parser.add_argument("--sheet", metavar="FILE")
    given = parser.parse_args()
    asked = specified(given.count)
    drawn = draw(given.model, asked, given.autoencoder)
    made, true = mean_sharpness(drawn), mean_sharpness(renders(asked, drawn.shape[1]))
    print(f"{given.model}: edges of {given.count} pictures {made:.4f}, of renders {true:.4f}: {made / true:.3f}")
    print(f"all that was asked for: {share_right(drawn, asked):.1%}")
    if given.sheet:
        rows = [np.concatenate(list(drawn[start : start + 10]), 1) for start in range(0, min(30, len(drawn) - 9), 10)]
        Image.fromarray(np.concatenate(rows)).save(given.sheet)


if __name__ == "__main__":
    main()
