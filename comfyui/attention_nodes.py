"""The nodes that work inside attention, of UNets and of transformers."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from negguide.methods.nag import NAG
from negguide.methods.negative import Negative
from negguide.methods.negtome import ON_DIFFUSION, NegToMe
from negguide.methods.perp_neg import PerpNeg
from negguide.methods.recommended import Recommended
from negguide.methods.vsf import VSF

from .blocks import is_unet
from .guidance import with_method
from .inputs import CATEGORY, Negatives, inputs_of, options_from
from .negatives import as_concepts
from .negtome import with_negtome
from .text_attention import USUAL, check_words, with_nag, with_recommended, with_vsf
from .transformers import with_nag_inside, with_negtome_inside, with_vsf_inside

_NEGATIVES_TIP = "What is not wanted, from Negative (negguide) or Negative text (negguide)."


class RecommendedNode(io.ComfyNode):
    """The negative to take where nobody chooses."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideRecommended",
            display_name="Recommended negatives (negguide)",
            category=CATEGORY,
            description=(
                "The negative that did best on negguide's bundled models: NAG on UNets (in the first half of the steps beside "
                "guidance, throughout at cfg 1), Perp-Neg on all other models. Cost: a few percent of a pass per negative on "
                f"UNets, a pass per negative elsewhere. Source: {Recommended.paper}."
            ),
            inputs=[io.Model.Input("model"), Negatives.Input("negatives", tooltip=_NEGATIVES_TIP)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, negatives: Any) -> Any:
        if is_unet(model):
            return io.NodeOutput(with_recommended(model, negatives))
        concepts, conditionings = as_concepts(negatives, Negative)
        return io.NodeOutput(with_method(model, PerpNeg(concepts, unconditional="own"), conditionings))


class VSFNode(io.ComfyNode):
    """VSF, as a patch of a MODEL."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideVsf",
            display_name="VSF: negative words in the prompt (negguide)",
            category=f"{CATEGORY}/attention",
            description=(
                "The negative's words stand in the prompt with their values turned round, so that the picture moves away where "
                "it looks at them; for little or no guidance. For UNets (Stable Diffusion 1 and 2, SDXL; scale 1.5), Stable "
                "Diffusion 3 and Flux (scale 3.5) and Wan (scale 1.7), with negatives from Negative text. Not for Qwen-Image, "
                "Lumina and Z-Image, whose words cannot be told apart here. "
                f"Cost: no extra pass, a few text tokens more. Source: {VSF.paper}."
            ),
            inputs=[
                io.Model.Input("model"),
                Negatives.Input("negatives", tooltip="What is not wanted, from Negative text (negguide)."),
                *inputs_of(VSF, leave_out=("negatives",), defaults={"scale": 1.5}),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, negatives: Any, **values: Any) -> Any:
        method = VSF("words", **options_from(VSF, values))
        assert method.scale is not None
        if is_unet(model):
            return io.NodeOutput(with_vsf(model, method, negatives))
        check_words(negatives)
        return io.NodeOutput(with_vsf_inside(model, method.scale, negatives))


class NAGNode(io.ComfyNode):
    """NAG, as a patch of a MODEL."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideNag",
            display_name="NAG (negguide)",
            category=f"{CATEGORY}/attention",
            description=(
                "The negative works inside attention to text, so that it acts at cfg 1 and in few steps too. For UNets (Stable "
                "Diffusion 1 and 2, SDXL), Stable Diffusion 3, Flux and Qwen-Image (scale 5, alpha 0.25) and Wan (scale 9, alpha "
                "0.25); not for Lumina and Z-Image, where the place of the image moves with the length of the text. Cost: a few "
                f"percent of a pass per negative, where text and image share attention one pass. Source: {NAG.paper}."
            ),
            inputs=[
                io.Model.Input("model"),
                Negatives.Input("negatives", tooltip="What is not wanted, from Negative (negguide)."),
                *inputs_of(NAG, leave_out=("negatives", "part", "placement", "pooled"), defaults=USUAL),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, negatives: Any, **values: Any) -> Any:
        method = NAG("conditionings", **options_from(NAG, values))
        return io.NodeOutput((with_nag if is_unet(model) else with_nag_inside)(model, method, negatives))


class NegToMeNode(io.ComfyNode):
    """NegToMe between the pictures of a batch, as a patch of a MODEL."""

    @classmethod
    def define_schema(cls) -> Any:
        usual = {name: getattr(ON_DIFFUSION, name) for name in ("alpha", "threshold", "window")}
        leave_out = ("alpha_stop", "mask", "layers", "kinds", "noise", "placement", "seed")
        return io.Schema(
            node_id="NegguideNegToMe",
            display_name="NegToMe: more variety in a batch (negguide)",
            category=f"{CATEGORY}/attention",
            description=(
                "Pushes the pictures of a batch from each other, so that they differ more; batch_size 2 or more. For UNets (Stable "
                "Diffusion 1 and 2, SDXL) behind the layers of the up blocks, for Stable Diffusion 3, Flux, Qwen-Image and Wan "
                "inside all layers (threshold 0.65, window sigma 1 to 0.9); not for Lumina and Z-Image. "
                f"Cost: no extra pass. Source: {NegToMe.paper}."
            ),
            inputs=[io.Model.Input("model"), *inputs_of(NegToMe, leave_out=leave_out, defaults=usual)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, **values: Any) -> Any:
        method = NegToMe(**options_from(NegToMe, values))
        return io.NodeOutput((with_negtome if is_unet(model) else with_negtome_inside)(model, method))
