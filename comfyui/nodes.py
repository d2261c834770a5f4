"""The nodes of the pack."""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import ComfyExtension, io

from negguide.methods.base import Window
from negguide.methods.nag import NAG
from negguide.methods.negative import Negative, Positive
from negguide.methods.negtome import ON_DIFFUSION, NegToMe
from negguide.methods.registry import METHODS

from .attention import with_nag, with_negtome
from .guidance import with_method
from .inputs import Negatives, inputs_of, options_from, window_from, window_inputs
from .negatives import Entry, as_concepts, check_conditioning, stand_in
from .toybox import load_toybox

_CATEGORY = "negguide"
_OF_THE_GUIDER = ("perp_neg", "signed", "ccfg", "dng")


class NegativeNode(io.ComfyNode):
    """One negative, or one more, for the nodes that take negatives."""

    @classmethod
    def define_schema(cls) -> Any:
        previous = "Another negative, which then counts too: negatives in a chain."
        return io.Schema(
            node_id="NegguideNegative",
            display_name="Negative (negguide)",
            category=_CATEGORY,
            description="What is not wanted: a conditioning with a weight, a window and a region. Chain them for several.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What is not wanted, from any text encoder."),
                io.Float.Input(
                    "weight",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="0 has no effect and costs nothing; 0.5 to 2 is the useful range, and Perp-Neg bears more.",
                ),
                *window_inputs(Window(), "When it holds; until 0.5 keeps most of the effect at half the extra cost."),
                io.Mask.Input("mask", optional=True, tooltip="Where it holds (white); everywhere if left out."),
                Negatives.Input("previous", optional=True, tooltip=previous),
            ],
            outputs=[Negatives.Output("negatives")],
        )

    @classmethod
    def execute(cls, conditioning: Any, weight: float, mask: Any = None, previous: Any = (), **window: Any) -> Any:
        return io.NodeOutput((*(previous or ()), Entry(conditioning, weight, window_from(window), mask)))


class MethodNode(io.ComfyNode):
    """A method of negguide as a patch of a MODEL; the classes made from it say which."""

    method: ClassVar[str]
    shown: ClassVar[str]
    node: ClassVar[str]
    leave_out: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def define_schema(cls) -> Any:
        entry = METHODS[cls.method]
        fields = entry.method.__dataclass_fields__
        inputs = [io.Model.Input("model")]
        if "negatives" in fields:
            inputs.append(Negatives.Input("negatives", tooltip="What is not wanted, from Negative (negguide)."))
        brought = ("negatives", "positives", "unconditional", *entry.presets, *cls.leave_out)
        inputs += inputs_of(entry.method, leave_out=brought)
        if "positives" in fields:
            tip = "Further wishes, from Negative (negguide); they add only what the prompt does not say already."
            inputs.append(Negatives.Input("positives", optional=True, tooltip=tip))
        if "unconditional" in fields:
            tip = (
                "What differences are taken from, usually an empty text. Left out: the sampler's negative conditioning, "
                "which then stays at work as the usual negative prompt."
            )
            inputs.append(io.Conditioning.Input("empty_conditioning", optional=True, tooltip=tip))
        return io.Schema(
            node_id=cls.node,
            display_name=f"{cls.shown} (negguide)",
            category=f"{_CATEGORY}/guidance",
            description=f"{entry.summary[:1].upper()}{entry.summary[1:]}. Cost: {entry.cost}. Source: {entry.paper}.",
            inputs=inputs,
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, **values: Any) -> Any:
        entry = METHODS[cls.method]
        options = options_from(entry.method, values)
        conditionings: dict[str, Any] = {}
        for name, kind in (("negatives", Negative), ("positives", Positive)):
            if values.get(name):
                options[name], known = as_concepts(values[name], kind)
                conditionings |= known
        if "unconditional" in entry.method.__dataclass_fields__:
            options["unconditional"] = "own"
            if (empty := values.get("empty_conditioning")) is not None:
                check_conditioning(empty)
                options["unconditional"] = stand_in()
                conditionings[options["unconditional"]] = empty
        return io.NodeOutput(with_method(model, entry(**options), conditionings))


def _node(method: str, shown: str, *leave_out: str) -> type[MethodNode]:
    name = f"Negguide{''.join(part.capitalize() for part in method.split('_'))}"
    return type(name, (MethodNode,), {"method": method, "shown": shown, "node": name, "leave_out": leave_out})


METHOD_NODES: list[type[MethodNode]] = [
    _node("perp_neg", "Perp-Neg"),
    _node("signed", "Signed negatives"),
    _node("ccfg", "Contrastive negatives"),
    _node("dng", "Dynamic negatives", "p_min"),
    _node("apg", "APG"),
    _node("cfg_zero_star", "CFG-Zero*"),
    _node("rescale", "Guidance rescale"),
    _node("interval", "Guidance interval"),
    _node("spell", "SPELL: keep pictures apart", "references", "within"),
    _node("particle_guidance", "Particle guidance: keep pictures apart", "references", "within"),
]
"""One node per method that works on predictions or clean estimates."""


class NAGNode(io.ComfyNode):
    """NAG on UNets, as a patch of a MODEL."""

    # The values of the family: there are UNets only behind this node.
    usual: ClassVar[dict[str, float]] = {"scale": 3.0, "tau": 2.5, "alpha": 0.5}

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideNag",
            display_name="NAG (negguide)",
            category=f"{_CATEGORY}/attention",
            description=(
                "The negative works inside attention to text, so that it acts at cfg 1 and in few steps too. For UNets (Stable "
                f"Diffusion 1 and 2, SDXL). Cost: a few percent of a pass per negative. Source: {NAG.paper}."
            ),
            inputs=[
                io.Model.Input("model"),
                Negatives.Input("negatives", tooltip="What is not wanted, from Negative (negguide)."),
                *inputs_of(NAG, leave_out=("negatives", "placement", "pooled"), defaults=cls.usual),
            ],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, negatives: Any, **values: Any) -> Any:
        method = NAG("conditionings", **options_from(NAG, values))
        return io.NodeOutput(with_nag(model, method, negatives))


class NegToMeNode(io.ComfyNode):
    """NegToMe on UNets, between the pictures of a batch, as a patch of a MODEL."""

    @classmethod
    def define_schema(cls) -> Any:
        usual = {name: getattr(ON_DIFFUSION, name) for name in ("alpha", "threshold", "window")}
        leave_out = ("alpha_stop", "mask", "layers", "kinds", "noise", "seed")
        return io.Schema(
            node_id="NegguideNegToMe",
            display_name="NegToMe: more variety in a batch (negguide)",
            category=f"{_CATEGORY}/attention",
            description=(
                "Pushes the pictures of a batch from each other, so that they differ more. For UNets (Stable Diffusion 1 and 2, "
                f"SDXL), batch_size 2 or more. Cost: no extra pass. Source: {NegToMe.paper}."
            ),
            inputs=[io.Model.Input("model"), *inputs_of(NegToMe, leave_out=leave_out, defaults=usual)],
            outputs=[io.Model.Output()],
        )

    @classmethod
    def execute(cls, model: Any, **values: Any) -> Any:
        return io.NodeOutput(with_negtome(model, NegToMe(**options_from(NegToMe, values))))


class GuiderNode(io.ComfyNode):
    """A GUIDER for SamplerCustomAdvanced with negatives of its own."""

    @classmethod
    def define_schema(cls) -> Any:
        shown = [METHODS[name].summary for name in _OF_THE_GUIDER]
        return io.Schema(
            node_id="NegguideGuider",
            display_name="Guider with negatives (negguide)",
            category=_CATEGORY,
            description="For SamplerCustomAdvanced: guidance with a chain of negatives, at the settings each method begins with.",
            inputs=[
                io.Model.Input("model"),
                io.Conditioning.Input("positive", tooltip="What is wanted."),
                io.Conditioning.Input(
                    "negative", tooltip="What guidance starts from: an empty text, or a negative prompt."
                ),
                Negatives.Input("negatives", tooltip="What is not wanted, from Negative (negguide)."),
                io.Combo.Input(
                    "method",
                    options=list(_OF_THE_GUIDER),
                    default=_OF_THE_GUIDER[0],
                    tooltip="; ".join(f"{name}: {text}" for name, text in zip(_OF_THE_GUIDER, shown, strict=True))
                    + ".",
                ),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="The guidance scale, above 1."
                ),
            ],
            outputs=[io.Guider.Output()],
        )

    @classmethod
    def execute(cls, model: Any, positive: Any, negative: Any, negatives: Any, method: str, cfg: float) -> Any:
        import comfy.samplers

        concepts, conditionings = as_concepts(negatives, Negative)
        patched = with_method(model, METHODS[method](concepts, unconditional="own"), conditionings)
        guider = comfy.samplers.CFGGuider(patched)
        guider.set_conds(positive, negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)


class ToyboxNode(io.ComfyNode):
    """The bundled model."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideToybox",
            display_name="Load Toybox (negguide)",
            category=_CATEGORY,
            description=(
                "negguide's small bundled model (64x64 pictures of a toy world, seconds on a CPU), to try things without a "
                "download: 25 steps, cfg 5, ddim; latents from Empty Toybox latents."
            ),
            inputs=[],
            outputs=[io.Model.Output(), io.Clip.Output(), io.Vae.Output()],
        )

    @classmethod
    def execute(cls) -> Any:
        return io.NodeOutput(*load_toybox())


class ToyboxLatentsNode(io.ComfyNode):
    """Empty latents of the bundled model's size."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideToyboxLatents",
            display_name="Empty Toybox latents (negguide)",
            category=_CATEGORY,
            description="Empty latents for the Toybox: 8 channels, 16x16, for pictures of 64x64.",
            inputs=[io.Int.Input("batch_size", default=4, min=1, max=4096, tooltip="Number of pictures.")],
            outputs=[io.Latent.Output()],
        )

    @classmethod
    def execute(cls, batch_size: int) -> Any:
        import torch

        return io.NodeOutput({"samples": torch.zeros(batch_size, 8, 16, 16)})


NODES: list[type[Any]] = [
    NegativeNode,
    *METHOD_NODES,
    NAGNode,
    NegToMeNode,
    GuiderNode,
    ToyboxNode,
    ToyboxLatentsNode,
]
"""All nodes, in the order of the menu."""


class Pack(ComfyExtension):
    """What ComfyUI asks for the nodes."""

    async def get_node_list(self) -> list[type[Any]]:
        return list(NODES)


async def comfy_entrypoint() -> ComfyExtension:
    """ComfyUI's way in."""
    return Pack()
