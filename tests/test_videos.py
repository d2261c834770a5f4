"""Videos are watched: the frames that a watcher sees are those of the pipeline's own video, and each video has its own answers."""

from __future__ import annotations

import dataclasses
from typing import Any

import families
import numpy as np
import pytest
import torch

from negguide.engine import Unsupported, attach
from negguide.methods import AdaptiveNegatives, Denoised, Method, Step

NORMALISE = ("hunyuan_video", "cogvideox")
FIRST, ALL = (0.0,), (0.0, 0.5, 1.0)


@dataclasses.dataclass(frozen=True)
class Decoder(Method):
    """Decodes what is left after the last step."""

    name = "decoder"
    frames: tuple[float, ...] = FIRST
    seen: list[Any] = dataclasses.field(default_factory=list)
    sees_denoised = True

    def looks_at(self, step: Step, state: dict[str, Any]) -> bool:
        return step.index == step.count - 1

    def denoised(self, denoised: Denoised, state: dict[str, Any]) -> None:
        self.seen.extend(denoised.context.decode(denoised.x0, frames=self.frames))


@pytest.mark.parametrize(
    ("name", "frames"),
    [("wan", FIRST), ("hunyuan_video", FIRST), ("cogvideox", FIRST), ("latte", ALL), ("klein", FIRST)],
)
def test_frames_are_those_of_the_video(name: str, frames: tuple[float, ...]) -> None:
    """The pipeline's own decoding is the oracle: of a causal VAE its first frame, of one that takes pictures every frame.

    VAEs that normalise over all frames give nearly that.
    """
    decoder, pipe = Decoder(frames), families.build(name)
    with attach(pipe, decoder):
        found = families.run(name, steps=2, output_type="pil")
    video = found[0] if isinstance(found[0], list) else found
    places = [round(fraction * (len(video) - 1)) for fraction in frames]
    assert len(decoder.seen) == len(frames)
    for seen, place in zip(decoder.seen, places, strict=True):
        pixels = [np.asarray(image.convert("RGB"), dtype=int) for image in (seen, video[place])]
        assert pixels[0].shape == pixels[1].shape and pixels[1].std() > 1
        if name in NORMALISE:
            assert np.corrcoef(pixels[0].ravel(), pixels[1].ravel())[0, 1] > 0.9
        else:
            assert np.abs(pixels[0] - pixels[1]).max() <= 2


@pytest.mark.parametrize(("name", "frames", "each"), [("wan", ALL, 2), ("ltx", ALL, 3), ("mochi", (1.0,), 1)])
def test_every_video_is_asked_about_its_frames_and_has_its_own_negative(
    name: str, frames: tuple[float, ...], each: int
) -> None:
    shown: list[int] = []

    def watcher(images: list[Any], questions: Any) -> list[list[list[str]]]:
        shown.append(len(images))
        # Only the last frame of the second video shows a cat.
        return [[["cat"] if at == len(images) - 1 else []] * len(questions) for at in range(len(images))]

    method = AdaptiveNegatives(watcher, looks=(0.0,), questions=["What is there?"], frames=frames)
    pipe, prompts = families.build(name), ["a pet on grass"] * 2
    plain = families.run(name, prompt=prompts, steps=3)
    with attach(pipe, method) as attached:
        found = families.run(name, prompt=prompts, steps=3)
    (note,) = [note for record in attached.trace for note in record.notes]
    assert shown == [2 * each] and [row["negatives"] for row in note["images"]] == [[], ["cat"]]
    assert torch.equal(found[0], plain[0]) and not torch.allclose(found[1], plain[1])


def test_frames_that_no_vae_decodes_alone_are_told() -> None:
    watching = AdaptiveNegatives(lambda images, questions: [["cat"] * len(questions)] * len(images))
    with attach(families.build("allegro"), watching), pytest.raises(Unsupported, match="tiles of many frames only"):
        families.run("allegro", steps=4)


@pytest.mark.parametrize(("frames", "words"), [((), "empty"), ((2.0,), "from 0 to 1"), ("all", "number is needed")])
def test_frames_are_fractions(frames: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        AdaptiveNegatives("toybox", frames=frames)
