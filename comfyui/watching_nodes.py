"""The nodes that look at pictures: adaptive negatives with their watcher and timeline, and measures of a batch."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from negguide.methods.adaptive import AdaptiveNegatives
from negguide.watchers.registry import as_watcher

from .guidance import with_method
from .inputs import CATEGORY
from .latents import as_pictures
from .watching import Eyes, Timeline

Watcher = io.Custom("NEGGUIDE_WATCHER")
TimelineSocket = io.Custom("NEGGUIDE_TIMELINE")
_GROUP = f"{CATEGORY}/watching"
_KINDS = {"creative": "replace", "guard": "signed", "distinct": "perp_neg", "surplus": "perp_neg"}
"""How what is seen acts, where the node is not told: NAG inside layers cannot change from step to step here."""


class WatcherNode(io.ComfyNode):
    """Who looks."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideWatcher",
            display_name="Watcher (negguide)",
            category=_GROUP,
            description=(
                "Who answers questions about forming pictures. toybox: the bundled one, for the Toybox; vqa:MODEL, chat:MODEL: a "
                "transformers model by hub name or folder; clip:MODEL: an open_clip model, which chooses among given words."
            ),
            inputs=[
                io.String.Input(
                    "name",
                    default="toybox",
                    tooltip="toybox, vqa:Salesforce/blip-vqa-base, chat:Qwen/Qwen2.5-VL-3B-Instruct, clip:toybox, ...",
                )
            ],
            outputs=[Watcher.Output("watcher")],
        )

    @classmethod
    def execute(cls, name: str) -> Any:
        return io.NodeOutput(as_watcher(name.strip()))


class AdaptiveNode(io.ComfyNode):
    """Negatives that a watcher finds while the pictures form."""

    @classmethod
    def define_schema(cls) -> Any:
        weight = "Weight of what was seen; 0: nobody looks, and the sampler is the stock one."
        own = "The text of the sampler's negative prompt, which kind replace keeps at work; empty if it has none."
        watch = "What a guard watches for, with commas between: hat, glasses."
        kind = "How what was seen is avoided. usual: replace for creative, signed for guard, perp_neg for distinct and surplus."
        return io.Schema(
            node_id="NegguideAdaptive",
            display_name="Adaptive negatives (negguide)",
            category=_GROUP,
            description=(
                "A watcher looks at each picture while it forms and names what to steer away from next: creative leaves all that "
                "the picture began to become, guard only the listed things and only while they are seen, distinct and surplus "
                "keep the pictures of a batch from showing all the same. Needs cfg above 1. Cost: a pass more per step while "
                f"something is seen, and the looks. Source: {AdaptiveNegatives.paper}."
            ),
            inputs=[
                io.Model.Input("model"),
                Watcher.Input("watcher", tooltip="Who looks, from Watcher (negguide)."),
                io.Clip.Input("clip", tooltip="The text encoder of the model: what was seen is encoded by it."),
                io.Vae.Input(
                    "vae", tooltip="Makes the pictures that the watcher is shown; a small one (TAESD) is quicker."
                ),
                io.String.Input(
                    "prompt", multiline=True, tooltip="The prompt in words: its words never become negatives."
                ),
                io.Combo.Input(
                    "policy", options=list(_KINDS), default="creative", tooltip="What is steered away from."
                ),
                io.String.Input("watch", default="", tooltip=watch),
                io.Combo.Input(
                    "kind", options=["usual", "replace", "signed", "perp_neg"], default="usual", tooltip=kind
                ),
                io.Float.Input("weight", default=1.0, min=0.0, max=100.0, step=0.01, tooltip=weight),
                io.Int.Input(
                    "looks", default=6, min=0, max=1000, tooltip="How often it looks, more densely early; 0: never."
                ),
                io.String.Input("negative_prompt", default="", tooltip=own),
            ],
            outputs=[io.Model.Output(), TimelineSocket.Output("timeline")],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        watcher: Any,
        clip: Any,
        vae: Any,
        prompt: str,
        policy: str,
        watch: str,
        kind: str,
        weight: float,
        looks: int,
        negative_prompt: str,
    ) -> Any:
        timeline = Timeline(watcher)
        if weight == 0 or looks == 0:
            return io.NodeOutput(model.clone(), timeline)
        method = AdaptiveNegatives(
            timeline,
            policy=policy,
            watch=[thing.strip() for thing in watch.split(",") if thing.strip()],
            kind=_KINDS[policy] if kind == "usual" else kind,
            weight=weight,
            looks=looks,
        )
        eyes = Eyes(clip, vae, prompt, negative_prompt, timeline)
        return io.NodeOutput(with_method(model, method, {}, eyes), timeline)


class TimelineNode(io.ComfyNode):
    """What was seen, after sampling."""

    @classmethod
    def define_schema(cls) -> Any:
        return io.Schema(
            node_id="NegguideTimeline",
            display_name="Timeline of a watcher (negguide)",
            category=_GROUP,
            description="What the watcher of Adaptive negatives saw, as text, and the pictures that it was shown, a row a look.",
            inputs=[
                TimelineSocket.Input("timeline", tooltip="From Adaptive negatives (negguide)."),
                io.Latent.Input("after", tooltip="The sampler's result, so that this node waits for it."),
            ],
            outputs=[io.String.Output("text"), io.Image.Output("looks")],
        )

    @classmethod
    def execute(cls, timeline: Timeline, after: Any) -> Any:
        return io.NodeOutput(timeline.text(), timeline.pictures())


class MeasureNode(io.ComfyNode):
    """Numbers about a batch of pictures."""

    @classmethod
    def define_schema(cls) -> Any:
        clip = "toybox, an open_clip model (ViT-B-32/laion2b_s34b_b79k), hf-hub:NAME, or pixels for diversity of pixels only."
        return io.Schema(
            node_id="NegguideMeasure",
            display_name="Measure pictures (negguide)",
            category=_GROUP,
            description=(
                "How diverse a batch is (Vendi score: as how many different pictures it counts; mean similarity), how well it "
                "fits the prompt (CLIP score), and how likely each unwanted thing is there (zero-shot CLIP, a weak judge)."
            ),
            inputs=[
                io.Image.Input("images", tooltip="The pictures, one batch; diversity wants two or more."),
                io.String.Input("prompt", default="", multiline=True, tooltip="For the CLIP score; empty: none."),
                io.String.Input(
                    "things", default="", tooltip="What may be there, with commas between: cat, hat; empty: none."
                ),
                io.String.Input("clip", default="toybox", tooltip=clip),
            ],
            outputs=[
                io.String.Output("text"),
                io.Float.Output("vendi"),
                io.Float.Output("similarity"),
                io.Float.Output("clip_score"),
                io.Float.Output("presence"),
            ],
        )

    @classmethod
    def execute(cls, images: Any, prompt: str, things: str, clip: str) -> Any:
        from .measuring import measured

        names = [thing.strip() for thing in things.split(",") if thing.strip()]
        scores = measured(as_pictures(images), prompt.strip(), names, clip.strip())
        text = "\n".join(f"{name}: {value:.3f}" for name, value in scores.items())
        most = max((scores[f"presence of {name}"] for name in names), default=float("nan"))
        rest = [scores.get(name, float("nan")) for name in ("Vendi", "similarity", "CLIP score")]
        return io.NodeOutput(text, *rest, most)
