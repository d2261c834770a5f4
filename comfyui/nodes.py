"""The nodes of the pack."""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import ComfyExtension, io

from negguide.methods.base import Window
from negguide.methods.negative import Negative, Positive
from negguide.methods.registry import METHODS

from .attention_nodes import BankNode, NAGNode, NegToMeNode, RecommendedNode, VSFNode
from .guidance import with_method
from .inputs import CATEGORY, Negatives, inputs_of, options_from, window_from, window_inputs
from .negatives import Entry, as_concepts, check_conditioning, entry_of, stand_in
from .toybox_nodes import ToyboxLatentsNode, ToyboxNode
from .watching_nodes import AdaptiveNode, MeasureNode, TimelineNode, WatcherNode

_OF_THE_GUIDER = ("perp_neg", "signed", "ccfg", "dng")


class NegativeNode(io.ComfyNode):
    """One negative, or one more, for the nodes that take negatives."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideNegative",
            display_name="Negative (negguide)",
            category=CATEGORY,
            description="What is not wanted: a conditioning with a weight, a window and a region. Chain them for several.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="What is not wanted, from any text encoder."),
                *_when_and_where(),
            ],
            outputs=[Negatives.Output("negatives")],
        )

    @classmethod
    def execute(cls, conditioning: Any, weight: float, mask: Any = None, previous: Any = (), **window: Any) -> Any:
        return io.NodeOutput((*(previous or ()), Entry(conditioning, weight, window_from(window), mask)))


class NegativeTextNode(io.ComfyNode):
    """One negative by its text, of which the words are known, too."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideNegativeText",
            display_name="Negative text (negguide)",
            category=CATEGORY,
            description="What is not wanted, in words: as Negative, with the text encoded here. VSF needs it, all others take it.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model."),
                io.String.Input("text", multiline=True, tooltip="What is not wanted, in words; one thing a node."),
                *_when_and_where(),
            ],
            outputs=[Negatives.Output("negatives")],
        )

    @classmethod
    def execute(cls, clip: Any, text: str, weight: float, mask: Any = None, previous: Any = (), **window: Any) -> Any:
        entry = entry_of(clip, text, weight=weight, window=window_from(window), mask=mask)
        return io.NodeOutput((*(previous or ()), entry))


def _when_and_where() -> list[Any]:
    """What a negative has beside what it says."""
    weight = "0 has no effect and costs nothing; 0.5 to 2 is the useful range, and Perp-Neg bears more."
    previous = "Another negative, which then counts too: negatives in a chain."
    return [
        io.Float.Input("weight", default=1.0, min=0.0, max=100.0, step=0.01, tooltip=weight),
        *window_inputs(Window(), "When it holds; until 0.5 keeps most of the effect at half the extra cost."),
        io.Mask.Input("mask", optional=True, tooltip="Where it holds (white); everywhere if left out."),
        Negatives.Input("previous", optional=True, tooltip=previous),
    ]


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
        if "references" in fields:
            tip = "Pictures to keep away from, of the size of the result."
            inputs.append(io.Image.Input("references", optional=True, tooltip=tip))
            inputs.append(io.Vae.Input("vae", optional=True, tooltip="The VAE of the model, for the references."))
        return io.Schema(
            node_id=cls.node,
            display_name=f"{cls.shown} (negguide)",
            category=f"{CATEGORY}/guidance",
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
        if options.pop("references", None) is not None:
            options["references"] = _latents_of(model, values["references"], values.get("vae"))
        if "unconditional" in entry.method.__dataclass_fields__:
            options["unconditional"] = "own"
            if (empty := values.get("empty_conditioning")) is not None:
                check_conditioning(empty)
                options["unconditional"] = stand_in()
                conditionings[options["unconditional"]] = empty
        return io.NodeOutput(with_method(model, entry(**options), conditionings))


def _latents_of(model: Any, pictures: Any, vae: Any) -> list[Any]:
    """Clean latents of each picture, as the sampler's estimates are scaled."""
    if vae is None:
        raise ValueError("references are pictures, which become latents by the VAE of the model: connect it to vae")
    return list(model.model.process_latent_in(vae.encode(pictures[..., :3])).float().cpu())


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
    _node("cads", "CADS: more variety by a noisy prompt"),
    _node("seed_variance", "Seed variance: more variety by one knob"),
]
"""One node per method that works on predictions, clean estimates or the prompt's embeddings."""


class GuiderNode(io.ComfyNode):
    """A GUIDER for SamplerCustomAdvanced with negatives of its own."""

    @classmethod
    def define_schema(cls) -> Any:
        shown = [METHODS[name].summary for name in _OF_THE_GUIDER]
        return io.Schema(
            node_id="NegguideGuider",
            display_name="Guider with negatives (negguide)",
            category=CATEGORY,
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


NODES: list[type[Any]] = [
    NegativeNode,
    NegativeTextNode,
    RecommendedNode,
    *METHOD_NODES,
    NAGNode,
    VSFNode,
    NegToMeNode,
    BankNode,
    GuiderNode,
    WatcherNode,
    AdaptiveNode,
    TimelineNode,
    MeasureNode,
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
