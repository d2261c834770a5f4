"""Methods inside the attention of transformers: NAG, VSF and NegToMe, through ComfyUI's override of attention.

Nothing of a model is replaced: one wrapper around its call lengthens texts and lets rows ride along, and names an override of
attention in the options of that call. Two kinds of model are known: text and image in one sequence (Stable Diffusion 3,
Flux, Qwen-Image: text comes first), and text in layers of its own (Wan). A negative has the prompt's pooled vector, which
modulates the image, so that the image stays the same in all rows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from negguide.methods.nag import NAG
from negguide.methods.negtome import NegToMe

from .attention_calls import CrossCalls, JointCalls, Text
from .blocks import PROMPT, RIDING, rows_of
from .lending import lent, name_of
from .negatives import Entry, stand_in
from .riding import Avoided, Pushing, widened
from .steps import step_at

if TYPE_CHECKING:
    from torch import Tensor

_KEY = "negguide transformer"
JOINT = {
    "OpenAISignatureMMDITWrapper": "Stable Diffusion 3",
    "Flux": "Flux",
    "QwenImageTransformer2DModel": "Qwen-Image",
}
CROSS = {"WanModel": "Wan"}
CLIP_TOKENS = 77
"""Stable Diffusion 3 puts the tokens of T5 behind those of CLIP."""


def is_transformer(model: Any) -> bool:
    """Whether the MODEL is a transformer that is known here."""
    return _class(model) in {**JOINT, **CROSS}


def why_not(model: Any, method: str) -> str:
    """What to tell the user of a node on a model that is neither a UNet nor one of these."""
    names = ", ".join([*JOINT.values(), *CROSS.values()])
    return (
        f"{method} works here on UNets (Stable Diffusion 1 and 2, SDXL) and on {names}; {_class(model)} is none of them. "
        "Negatives on predictions (Perp-Neg, Signed negatives) work on every model"
    )


@dataclasses.dataclass(frozen=True)
class InTransformer:
    """What acts inside the attention of a MODEL: at most one NAG, VSF and NegToMe.

    Args:
        nag: NAG's settings, with its negatives in `nag_texts`.
        vsf_scale: VSF's scale, with its negatives in `vsf_texts`.
        negtome: NegToMe's settings; None for none.
        avoided: the pictures that it keeps away from, if they are not those of the batch.
    """

    nag: NAG | None = None
    nag_texts: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    vsf_scale: float = 0.0
    vsf_texts: Mapping[str, Entry] = dataclasses.field(default_factory=dict)
    negtome: NegToMe | None = None
    avoided: Avoided | None = None
    guiders: list[Any] = dataclasses.field(default_factory=list, compare=False)

    def __deepcopy__(self, memo: Any) -> InTransformer:
        return self  # ComfyUI copies what a MODEL holds; a run has one state

    def around_sampling(self, executor: Any, *args: Any, **more: Any) -> Any:
        """Wrapper of ComfyUI's outer_sample: lends the guider the negatives, so that it prepares them like its own."""
        texts = {**self.nag_texts, **self.vsf_texts}
        self.guiders.append(executor.class_obj)
        try:
            with lent(executor.class_obj, {text: entry.conditioning for text, entry in texts.items()}):
                if self.avoided is not None:
                    return self.avoided.around_sampling(executor, *args, **more)
                return executor(*args, **more)
        finally:
            self.guiders.pop()

    def around_model(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        **more: Any,
    ) -> Any:
        """Wrapper of ComfyUI's apply_model: texts and rows more where a method acts at this step, else the call as it is."""
        options = transformer_options or {}
        if self.avoided is not None and RIDING not in options:
            inside = functools.partial(self.around_model, executor)
            given = (x, t, c_concat, c_crossattn, control, {**options, RIDING: None})
            return self.avoided.around_model(inside, *given, model=executor.class_obj, **more)
        step = step_at(x, options["sigmas"], options)
        rows = rows_of(PROMPT, len(x), options)
        nag = [self._text(text, entry) for text, entry in self.nag_texts.items() if rows and entry.window.is_open(step)]
        vsf = [self._text(text, entry) for text, entry in self.vsf_texts.items() if rows and entry.window.is_open(step)]
        pushing = Pushing.at(self.negtome, step, len(x), options)
        if not (nag or vsf or pushing) or c_crossattn is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **more)
        if "attention_mask" in more and (nag or vsf):
            raise ValueError(
                "this conditioning brings an attention mask of its own, beside which NAG and VSF cannot act; use Perp-Neg"
            )
        model = executor.class_obj.diffusion_model
        kind = CrossCalls if type(model).__name__ in CROSS else JointCalls
        vsf = [dataclasses.replace(text, tokens=text.tokens[:, _words(text.entry, model)]) for text in vsf]
        calls = kind(model, x, c_crossattn, rows, self.nag, nag, self.vsf_scale, vsf, pushing)
        calls.earlier = options.get("optimized_attention_override")
        options = {**options, "optimized_attention_override": calls.attend}
        if not calls.riding:
            return executor(x, t, c_concat, calls.context, control, options, **more)
        index = [*range(len(x)), *rows * (calls.riding // len(rows))]
        wide = {name: widened(value, len(x), index) for name, value in more.items()}
        parts = [widened(value, len(x), index) for value in (x, t, c_concat)]
        answer = executor(*parts, calls.context, widened(control, len(x), index), options, **wide)
        return answer[: len(x)]

    def _text(self, text: str, entry: Entry) -> Text:
        """A negative as the guider has prepared it."""
        (cond,) = self.guiders[-1].conds[name_of(text)]
        tokens = cond["model_conds"]["c_crossattn"].cond
        mask = cond.get("attention_mask")
        if mask is not None:
            tokens = tokens[:, mask.flatten().bool().to(tokens.device)]
        return Text(entry, tokens)


def with_nag_inside(model: Any, method: NAG, entries: Sequence[Entry]) -> Any:
    """A transformer MODEL whose image tokens move away from the negatives; a neutral NAG leaves the copy as it is."""
    texts = _live(entries, "NAG") if method.scale != 1 and method.alpha != 0 else {}
    if _class(model) in CROSS and any(entry.mask is not None for entry in texts.values()):
        raise ValueError("the tokens of a video have no grid to lay a mask on; leave the mask of the negative out")
    return _with(model, "NAG", "nag_texts", {"nag": method, "nag_texts": texts} if texts else {})


def with_vsf_inside(model: Any, scale: float, entries: Sequence[Entry]) -> Any:
    """A transformer MODEL that reads the words of the negatives with their values turned round; neutral at scale 0."""
    texts = _live(entries, "VSF") if scale != 0 else {}
    for entry in texts.values():
        _words(entry, model.model.diffusion_model)
    return _with(model, "VSF", "vsf_texts", {"vsf_scale": scale, "vsf_texts": texts} if texts else {})


def with_negtome_inside(model: Any, method: NegToMe, vae: Any = None) -> Any:
    """A transformer MODEL whose tokens are pushed as `comfyui.negtome.with_negtome` says; a neutral NegToMe leaves it as it is."""
    if not Pushing.acts(method):
        return _with(model, "NegToMe", "negtome", {})
    if isinstance(method.reference, str):
        return _with(model, "NegToMe", "negtome", {"negtome": method})
    avoided = Avoided(method, vae)
    patched = _with(model, "NegToMe", "negtome", {"negtome": method, "avoided": avoided})
    patched.set_model_sampler_post_cfg_function(avoided.see)
    return patched


def _with(model: Any, name: str, field: str, parts: dict[str, Any]) -> Any:
    patched = model.clone()
    if not is_transformer(patched):
        raise ValueError(why_not(patched, name))
    if not parts:
        return patched
    held = patched.model_options.get(_KEY, InTransformer())
    if getattr(held, field):
        raise ValueError(f"this MODEL has a {name} of negguide already; use one, with all negatives in one chain")
    both = dataclasses.replace(held, **parts, guiders=[])
    patched.model_options[_KEY] = both
    for kind, wrapper in (("outer_sample", both.around_sampling), ("apply_model", both.around_model)):
        patched.remove_wrappers_with_key(kind, _KEY)
        patched.add_wrapper_with_key(kind, _KEY, wrapper)
    return patched


def _live(entries: Sequence[Entry], name: str) -> dict[str, Entry]:
    live = {stand_in(): entry for entry in entries if entry.weight and not entry.window.is_empty}
    for entry in live.values():
        if len(entry.conditioning) != 1:
            raise ValueError(
                f"a negative of {name} has {len(entry.conditioning)} combined conditionings; chain Negative nodes"
            )
    return live


def _words(entry: Entry, model: Any) -> list[int]:
    """Where the words of a negative stand in the text that the model reads."""
    kind, names = type(model).__name__, entry.words_of
    if kind == "QwenImageTransformer2DModel":
        raise ValueError("VSF cannot tell the words of a negative in Qwen-Image's text, which is a chat; use NAG")
    if kind == "OpenAISignatureMMDITWrapper" and entry.conditioning[0][0].shape[1] > CLIP_TOKENS:
        return [*(entry.words or ()), *(CLIP_TOKENS + place for place in names.get("t5xxl", ()))]
    return list(names.get("t5xxl", entry.words or ()) if kind == "Flux" else entry.words or ())


def _class(model: Any) -> str:
    return type(model.model.diffusion_model).__name__
