"""What a method that looks at forming pictures needs inside ComfyUI: pictures of latents, texts encoded on the way, a timeline."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from negguide.watchers.protocol import Question, Watcher

from .latents import pictures_of
from .negatives import Conditioning

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from negguide.methods.base import EachImage


@dataclasses.dataclass(eq=False)
class Timeline:
    """What a watcher saw in the last run, look by look: the notes of the method, and the pictures that it was shown."""

    watcher: Watcher
    notes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    shown: list[Sequence[Image]] = dataclasses.field(default_factory=list)

    def __call__(self, images: Sequence[Image], questions: Sequence[Question], /) -> Sequence[Any]:
        self.shown.append(list(images))
        return self.watcher(images, questions)

    def text(self) -> str:
        """A line for each picture of each look."""
        lines = []
        for note in self.notes:
            if "error" in note:
                lines.append(f"step {note['looked_at']}: no answer ({note['error']})")
            for row in note.get("images", ()):
                seen = ", ".join(each["text"] for each in row["seen"]) or "nothing"
                against = ", ".join(row["negatives"]) or "nothing"
                at = f"step {note['looked_at']}, picture {row['image']}"
                lines.append(f"{at}: sees {seen}; from step {note['acts_from']} away from {against}")
        return "\n".join(lines) or "nobody looked: raise the weight or the number of looks, or sample more steps"

    def pictures(self) -> Tensor:
        """(looks, H, W, 3) in [0, 1]: the pictures of each look side by side; one black pixel where nobody looked."""
        import numpy as np
        import torch

        rows = [np.concatenate([np.asarray(picture.convert("RGB")) for picture in look], 1) for look in self.shown]
        if not rows:
            return torch.zeros(1, 1, 1, 3)
        return torch.from_numpy(np.stack(rows).astype("float32") / 255)


@dataclasses.dataclass
class Eyes:
    """The CLIP and VAE that a watching method uses, the prompt and negative prompt in words, and where its timeline goes."""

    clip: Any
    vae: Any
    prompt: str
    negative: str
    timeline: Timeline

    def context(self, model: Any, patcher: Any, count: int) -> Any:
        """What a method may know of the run: the groups, the words, and how latents become pictures."""
        return types.SimpleNamespace(
            groups=(tuple(range(count)),),
            prompts=(self.prompt,) * count,
            own_negatives=(self.negative,) * count,
            fits=lambda text: True,  # ComfyUI reads long texts in chunks
            decode=lambda latents, **more: pictures_of(model, patcher, self.vae, latents, more.get("longest")),
        )

    def encoded(self, each: EachImage) -> list[tuple[list[int], Conditioning]]:
        """(rows, their conditioning) for texts of images; texts of one length go together, images without text are left out."""
        import torch

        made = {
            text: self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text)) for text in set(each.texts) if text
        }
        groups: dict[Any, list[int]] = {}
        for row, text in enumerate(each.texts):
            if text:
                groups.setdefault(made[text][0][0].shape, []).append(row)
        result: list[tuple[list[int], Conditioning]] = []
        for rows in groups.values():
            parts = [made[each.texts[row] or ""][0] for row in rows]
            more = dict(parts[0][1])
            if more.get("pooled_output") is not None:
                more["pooled_output"] = torch.cat([part[1]["pooled_output"] for part in parts])
            result.append((rows, [[torch.cat([part[0] for part in parts]), more]]))
        return result


def prepared(model: Any, conditioning: Conditioning, x: Tensor) -> Any:
    """A conditioning as ComfyUI's `calc_cond_batch` takes it, made in the middle of a run."""
    import comfy.sampler_helpers
    import comfy.samplers

    conds = {"negative": comfy.sampler_helpers.convert_cond(conditioning)}
    comfy.samplers.process_conds(model, x, conds, x.device)
    return conds["negative"]
