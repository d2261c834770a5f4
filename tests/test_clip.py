"""The CLIP: a public open_clip folder whose pictures find their captions."""

from __future__ import annotations

from functools import cache

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from negguide.toybox.clip import clip_dir, image_features, load, load_clip, text_features
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.world import Scene, render, sample_scene
from negguide.toybox.world.captions import full_caption, prompt

STREAM = 20_262


@cache
def pairs() -> tuple[list[Scene], list[Image.Image], list[str]]:
    """200 scenes with distinct full captions, and their pictures."""
    rng = np.random.default_rng(STREAM)
    scenes: dict[str, Scene] = {}
    while len(scenes) < 200:
        scene = sample_scene(rng, named=True)
        scenes.setdefault(full_caption(scene), scene)
    return list(scenes.values()), [Image.fromarray(render(scene)) for scene in scenes.values()], list(scenes)


@cache
def features() -> tuple[torch.Tensor, torch.Tensor]:
    _, pictures, texts = pairs()
    return image_features(pictures), text_features(texts)


def test_loads_by_the_public_route(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_dir()}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_dir()}")
    _, pictures, texts = pairs()
    with torch.no_grad():
        seen = model.eval().encode_image(
            torch.stack([preprocess(picture) for picture in pictures[:20]]), normalize=True
        )
        read = model.encode_text(tokenizer(texts[:20]), normalize=True)
    torch.testing.assert_close(seen, features()[0][:20], atol=1e-4, rtol=0)
    torch.testing.assert_close(read, features()[1][:20], atol=1e-4, rtol=0)


def test_pictures_find_their_captions() -> None:
    seen, read = features()
    for start in (0, 100):
        likeness = seen[start : start + 100] @ read[start : start + 100].T
        assert (likeness.argmax(1) == torch.arange(100)).float().mean() >= 0.93
        assert (likeness.argmax(0) == torch.arange(100)).float().mean() >= 0.93


def test_features_have_length_one() -> None:
    for rows in features():
        assert rows.shape == (200, 128)
        assert rows.dtype == torch.float32
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(200))


def test_a_hat_is_seen() -> None:
    """The text with the accessory is nearer to the picture with it, and the one without to the one without."""
    bare = [
        Scene("pet", kind, "red", "sand", "large", "center", 1, (), "front", "clean", 3)
        for kind in ("cat", "dog", "rabbit")
    ]
    hats = [Scene.from_dict({**scene.to_dict(), "accessories": ["hat"]}) for scene in bare]
    seen = image_features([Image.fromarray(render(scene)) for scene in bare + hats])
    scores = seen @ text_features([prompt("pet", "red", "sand", ["hat"])]).T
    assert (scores[3:] > scores[:3]).all()


def test_the_tokenizer_is_the_toybox_one() -> None:
    _, _, tokenizer = load_clip()
    texts = ["a red cat with a hat on grass, side view", "watermark, blurry", "zebra 7"]
    wanted = make_tokenizer()(texts, padding="max_length", max_length=MAX_LENGTH).input_ids
    assert tokenizer(texts).tolist() == wanted


def test_loaded_once_and_small() -> None:
    assert load() is load()
    assert sum(file.stat().st_size for file in clip_dir().iterdir()) < 9e6
    assert (clip_dir() / "README.md").read_text().startswith("# ")


def test_a_folder_without_a_model_is_refused(tmp_path: object) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        load(str(tmp_path))
