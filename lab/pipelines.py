"""The custom pipelines in `pipelines/`, made from one template: `python -m lab.pipelines` writes them.

Each folder is what `DiffusionPipeline.from_pretrained(model, custom_pipeline=FOLDER, trust_remote_code=True)` takes, and as it
stands a repository of the Hub.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "pipelines"

PIPELINES = {
    "sd": ("StableDiffusionPipeline", "stable-diffusion-v1-5/stable-diffusion-v1-5", '"a portrait of a person"'),
    "sd_img2img": (
        "StableDiffusionImg2ImgPipeline",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        '"a portrait of a person", image=photo',
    ),
    "sdxl": ("StableDiffusionXLPipeline", "stabilityai/stable-diffusion-xl-base-1.0", '"a portrait of a person"'),
    "sdxl_img2img": (
        "StableDiffusionXLImg2ImgPipeline",
        "stabilityai/stable-diffusion-xl-base-1.0",
        '"a portrait of a person", image=photo',
    ),
    "sdxl_inpaint": (
        "StableDiffusionXLInpaintPipeline",
        "stabilityai/stable-diffusion-xl-base-1.0",
        '"a portrait of a person", image=photo, mask_image=mask',
    ),
    "sd3": ("StableDiffusion3Pipeline", "stabilityai/stable-diffusion-3.5-medium", '"a portrait of a person"'),
    "flux": ("FluxPipeline", "black-forest-labs/FLUX.1-schnell", '"a portrait of a person"'),
    "flux2": ("Flux2KleinPipeline", "black-forest-labs/FLUX.2-klein-4B", 'prompt="a portrait of a person"'),
    "qwenimage": ("QwenImagePipeline", "Qwen/Qwen-Image", '"a portrait of a person"'),
    "zimage": ("ZImagePipeline", "Tongyi-MAI/Z-Image-Turbo", '"a portrait of a person"'),
    "wan": ("WanPipeline", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", '"a street in the rain"'),
}
"""Folder (after `negguide_`) -> class of diffusers, a model of it, arguments of a call."""

NAG_FIRST = ("flux", "flux2", "zimage")
"""Folders of models that are mostly used without guidance: their example takes NAG."""

_CODE = '''"""{cls} whose call takes negatives: a custom pipeline, thin over `negguide.attach`.

pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline="pipelines/negguide_{name}", trust_remote_code=True)
pipe({call}, negatives=["glasses", ("hat", 1.5)]{method})
"""

from diffusers import {cls}

from negguide.custom import takes_negatives


@takes_negatives
class Negguide{cls}({cls}):
    """Its call also takes `negatives`, `method` and a method's options; without them it is the stock pipeline."""
'''

_README = """# negguide_{name}: {cls} that takes negatives

```python
from diffusers import DiffusionPipeline

model, folder = "{model}", "pipelines/negguide_{name}"
pipe = DiffusionPipeline.from_pretrained(model, custom_pipeline=folder, trust_remote_code=True)
images = pipe({call}, negatives=["glasses", ("hat", 1.5)]{method})
```

The same pixels as with `negguide.attach`; `method` is a name from `negguide methods` (perp_neg if you name none) with its
options beside it, or a list of negguide methods. Without `negatives` it is the stock `{cls}`. negguide must be installed.
"""


def contents(name: str) -> dict[str, str]:
    """File name -> text of a folder."""
    cls, model, call = PIPELINES[name]
    method = ', method="nag"' if name in NAG_FIRST else ""
    words = {"name": name, "cls": cls, "model": model, "call": call, "method": method}
    return {"pipeline.py": _CODE.format(**words), "README.md": _README.format(**words)}


def overview() -> str:
    """The page of the folder as a whole."""
    lines = [
        "# Custom pipelines",
        "",
        "Folders for `DiffusionPipeline.from_pretrained(model, custom_pipeline=FOLDER, trust_remote_code=True)`: the call then",
        "also takes `negatives`, `method` and a method's options. Each is a repository of the Hub as it stands, made by",
        "`python -m lab.pipelines`.",
        "Any other class: `negguide.custom.with_negatives(pipe)`. For modular pipelines, written by hand:",
        "[`modular_sdxl`](modular_sdxl/README.md).",
        "",
        "| folder | class of diffusers |",
        "|---|---|",
    ]
    return (
        "\n".join(
            [*lines, *(f"| [`negguide_{n}`](negguide_{n}/README.md) | `{c}` |" for n, (c, *_) in PIPELINES.items())]
        )
        + "\n"
    )


def files() -> dict[Path, str]:
    """Every file that there should be, with its text."""
    made = {FOLDER / f"negguide_{name}" / file: text for name in PIPELINES for file, text in contents(name).items()}
    return {FOLDER / "README.md": overview(), **made}


if __name__ == "__main__":
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(FOLDER.parent))
