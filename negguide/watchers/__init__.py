"""Who watches a picture while it forms: watchers answer questions about it, their answers become words.

Nothing here knows of pipelines or methods. Models are loaded at the first question; importing costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from negguide.watchers.protocol import Answer, Question, Watcher
from negguide.watchers.registry import as_watcher, register_watcher

if TYPE_CHECKING:
    from negguide.watchers.chat import ImageTextToText
    from negguide.watchers.vqa import VisualQuestionAnswering
    from negguide.watchers.zero_shot import ZeroShot

__all__ = [
    "Answer",
    "ImageTextToText",
    "Question",
    "VisualQuestionAnswering",
    "Watcher",
    "ZeroShot",
    "as_watcher",
    "register_watcher",
]

_HOMES = {"ImageTextToText": "chat", "VisualQuestionAnswering": "vqa", "ZeroShot": "zero_shot"}


def __getattr__(name: str) -> Any:
    """Watchers are imported when they are first named."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"negguide.watchers.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
