"""NegToMe in the up blocks of UNets, as patches of ComfyUI's blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from negguide.methods.negtome import NegToMe

from .blocks import blocks_of, grid_of, step_in
from .riding import Avoided, Pushing

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "negguide pictures"


def with_negtome(model: Any, method: NegToMe, vae: Any = None) -> Any:
    """A MODEL whose image tokens move away from those of other pictures, in the up blocks of a UNet.

    The others are those of the batch, or given ones: then `vae` makes latents of them, which ride along in the calls of the model.

    Raises `ValueError` for models that are no UNets, and for given pictures where the MODEL has some already.
    """
    patched = model.clone()
    blocks_of(patched, "NegToMe")
    if not Pushing.acts(method):
        return patched
    patched.set_model_attn1_output_patch(_pusher(method))
    if not isinstance(method.reference, str):
        if patched.model_options.get(_KEY):
            raise ValueError(
                "this MODEL keeps away from given pictures already; use one NegToMe, with all pictures in it"
            )
        avoided = patched.model_options[_KEY] = Avoided(method, vae)
        patched.set_model_sampler_post_cfg_function(avoided.see)
        patched.add_wrapper_with_key("outer_sample", _KEY, avoided.around_sampling)
        patched.add_wrapper_with_key("apply_model", _KEY, avoided.around_model)
    return patched


def _pusher(method: NegToMe) -> Callable[[Tensor, dict[str, Any]], Tensor]:
    told: list[bool] = []

    def push(n: Tensor, options: dict[str, Any]) -> Tensor:
        place = options.get("block")
        if place is None or place[0] != "output":
            return n
        pushing = Pushing.at(method, step_in(n, options), len(n), options, told)
        return n if pushing is None else pushing.push(n, lambda: grid_of(n.shape[1], options))

    return push
