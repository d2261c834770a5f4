"""The nodes that work inside attention, of UNets and of transformers."""

from __future__ import annotations

from typing import Any, Literal

from comfy_api.latest import io

from negguide.methods.avoid import Avoid
from negguide.methods.bank import Bank
from negguide.methods.mask import Mask
from negguide.methods.nag import NAG
from negguide.methods.negative import Negative
from negguide.methods.negtome import ON_DIFFUSION, NegToMe
from negguide.methods.options import options_of
from negguide.methods.perp_neg import PerpNeg
from negguide.methods.recommended import Recommended
from negguide.methods.vsf import VSF

from .blocks import is_unet
from .guidance import with_method
from .inputs import CATEGORY, Negatives, inputs_of, options_from
from .latents import as_pictures
from .negatives import as_concepts
from .negtome import with_negtome
from .text_attention import USUAL, check_words, with_nag, with_recommended, with_vsf
from .transformers import with_nag_inside, with_negtome_inside, with_vsf_inside

Pictures = io.Custom("NEGGUIDE_BANK")
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


class BankNode(io.ComfyNode):
    """Pictures of a folder, for NegToMe."""

    @classmethod
    def define_schema(cls) -> Any:
        clip = (
            "Who tells what is alike: an open_clip model (ViT-B-32/laion2b_s34b_b79k), or toybox for Toybox pictures. What it "
            "makes of the pictures is kept in a file beside them."
        )
        return io.Schema(
            node_id="NegguideBank",
            display_name="Bank of pictures (negguide)",
            category=f"{CATEGORY}/attention",
            description=(
                "Pictures of a folder, of which NegToMe keeps away from those most like what is forming, picked anew as it goes, "
                "for each picture of the batch its own. Cost: the VAE and the CLIP at each choice."
            ),
            inputs=[
                io.String.Input(
                    "folder", tooltip="A folder on the machine that ComfyUI runs on: PNG, JPEG, WebP, BMP."
                ),
                io.String.Input("clip", default="toybox", tooltip=clip),
                io.Int.Input("count", default=1, min=1, max=64, tooltip="How many are picked for each picture."),
                io.Int.Input("every", default=1, min=1, max=1000, tooltip="At how many steps one choice lasts."),
            ],
            outputs=[Pictures.Output("bank")],
        )

    @classmethod
    def execute(cls, folder: str, clip: str, count: int, every: int) -> Any:
        bank = Bank(folder.strip(), clip.strip(), count, every)
        bank.paths()  # a folder without pictures is told before sampling
        return io.NodeOutput(bank)


class NegToMeNode(io.ComfyNode):
    """NegToMe between the pictures of a batch, or away from given ones, as a patch of a MODEL."""

    @classmethod
    def define_schema(cls) -> Any:
        usual = {name: getattr(ON_DIFFUSION, name) for name in ("alpha", "threshold", "window")}
        leave_out = ("alpha_stop", "mask", "layers", "kinds", "noise", "placement", "seed")
        help_of = {name: meaning.help for name, meaning in options_of(NegToMe).items()}
        avoid = (
            "Pictures to keep away from, instead of those of the batch; they take no place in the result. Needs vae."
        )
        masks = "What in them is meant (white): one mask for all, or one for each. Needs match paper."
        noise = "How they are shown to the model: with the same noise at each step, or clean."
        return io.Schema(
            node_id="NegguideNegToMe",
            display_name="NegToMe: more variety, or away from pictures (negguide)",
            category=f"{CATEGORY}/attention",
            description=(
                "Pushes the pictures of a batch from each other, so that they differ more (batch_size 2 or more), or away from "
                "given pictures, or from those of a bank. For UNets (Stable "
                "Diffusion 1 and 2, SDXL) behind the layers of the up blocks, for Stable Diffusion 3, Flux, Qwen-Image and Wan "
                "inside all layers (threshold 0.65, window sigma 1 to 0.9); not for Lumina and Z-Image. Cost: no extra pass; with "
                f"given pictures a row for each and branch while the window is open. Source: {NegToMe.paper}."
            ),
            inputs=[
                io.Model.Input("model"),
                *inputs_of(NegToMe, leave_out=leave_out, defaults=usual),
                io.Image.Input("pictures", optional=True, tooltip=avoid),
                io.Mask.Input("pictures_mask", optional=True, tooltip=masks),
                Pictures.Input("bank", optional=True, tooltip="Instead of pictures, from Bank of pictures. Needs vae."),
                io.Vae.Input("vae", optional=True, tooltip="The VAE of the model, for pictures and banks."),
                io.Mask.Input("region", optional=True, tooltip=help_of["mask"]),
                io.Combo.Input("noise", options=["fixed", "clean"], default="fixed", optional=True, tooltip=noise),
                io.Int.Input("seed", default=0, min=0, max=2**63 - 1, optional=True, tooltip=help_of["seed"]),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        pictures: Any = None,
        pictures_mask: Any = None,
        bank: Any = None,
        vae: Any = None,
        region: Any = None,
        noise: Literal["fixed", "clean"] = "fixed",
        seed: int = 0,
        **values: Any,
    ) -> Any:
        options = options_from(NegToMe, values)
        if pictures is not None and bank is not None:
            raise ValueError("NegToMe takes pictures or a bank, not both; put the pictures into the bank's folder")
        if pictures_mask is not None and pictures is None:
            raise ValueError(
                "pictures_mask says what in pictures is meant, and there are none; region is for the result"
            )
        if pictures is not None or bank is not None:
            if vae is None:
                raise ValueError("pictures to keep away from become latents by the VAE of the model: connect it to vae")
            options["reference"] = bank if pictures is None else _avoided(pictures, pictures_mask)
        if region is not None:
            options["mask"] = Mask.of(_one_mask(region))
        method = NegToMe(**options, noise=noise, seed=seed)
        return io.NodeOutput((with_negtome if is_unet(model) else with_negtome_inside)(model, method, vae))


def _avoided(pictures: Any, masks: Any) -> list[Avoid]:
    """An IMAGE (R, H, W, 3) and a MASK (H, W), (1, H, W) or (R, H, W) -> pictures to avoid."""
    seen = as_pictures(pictures)
    if masks is None:
        return [Avoid(picture) for picture in seen]
    masks = masks.cpu().float().reshape(-1, *masks.shape[-2:])
    if len(masks) not in (1, len(seen)):
        raise ValueError(f"pictures_mask has {len(masks)} masks for {len(seen)} pictures; give one, or one for each")
    return [Avoid(picture, Mask.of(masks[at % len(masks)])) for at, picture in enumerate(seen)]


def _one_mask(mask: Any) -> Any:
    """A MASK (H, W) or (1, H, W) -> (H, W)."""
    if mask.ndim == 3 and len(mask) != 1:
        raise ValueError(f"region has {len(mask)} masks; one is needed, for the whole batch")
    return mask.reshape(mask.shape[-2:]).cpu().float()
