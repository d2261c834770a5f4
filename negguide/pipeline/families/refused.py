"""Pipelines of diffusers whose guidance cannot be entered, with the reasons."""

from negguide.pipeline.families.family import Family

_FRAMES_APART = "its scheduler gets the frames of the video one by one, not the video"
_THREE_WAYS = "it guides in three directions at once"
_EDITS = "it guides in a direction of its own for each edit"
_TWO_PARTS = "it is a prior and a decoder in one call, each with a guidance of its own"
_PRIOR = (
    "it predicts an image embedding and not a picture, in a component called `prior`; "
    "a pipeline that draws from its embeddings can be attached instead"
)
_SIDE_PASSES = "it evaluates its denoiser at other latents within a step, and uses the result"
_CODES = "it predicts probabilities of discrete codes, not noise"
_AUDIO_TOO = "it predicts video and audio together"
_CASCADE = "its denoisers, `prior` and `decoder`, hold the text in two stages whose rows are not known"
_PRECONDITIONED = "it mixes its predictions with the noisy latents before its scheduler gets them"
_OTHER_NETWORK = "its unconditional prediction comes from another network than the conditional one"

FAMILY = Family(
    "refused",
    (),
    refused_pipelines={
        "AceStep": "it guides by projection with a memory over the steps, not by one fixed combination of two predictions",
        "Amused": _CODES,
        "AnyFlowFAR": "it denoises the video in pieces that attend to each other through a cache of their rows",
        "BlipDiffusion": "its text is read together with a picture of the subject, and its negative has another name",
        "Cosmos2TextToImage": _PRECONDITIONED,
        "Cosmos2VideoToWorld": _PRECONDITIONED,
        "Cosmos3Omni": f"{_AUDIO_TOO}, and actions",
        "CosmosTextToWorld": _PRECONDITIONED,
        "CosmosVideoToWorld": _PRECONDITIONED,
        "CycleDiffusion": "it denoises a source picture beside the wanted one",
        "DreamLite": _THREE_WAYS,
        "GlmImage": "its denoiser reads the prompt from a cache that is filled before the first step",
        "HeliosPyramid": "it samples at several sizes, one after the other",
        "I2VGenXL": _FRAMES_APART,
        "Ideogram4": _OTHER_NETWORK,
        "Kandinsky6TI2VA": _AUDIO_TOO,
        "KandinskyCombined": _TWO_PARTS,
        "KandinskyImg2ImgCombined": _TWO_PARTS,
        "KandinskyInpaintCombined": _TWO_PARTS,
        "KandinskyPrior": _PRIOR,
        "KandinskyV22Combined": _TWO_PARTS,
        "KandinskyV22Img2ImgCombined": _TWO_PARTS,
        "KandinskyV22InpaintCombined": _TWO_PARTS,
        "KandinskyV22Prior": _PRIOR,
        "LEditsPP": _EDITS,
        "LTX2": f"{_AUDIO_TOO}, with extra perturbed passes",
        "LTXImageToVideo": "its scheduler gets the video without its first frame; LTXConditionPipeline takes a picture too",
        "OmniGen": _THREE_WAYS,
        "SanaWM": "its scheduler gets the prediction with other axes, and a time for each token",
        "SanaWMLTX2": "it refines a video block by block through a cache",
        "SemanticStableDiffusion": _EDITS,
        "ShapE": _PRIOR,
        "SkyReelsV2DiffusionForcing": "every frame has a scheduler of its own, so there is no step of the whole video",
        "StableCascade": _CASCADE,
        "StableDiffusionAttendAndExcite": _SIDE_PASSES,
        "StableDiffusionDiffEdit": _SIDE_PASSES,
        "StableDiffusionGLIGENTextImage": _SIDE_PASSES,
        "StableDiffusionLatentUpscale": _PRECONDITIONED,
        "StableDiffusionPanorama": "it denoises overlapping views, with several scheduler steps at each time",
        "StableDiffusionParadigms": "it takes several steps at once, outside its scheduler's step",
        "StableDiffusionPipelineSafe": "it adds a safety direction of its own to the guidance",
        "StableDiffusionPix2PixZero": _SIDE_PASSES,
        "StableDiffusionSAG": _SIDE_PASSES,
        "TextToVideoSD": _FRAMES_APART,
        "TextToVideoZero": "it denoises the first frame and then warps and denoises all frames, in several runs",
        "UnCLIP": _TWO_PARTS,
        "UniDiffuser": "it denoises picture and text together",
        "VQDiffusion": _CODES,
        "VersatileDiffusion": "its denoiser is made of two, for text and for pictures",
        "VideoToVideoSD": _FRAMES_APART,
        "VisualCloze": "it takes task_prompt and content_prompt, for a grid of example pictures, and no negative one",
        "Wuerstchen": _CASCADE,
    },
)
