"""The Toybox, negguide's small bundled models, as MODEL, CLIP and VAE of ComfyUI, so that every example runs with no download.

Their denoisers are of the shapes of Stable Diffusion's and Stable Diffusion 3's, only smaller, and become ComfyUI's own:
every patch and sampler works on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


class Text:
    """What CLIP Text Encode asks of a CLIP: tokens of a text, and their conditioning."""

    def __init__(self, pipe: Any) -> None:
        self._tokenizer, self._encoder = pipe.tokenizer, pipe.text_encoder
        self._second = getattr(pipe, "text_encoder_2", None)

    def tokenize(self, text: str) -> Tensor:
        """Token numbers (1, L) of a text; what goes beyond the model's length is cut."""
        length = self._tokenizer.model_max_length
        tokens = self._tokenizer(text, padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        numbers: Tensor = tokens.input_ids
        return numbers

    def encode_from_tokens_scheduled(self, tokens: Tensor, **_: Any) -> list[Any]:
        """Embeddings (1, L, C) of the tokens, as a CONDITIONING."""
        import torch

        with torch.no_grad():
            if self._second is None:
                encoded = self._encoder(tokens.to(self._encoder.device))
                return [[encoded.last_hidden_state, {"pooled_output": encoded.pooler_output}]]
            both = [
                encoder(tokens.to(encoder.device), output_hidden_states=True)
                for encoder in (self._encoder, self._second)
            ]
        text = torch.cat([encoded.hidden_states[-2] for encoded in both], -1)
        return [[text, {"pooled_output": torch.cat([encoded.text_embeds for encoded in both], -1)}]]


class Pictures:
    """What VAE Decode and VAE Encode ask of a VAE: latents to pictures and back."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae

    def decode(self, samples: Tensor) -> Tensor:
        """Latents (B, 8, H, W) -> pictures (B, 4 H, 4 W, 3) in [0, 1]."""
        import torch

        with torch.no_grad():
            pictures: Tensor = self._vae.decode(samples.to(self._vae.device, self._vae.dtype)).sample
        return (pictures / 2 + 0.5).clamp(0, 1).movedim(1, -1).float()

    def encode(self, pixels: Tensor) -> Tensor:
        """Pictures (B, H, W, 3 or more) in [0, 1] -> latents (B, 8, H / 4, W / 4)."""
        import torch

        values = pixels[..., :3].movedim(-1, 1).to(self._vae.device, self._vae.dtype) * 2 - 1
        with torch.no_grad():
            latents: Tensor = self._vae.encode(values).latent_dist.mode()
        return latents


def load_toybox(name: str = "sd") -> tuple[Any, Text, Pictures]:
    """MODEL, CLIP and VAE of a bundled model: "sd", "sd3" or "few-step"."""
    import comfy.model_management
    import comfy.model_patcher

    from negguide.toybox.load import load_pipeline

    from .toybox_models import transformer_of, unet_of

    pipe: Any = load_pipeline(name)
    if hasattr(pipe, "transformer"):
        model = transformer_of(pipe.transformer.config, pipe.transformer.state_dict(), pipe.vae.config)
    else:
        model = unet_of(pipe.unet.config, pipe.unet.state_dict(), pipe.vae.config)
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    patcher = comfy.model_patcher.ModelPatcher(model.to(offload), load_device=device, offload_device=offload)
    return patcher, Text(pipe), Pictures(pipe.vae)
