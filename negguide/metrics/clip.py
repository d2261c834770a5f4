"""Picture and text features of any open_clip model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from negguide.wording import first_line

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

BATCH = 64


class Clip:
    """An open_clip model with its preprocessing and tokenizer. Features are normalised rows, float32, on the CPU.

    `Clip.load("ViT-B-32/laion2b_s34b_b79k")` (architecture/weights), `"hf-hub:<repository>"` or `"local-dir:<folder>"`.
    """

    def __init__(self, name: str, model: Any, preprocess: Any, tokenizer: Any) -> None:
        self.name = name
        self.model = model.eval()
        self.preprocess = preprocess
        self.tokenizer = tokenizer
        self._known: dict[str, Tensor] = {}

    @classmethod
    def load(cls, name: str, device: str = "cpu") -> Clip:
        """Load by name. `ValueError` says what names are possible when it cannot be had."""
        import open_clip

        architecture, weights = name, None
        if not name.startswith(("hf-hub:", "local-dir:")):
            architecture, _, tag = name.partition("/")
            weights = tag or None
            if weights is None:
                raise ValueError(f"CLIP model {name!r} names no weights; {_POSSIBLE}")
        try:
            model, preprocess = open_clip.create_model_from_pretrained(architecture, pretrained=weights, device=device)
            return cls(name, model, preprocess, open_clip.get_tokenizer(architecture))
        except Exception as error:  # open_clip raises many kinds, for unknown names and failed downloads alike
            raise ValueError(f"CLIP model {name!r} cannot be loaded ({first_line(error)}); {_POSSIBLE}") from error

    @property
    def scale(self) -> float:
        """The logit scale it was trained to, about 100."""
        return float(self.model.logit_scale.detach().exp())

    def images(self, pictures: Sequence[Image]) -> Tensor:
        """PIL pictures -> (N, C)."""
        import torch

        rows = (torch.stack([self.preprocess(picture) for picture in part]) for part in _parts(pictures))
        return self._encode(self.model.encode_image, rows)  # one part in memory at a time

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Texts -> (N, C); what was encoded once is remembered."""
        import torch

        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            rows = self._encode(self.model.encode_text, [self.tokenizer(list(part)) for part in _parts(new)])
            self._known.update(zip(new, rows, strict=True))
        return torch.stack([self._known[text] for text in texts])

    def _encode(self, encode: Any, parts: Iterable[Tensor]) -> Tensor:
        import torch

        device = next(self.model.parameters()).device
        with torch.no_grad():
            features = torch.cat([encode(part.to(device)).float().cpu() for part in parts])
        return torch.nn.functional.normalize(features, dim=-1)


_POSSIBLE = (
    "possible: 'toybox', '<architecture>/<weights>' such as 'ViT-B-32/laion2b_s34b_b79k', 'hf-hub:<repository>', "
    "'local-dir:<folder>'"
)


def _parts(items: Sequence[object]) -> list[Sequence[object]]:
    return [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
