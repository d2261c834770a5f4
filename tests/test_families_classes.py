"""Every pipeline class that diffusers exports is found by its own name, never by a mixin: its family, or a refusal."""

from __future__ import annotations

import inspect
from types import SimpleNamespace
from typing import Any

import diffusers
import pytest
from diffusers import DiffusionPipeline, FluxPipeline, StableDiffusionPipeline
from diffusers.loaders import FluxLoraLoaderMixin, StableDiffusionLoraLoaderMixin, WanLoraLoaderMixin

from negguide.engine import Unsupported, attach
from negguide.methods import PerpNeg
from negguide.pipeline.families import FAMILIES, GENERIC, check_pipeline, family_of, refusal_of, rules_of

OF_VERSION = (0, 42)
"""The diffusers whose exports are listed here in full."""
FAMILY_OF: dict[str, str] = {
    "Allegro": "Allegro",
    "AnimateDiff": (
        "AnimateDiffControlNet AnimateDiffSDXL AnimateDiffSparseControlNet AnimateDiffVideoToVideoControlNet "
        "AnimateDiffVideoToVideo AnimateDiff PIA"
    ),
    "AnyFlow": "AnyFlow",
    "AuraFlow": "AuraFlow",
    "Bria": "BriaFibo2 BriaFiboEdit BriaFibo Bria",
    "Chroma": "ChromaImg2Img ChromaInpaint Chroma",
    "CogVideoX": ("CogVideoXFunControl CogVideoXImageToVideo CogVideoX CogVideoXVideoToVideo"),
    "CogView3": "CogView3Plus",
    "CogView4": "CogView4Control CogView4",
    "Flux": (
        "FluxControlImg2Img FluxControlInpaint FluxControlNetImg2Img FluxControlNetInpaint FluxControlNet "
        "FluxControl FluxFill FluxImg2Img FluxInpaint FluxKontextInpaint FluxKontext Flux"
    ),
    "Flux.2": "Flux2KleinInpaint Flux2Klein Flux2",
    "HiDream": "HiDreamImage",
    "HunyuanDiT": "HunyuanDiTControlNet HunyuanDiT",
    "HunyuanVideo": (
        "HunyuanImage HunyuanImageRefiner HunyuanSkyreelsImageToVideo HunyuanVideo15ImageToVideo HunyuanVideo15 "
        "HunyuanVideoFramepack HunyuanVideoImageToVideo HunyuanVideo"
    ),
    "JoyImage": "JoyImageEdit JoyImageEditPlus",
    "Kandinsky 5": "Kandinsky5I2I Kandinsky5T2I Kandinsky5T2V",
    "Kolors": "KolorsImg2Img Kolors",
    "Krea 2": "Krea2",
    "Latte": "Latte",
    "LTX": "LTXCondition LTXI2VLongMultiPrompt LTX",
    "LongCat-Image": "LongCatImageEdit LongCatImage",
    "Lumina 2": "Lumina2",
    "Lumina-Next": "Lumina",
    "Mochi": "Mochi",
    "Motif-Video": "MotifVideoImage2Video MotifVideo",
    "Nucleus-Image": "NucleusMoEImage",
    "Ovis": "OvisImage",
    "PRX": "PRX PRXPixel",
    "PixArt": "PixArtAlpha PixArtSigma",
    "Qwen-Image": (
        "QwenImageControlNetInpaint QwenImageControlNet QwenImageEditInpaint QwenImageEdit QwenImageEditPlus "
        "QwenImageImg2Img QwenImageInpaint QwenImageLayered QwenImage"
    ),
    "Qwen-Image 2.1": "QwenImage21",
    "Sana": ("SanaControlNet SanaImageToVideo Sana SanaSprintImg2Img SanaSprint SanaVideo"),
    "SkyReels": "SkyReelsV2ImageToVideo SkyReelsV2",
    "Stable Diffusion 1/2": (
        "AltDiffusionImg2Img AltDiffusion StableDiffusionAdapter StableDiffusionControlNetImg2Img "
        "StableDiffusionControlNetInpaint StableDiffusionControlNet StableDiffusionControlNetXS "
        "StableDiffusionDepth2Img StableDiffusionGLIGEN StableDiffusionImg2Img StableDiffusionInpaint "
        "StableDiffusionInpaintPipelineLegacy StableDiffusionLDM3D StableDiffusionModelEditing StableDiffusion "
        "StableDiffusionUpscale"
    ),
    "Stable Diffusion 3": (
        "StableDiffusion3ControlNetInpainting StableDiffusion3ControlNet StableDiffusion3Img2Img "
        "StableDiffusion3Inpaint StableDiffusion3"
    ),
    "Stable Diffusion XL": (
        "StableDiffusionXLAdapter StableDiffusionXLControlNetImg2Img StableDiffusionXLControlNetInpaint "
        "StableDiffusionXLControlNet StableDiffusionXLControlNetUnionImg2Img "
        "StableDiffusionXLControlNetUnionInpaint StableDiffusionXLControlNetUnion StableDiffusionXLControlNetXS "
        "StableDiffusionXLImg2Img StableDiffusionXLInpaint StableDiffusionXL"
    ),
    "Wan": "LucyEdit WanAnimate WanImageToVideo Wan WanVACE WanVideoToVideo",
    "Z-Image": ("ZImageControlNetInpaint ZImageControlNet ZImageImg2Img ZImageInpaint ZImageOmni ZImage"),
    "generic": (
        "AudioLDM2 AudioLDM ChronoEdit Cosmos2_5_PredictBase Cosmos2_5_Transfer "
        "EasyAnimateControl EasyAnimateInpaint EasyAnimate ErnieImage Helios "
        "IFImg2Img IFImg2ImgSuperResolution IFInpainting IFInpaintingSuperResolution IF IFSuperResolution "
        "Kandinsky3Img2Img Kandinsky3 KandinskyImg2Img KandinskyInpaint Kandinsky LDMTextToImage "
        "LatentConsistencyModelImg2Img LatentConsistencyModel LongCatAudioDiT MusicLDM "
        "StableAudio3AudioToAudio StableAudio3Inpaint StableAudio3 StableAudio StableUnCLIPImg2Img StableUnCLIP"
    ),
}
"""Family -> class names without "Pipeline"."""
REFUSED: dict[str, str] = {
    "no denoiser": "DiffusionGemma FluxPriorRedux LLaDA2",
    "third prediction": (
        "AnimateDiffPAG HunyuanDiTPAG KolorsPAG PixArtSigmaPAG SanaPAG StableDiffusion3PAGImg2Img StableDiffusion3PAG "
        "StableDiffusionControlNetPAGInpaint StableDiffusionControlNetPAG StableDiffusionPAGImg2Img "
        "StableDiffusionPAGInpaint StableDiffusionPAG StableDiffusionXLControlNetPAGImg2Img "
        "StableDiffusionXLControlNetPAG StableDiffusionXLPAGImg2Img StableDiffusionXLPAGInpaint "
        "StableDiffusionXLPAG"
    ),
    "takes no prompt": (
        "ConsistencyModel DDIM DDPM DanceDiffusion DiT Kandinsky6SR KandinskyV22ControlnetImg2Img "
        "KandinskyV22Controlnet KandinskyV22Img2Img KandinskyV22Inpaint KandinskyV22 KarrasVe LDM "
        "LDMSuperResolution LTXLatentUpsample MarigoldDepth MarigoldIntrinsics MarigoldNormals PNDM "
        "PaintByExample RFD4Proteina RePaint ScoreSdeVe StableDiffusionImageVariation StableVideoDiffusion"
    ),
    "refused": (
        "AceStep AmusedImg2Img AmusedInpaint Amused "
        "AnyFlowFAR BlipDiffusionControlNet BlipDiffusion Cosmos2TextToImage Cosmos2VideoToWorld Cosmos3Omni "
        "CosmosTextToWorld CosmosVideoToWorld CycleDiffusion DreamLiteMobile DreamLite Flux2KleinKV GlmImage "
        "HeliosPyramid I2VGenXL Ideogram4 Kandinsky5I2V Kandinsky6TI2VA KandinskyCombined "
        "KandinskyImg2ImgCombined KandinskyInpaintCombined KandinskyPrior KandinskyV22Combined "
        "KandinskyV22Img2ImgCombined KandinskyV22InpaintCombined KandinskyV22PriorEmb2Emb KandinskyV22Prior "
        "LEditsPPPipelineStableDiffusion LEditsPPPipelineStableDiffusionXL LTX2Condition LTX2DFR "
        "LTX2DFRTemporalRefine LTX2HDR LTX2ImageToVideo LTX2InContext LTX2LatentUpsample LTX2 "
        "LTX2VideoDiffusionDecode LTXImageToVideo OmniGen SanaWMLTX2Refiner SanaWM SemanticStableDiffusion "
        "ShapEImg2Img ShapE SkyReelsV2DiffusionForcingImageToVideo SkyReelsV2DiffusionForcing "
        "SkyReelsV2DiffusionForcingVideoToVideo StableCascadeCombined StableCascadeDecoder StableCascadePrior "
        "StableDiffusionAttendAndExcite StableDiffusionDiffEdit StableDiffusionGLIGENTextImage "
        "StableDiffusionLatentUpscale StableDiffusionPanorama StableDiffusionParadigms "
        "StableDiffusionPipelineSafe StableDiffusionPix2PixZero StableDiffusionSAG TextToVideoSD TextToVideoZero "
        "TextToVideoZeroSDXL UnCLIPImageVariation UnCLIP UniDiffuser VQDiffusion VersatileDiffusionDualGuided "
        "VersatileDiffusionImageVariation VersatileDiffusion VersatileDiffusionTextToImage VideoToVideoSD "
        "VisualClozeGeneration VisualCloze WuerstchenCombined WuerstchenDecoder WuerstchenPrior"
    ),
    "three directions": "StableDiffusionInstructPix2Pix StableDiffusionXLInstructPix2Pix",
}
"""Words of the refusal ("refused": a reason of its own, by class) -> class names without "Pipeline"."""


def _exported() -> dict[str, Any]:
    """The pipeline classes of the installed diffusers that are not modular."""
    found = {}
    for name in dir(diffusers):
        cls = getattr(diffusers, name, None)
        if inspect.isclass(cls) and issubclass(cls, DiffusionPipeline) and cls is not DiffusionPipeline:
            found[name.removesuffix("Pipeline")] = cls
    return found


CLASSES = _exported()


def _listed(table: dict[str, str]) -> list[tuple[str, str]]:
    pairs = [(name, entry) for entry, several in table.items() for name in several.split()]
    return [(name, entry) for name, entry in pairs if name in CLASSES]


def _empty(cls: Any) -> Any:
    """A pipeline of a class with stand-ins for the components that its class declares."""
    declared = inspect.signature(cls.__init__).parameters
    parts = {name: object() for name in declared if name not in ("self", "scheduler", "guider", "ocr_guider")}
    return SimpleNamespace(**parts, scheduler=SimpleNamespace(step=print))


def test_every_class_is_listed_once() -> None:
    names = [name for table in (FAMILY_OF, REFUSED) for several in table.values() for name in several.split()]
    assert len(names) == len(set(names))
    if tuple(map(int, diffusers.__version__.split(".")[:2])) == OF_VERSION:
        assert set(CLASSES) == set(names)


@pytest.mark.parametrize(("name", "family"), _listed(FAMILY_OF))
def test_family(name: str, family: str) -> None:
    cls = CLASSES[name]
    assert family_of(cls).name == family and refusal_of(cls) is None
    check_pipeline(_empty(cls), cls, inspect.signature(cls.__call__).parameters)


@pytest.mark.parametrize(("name", "words"), _listed(REFUSED))
def test_refused_with_a_reason(name: str, words: str) -> None:
    cls = CLASSES[name]
    reason = refusal_of(cls)
    assert (reason is not None) == (words == "refused")
    with pytest.raises(Unsupported, match=rf"{cls.__name__} is not supported: .*") as raised:
        check_pipeline(_empty(cls), cls, inspect.signature(cls.__call__).parameters)
    assert (reason or words) in str(raised.value)


def test_mixins_do_not_count() -> None:
    class Own(DiffusionPipeline, FluxLoraLoaderMixin, StableDiffusionLoraLoaderMixin, WanLoraLoaderMixin):
        pass

    assert family_of(Own) is GENERIC and family_of(int) is GENERIC


@pytest.mark.parametrize("name", ["WanderPipeline", "AnimateDiffPipeline", "Stylist"])
def test_a_class_of_ones_own_is_of_the_family_that_it_is_made_from(name: str) -> None:
    own = type(name, (FluxPipeline,), {"__module__": "somewhere"})
    assert family_of(own).name == "Flux" and refusal_of(own) is None
    assert family_of(type(name, (own,), {"__module__": "elsewhere"})).name == "Flux"
    assert family_of(type(name, (StableDiffusionPipeline,), {"__module__": "somewhere"})).name == "Stable Diffusion 1/2"


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("FluxWithCFGPipeline", "Flux"),
        ("Flux", "Flux"),
        ("FluxionPipeline", "generic"),
        ("Flux9Pipeline", "generic"),
        ("StableDiffusionXLPromptPipeline", "Stable Diffusion XL"),
        ("StableDiffusionLongPromptPipeline", "Stable Diffusion 1/2"),
        ("StableDiffusion7Pipeline", "generic"),
    ],
)
def test_a_community_class_is_known_by_whole_words_of_its_name(name: str, family: str) -> None:
    assert family_of(type(name, (DiffusionPipeline,), {"__module__": "diffusers_modules.local"})).name == family


def test_attach_refuses_and_leaves_the_pipeline_alone() -> None:
    import families

    sd = families.build("sd15")
    cascade = diffusers.StableCascadePriorPipeline(None, None, None, sd.scheduler)
    with pytest.raises(Unsupported, match="prior"):
        attach(cascade, PerpNeg("cat"))
    assert type(cascade) is diffusers.StableCascadePriorPipeline


def test_names_are_unique_and_rules_name_real_denoisers() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    is_newest = tuple(map(int, diffusers.__version__.split(".")[:2])) >= OF_VERSION
    for family in FAMILIES:
        for rule in family.layers:
            known = [name for name in rule.denoisers if hasattr(diffusers, name)]
            assert known or not is_newest, f"{family.name}: none of {rule.denoisers} is a class of diffusers"
            assert all(rule in rules_of(name) for name in known)
