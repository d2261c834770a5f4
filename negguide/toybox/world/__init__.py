"""The Toybox world: scenes, their biases, their pictures and their captions."""

from negguide.toybox.world.bias import CATEGORIES, KINDS
from negguide.toybox.world.captions import caption, full_caption, prompt, vocabulary, words
from negguide.toybox.world.render import render
from negguide.toybox.world.sample import sample, sample_scene
from negguide.toybox.world.scene import Scene
from negguide.toybox.world.sheet import contact_sheet

__all__ = [
    "CATEGORIES",
    "KINDS",
    "Scene",
    "caption",
    "contact_sheet",
    "full_caption",
    "prompt",
    "render",
    "sample",
    "sample_scene",
    "vocabulary",
    "words",
]
