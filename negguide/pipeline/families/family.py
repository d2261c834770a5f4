"""The facts of a model family: which pipelines and denoisers are its own, how it guides, where its image tokens stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from negguide.pipeline.argument_tree import RowLayout
from negguide.pipeline.own_rescale import Post, rescale

if TYPE_CHECKING:
    from negguide.methods.tokens import Kind

Place = Literal["all", "first", "last", "behind"]
"""Where image tokens are in an output tensor (of a pair (image, text): in its first). "behind": of each row behind the words of
its own text, as many as `encoder_attention_mask` says."""


Side = Literal["first", "last"]
"""Where the image's tokens stand beside those of the text."""


class Unsupported(ValueError):
    """A pipeline, or a feature in use, that negguide cannot guide; says why and what is supported."""


@dataclass(frozen=True)
class Rule:
    """Attention layers: of the denoiser classes named (or begun, see `Family`) by `denoisers`, modules whose path fits."""

    denoisers: tuple[str, ...]
    pattern: str
    kind: Kind
    place: Place = "all"
    values: Place = "all"
    """Where image tokens are in what `to_v` makes, if it serves the text, too; "all": the text has a projection of its own."""
    projects: bool = True
    """Whether the layer calls its output projection itself."""
    text_path: tuple[str, ...] | None = None
    """Of cross layers: modules of the denoiser through which the text goes before it comes to them; None: not known."""


@dataclass(frozen=True)
class ImageModules:
    """Modules that need not compute the image of a companion again, which is the prompt's: of the denoiser classes `denoisers`.

    Patterns of paths, of modules that work row by row.
    """

    denoisers: tuple[str, ...]
    alone: str
    """They see image tokens alone. What they give depends on no text, but for pooled text vectors in the modulation of norms."""
    side: Side
    """Where image tokens stand in joint attention, whose projections of them are among these modules."""
    stream: str = ""
    """They see text and image in one stream, and treat each token by itself. Image tokens are the prompt's there too if a
    companion has its pooled vector."""
    unread: str = ""
    """They stand behind the last attention that is known here, so that nobody reads what companions become. `{last}`: the number
    of the last single block."""


@dataclass(frozen=True)
class Family:
    """Facts of one family; a file of this folder holds it as `FAMILY`.

    `pipelines` are class names, or beginnings of class names that end where a new word does: "Flux" stands for
    FluxPipeline and FluxImg2ImgPipeline, not for Flux2Pipeline. The longest that fits wins, over all families.
    """

    name: str
    pipelines: tuple[str, ...]
    denoisers: tuple[str, ...] = ("unet", "transformer", "transformer_2")
    """Components that predict; those that a pipeline lacks do not matter."""
    cond_first: bool = False
    """Batched guidance stacks [conditional; unconditional] instead of [unconditional; conditional]."""
    rows: RowLayout = field(default_factory=RowLayout)
    """Where the denoiser's arguments hold a row per image."""
    live_scale: bool = False
    """The pipeline reads its `guidance_scale` property anew at each step, so that callbacks may change it."""
    scale_2: str = ""
    """Argument with the scale of `transformer_2` (None there: the same as for `transformer`)."""
    cfg_off: Mapping[str, Any] = field(default_factory=lambda: {"guidance_scale": 1.0})
    """Arguments that switch the pipeline's own guidance off."""
    post: Post = rescale
    """What the pipeline does to the guided prediction after its affine formula."""
    refused: Mapping[str, Callable[[Any], bool]] = field(default_factory=dict)
    """Arguments whose value (predicate) makes the pipeline's guidance something else than one affine formula."""
    refused_pipelines: Mapping[str, str] = field(default_factory=dict)
    """Names as in `pipelines` of those that cannot be guided, with the reason."""
    frames_axis: int = 2
    """Dimension of the frames in samples of five."""
    channels_last: bool = False
    """Samples are (B, F, H, W, C)."""
    layers: tuple[Rule, ...] = ()
    """Attention layers over image tokens."""
    fixed_text: Callable[[Mapping[str, Any]], bool] = lambda config: False
    """Whether a denoiser of this configuration takes a fixed number of text tokens, so that none can be appended."""
    image_modules: ImageModules | None = None
    """Modules that compute the image rows of a companion no second time."""
    defaults: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Options of methods that differ in this family, by the method's name."""
    taken_over: bool = False
    """It has no guidance of its own to enter, so that it is guided by takeover only."""


def names(prefix: str, name: str) -> bool:
    """Whether `prefix` is the name of a class or its beginning up to a new word."""
    rest = name[len(prefix) :]
    return name.startswith(prefix) and (not rest or not (rest[0].islower() or rest[0].isdigit()))
