"""The CLIP: how the open_clip model of Toybox pictures and captions is trained, measured and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lab.train.card import stages_of, write_card
from lab.train.common import Settings, Trainer, autocast, batches, device, to_model
from lab.train.data import SIZE, Dataset
from lab.train.portable import make_portable
from lab.train.spoil import spoil
from negguide.metrics.clip import Clip
from negguide.toybox.phrases import parse, true_of
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.world import bias
from negguide.toybox.world.captions import caption, full_caption, prompt
from negguide.toybox.world.scene import Scene

if TYPE_CHECKING:
    pass

SETTINGS = Settings(steps=1200, batch=192, lr=1.5e-3, ema=0.99, warmup=100, weight_decay=0.05)
"""On renders, slightly spoiled."""

WEIGHTS: Final = "open_clip_model.safetensors"
FULL_SHARE: Final = 0.5
"""Share of training pairs whose text names every attribute; the others are as the generator's captions are."""
MAX_SCALE: Final = 100.0
"""Upper bound of the logit scale, as in the CLIP paper (arXiv:2103.00020, section 2.5)."""


def model_config() -> dict[str, Any]:
    """The `model_cfg` of open_clip: a small ResNet, and a text transformer over the Toybox tokenizer."""
    tokenizer = make_tokenizer()
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": SIZE, "layers": [1, 1, 1, 1], "width": 24, "head_width": 48},
        "text_cfg": {
            "context_length": MAX_LENGTH,
            "vocab_size": len(tokenizer),
            "hf_tokenizer_name": "toybox",
            "width": 128,
            "heads": 4,
            "layers": 3,
            "pool_type": "eos",
            "eos_id": tokenizer.eos_token_id,
            "pad_id": tokenizer.pad_token_id,
        },
    }


PREPROCESS: Final = {
    "size": [SIZE, SIZE],
    "mode": "RGB",
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
    "interpolation": "bicubic",
    "resize_mode": "squash",
}


def tokens_of(texts: list[str]) -> Tensor:
    """(N, 32) token ids."""
    ids = make_tokenizer()(texts, padding="max_length", max_length=MAX_LENGTH, truncation=True).input_ids
    return torch.tensor(ids)


def train_clip(data: Dataset, folder: Path, settings: Settings = SETTINGS) -> open_clip.CLIP:
    """Train with the symmetric contrastive loss; return the model with averaged weights."""
    torch.manual_seed(settings.seed)
    model = open_clip.CLIP(**model_config()).to(memory_format=torch.channels_last).train()
    trainer = Trainer(nn.ModuleDict({"clip": model}), settings, folder)
    torch.manual_seed(settings.seed + trainer.step)
    rng = np.random.default_rng([settings.seed, trainer.step, 9])
    full = tokens_of([full_caption(scene) for scene in data.scenes])
    partial = torch.stack(
        [
            tokens_of(data.captions),
            tokens_of([caption(scene, rng, named=bool(rng.random() < bias.NAMED_SHARE)) for scene in data.scenes]),
        ]
    )
    contrast = open_clip.ClipLoss()
    order = batches(len(data), settings.batch, settings.seed, trainer.step)
    while trainer.step < settings.steps:
        index = next(order)
        pictures = np.array(data.images[index])
        mixing = rng.permutation(len(index))
        index, x = index[mixing], spoil(to_model(pictures[mixing]))
        whole = torch.rand(len(index), 1) < FULL_SHARE
        tokens = torch.where(whole, full[index], partial[trainer.step % 2, index])
        with autocast():
            seen = model.encode_image(x, normalize=True)
            read = model.encode_text(tokens.to(device()), normalize=True)
        loss = contrast(seen.float(), read.float(), model.logit_scale.exp())
        trainer.update({"contrast": loss, "scale": model.logit_scale.exp()}, loss)
        with torch.no_grad():
            model.logit_scale.clamp_(max=float(np.log(MAX_SCALE)))
    trainer.finish()
    return model


def save_clip(model: open_clip.CLIP, folder: Path) -> None:
    """Write the model as an open_clip folder: float16 weights, configuration, tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    config = {"model_cfg": model_config(), "preprocess_cfg": PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    make_tokenizer().save_pretrained(folder)
    make_portable(folder)


def score_clip(
    clip: Clip, scenes: list[Scene], captions: list[str], images: np.ndarray, draws: int = 300, seed: int = 3
) -> dict[str, float]:
    """Percent of pictures (or texts) that find their own among 100 random pairs, mean over `draws` draws.

    "full captions": the 100 texts name every attribute and differ. "sampled captions": they are as in training, and any
    caption that is true of the picture counts as right. "zero-shot kind": "a <kind>" among all 30, on all pictures.
    """
    seen = clip.images([Image.fromarray(picture) for picture in images])
    texts = [full_caption(scene) for scene in scenes]
    full, sampled = clip.texts(texts), clip.texts(captions)
    asked = [parse(text) for text in captions]
    rng = np.random.default_rng(seed)
    hits: dict[str, list[float]] = {"full captions": [], "full captions, picture of a text": [], "sampled captions": []}
    _, firsts = np.unique(texts, return_index=True)
    for _ in range(draws):
        chosen = rng.choice(firsts, 100, replace=False)
        likeness = seen[chosen] @ full[chosen].T
        for name, dim in (("full captions", 1), ("full captions, picture of a text", 0)):
            hits[name].append(float((likeness.argmax(dim) == torch.arange(100)).float().mean()))
        chosen = rng.choice(len(scenes), 100, replace=False)
        best = (seen[chosen] @ sampled[chosen].T).argmax(1).tolist()
        right = [true_of(asked[chosen[text]], scenes[picture]) for picture, text in zip(chosen, best, strict=True)]
        hits["sampled captions"].append(float(np.mean(right)))
    kinds = list(bias.CATEGORY_OF)
    named = (seen @ clip.texts([prompt(kind) for kind in kinds]).T).argmax(1).tolist()
    hits["zero-shot kind"] = [float(kinds[k] == scene.kind) for k, scene in zip(named, scenes, strict=True)]
    return {name: round(100 * float(np.mean(values)), 2) for name, values in hits.items()}


ABOUT = """
A small open_clip model (ResNet and text transformer, 128 features) of 64x64 pictures of the Toybox world and their
captions. It reads texts with the Toybox tokenizer, at most 32 tokens. Half of its training texts name every attribute, the
others are captions and tags as the generator is trained on (`negguide.toybox.world.captions`). The pictures are slightly
spoiled renders.

```python
import open_clip
from negguide.toybox.clip import clip_dir
model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{clip_dir()}")
tokenizer = open_clip.get_tokenizer(f"local-dir:{clip_dir()}")
```
"""

MEASURED = """
Percent of pictures that find their text among 100 random ones, mean over 300 draws (second row: of texts that find
their picture). Full captions name every attribute and differ; of sampled captions any that is true of the picture
counts. Zero-shot kind: "a <kind>" among all 30, over all pictures.
"""


def export_clip(
    model: open_clip.CLIP, folder: Path, held_out: Dataset, more: Mapping[str, np.ndarray], work: Path
) -> None:
    """Write the open_clip folder, measure it as it will be loaded, and write the model card; see `export_oracle`."""
    save_clip(model, folder)
    loaded = Clip.load(f"local-dir:{folder}")
    sets = {"held-out renders": held_out.images, **more}
    scores = {
        name: score_clip(loaded, held_out.scenes[: len(images)], held_out.captions[: len(images)], images)
        for name, images in sets.items()
    }
    write_card(
        folder,
        "The Toybox CLIP",
        ABOUT,
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "logit scale": round(loaded.scale, 1),
            "training pairs": "100,000 renders, split 1; measured on 4,000 of split 2, and reconstructions of the first 2,000",
        },
        stages_of(work, {"renders": SETTINGS}, folder),
        {
            "Retrieval": (
                MEASURED,
                scores,
            )
        },
    )


def make_clip(
    data: Dataset, held_out: Dataset, more: Mapping[str, np.ndarray], work: Path, folder: Path
) -> open_clip.CLIP:
    """The whole recipe: train and export. What `work` already holds is not made again."""
    model = train_clip(data, work / "renders").to("cpu")
    export_clip(model, folder, held_out, more, work)
    return model
