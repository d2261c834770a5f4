"""NegToMe's tokens: pictures of a batch, and pictures to keep away from, which ride along in the calls of the model."""

from __future__ import annotations

import dataclasses
import functools
import logging
import types
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from negguide import maths
from negguide.methods.bank import Bank
from negguide.methods.base import Step, Window
from negguide.methods.mask import Mask
from negguide.methods.negtome import NegToMe
from negguide.methods.reference_pictures import ReferencePictures

from .blocks import RIDING
from .latents import latents_of, pictures_of
from .steps import step_at

if TYPE_CHECKING:
    from torch import Tensor

Grid = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Riding:
    """Pictures behind the rows of each branch: those of `groups[0]`, of `groups[1]`, ..., `rows` of them in all."""

    rows: int
    groups: Sequence[Sequence[int]]
    """Pictures of the batch that keep away from the same ones."""
    pictures: ReferencePictures


@dataclasses.dataclass(frozen=True)
class Pushing:
    """NegToMe at a step: each of `branches` parts of the rows pushes its own tokens."""

    method: NegToMe
    branches: int
    riding: Riding | None

    @staticmethod
    def acts(method: NegToMe | None, step: Step | None = None) -> bool:
        """Whether these settings do anything at a step, or at any."""
        if method is None or method.alpha == 0 or method.threshold is None or method.threshold >= 1:
            return False
        window = method.window
        return isinstance(window, Window) and (not window.is_empty if step is None else window.is_open(step))

    @classmethod
    def at(
        cls, method: NegToMe | None, step: Step, rows: int, options: dict[str, Any], told: list[bool] | None = None
    ) -> Pushing | None:
        """What acts at this step in a call of that many rows, None for nothing; a single picture is told, once a list `told`."""
        if method is None or not cls.acts(method, step):
            return None
        riding, branches = options.get(RIDING), len(options["cond_or_uncond"])
        if not isinstance(method.reference, str):
            return None if riding is None else cls(method, branches, riding)
        if rows // branches - (riding.rows if riding else 0) == 1:
            if step.index == 0 and not told:
                logging.warning("negguide: NegToMe has no effect on a single picture; raise batch_size")
                (told if told is not None else []).append(True)
            return None
        return cls(method, branches, riding)

    def push(self, tokens: Tensor, grid: Grid | Callable[[], Grid]) -> Tensor:
        """Tokens (B, N, C) of all branches, moved; `grid`: height and width of N, asked for where there is a mask."""
        result = tokens.clone()
        shape = functools.cache(lambda: grid() if callable(grid) else grid)
        for before, after in zip(tokens.chunk(self.branches), result.chunk(self.branches), strict=True):
            self._push(before, after, shape)
        return result

    def _push(self, before: Tensor, after: Tensor, grid: Callable[[], Grid]) -> None:
        method = self.method
        assert method.alpha is not None and method.threshold is not None
        settings = (method.alpha, method.threshold, method.match)
        region = None
        if method.mask is not None:
            region = _flat(method.mask, _checked(grid(), before)).to(before.device)
        own = len(before) - (self.riding.rows if self.riding else 0)
        if method.reference == "all":
            maths.push_apart(before[:own], *settings, region, out=after[:own])
        elif method.reference == "first":
            maths.push_from(before[1:own], before[0], *settings, region, out=after[1:own])
        elif self.riding is not None:
            groups, pictures = self.riding.groups, self.riding.pictures
            masked = isinstance(method.reference, tuple) and any(avoid.mask is not None for avoid in method.reference)
            height_width: Any = _checked(grid(), before) if masked else None
            for group, seen in zip(groups, before[own:].chunk(len(groups)), strict=True):
                rows = slice(group[0], group[-1] + 1)
                avoided = pictures.tokens(seen, height_width)
                maths.push_from(before[rows], avoided, *settings, region, out=after[rows])


class Avoided:
    """Pictures that a NegToMe keeps away from: `around_sampling` begins a run of them, `around_model` lets them ride along."""

    def __init__(self, method: NegToMe, vae: Any) -> None:
        self.method, self.vae = method, vae
        self._pictures: ReferencePictures | None = None
        self._patcher: Any = None
        self._at: tuple[int, float] | None = None
        self._latents: Tensor | None = None

    def __deepcopy__(self, memo: Any) -> Avoided:
        return self  # ComfyUI copies what a MODEL holds; a run has one state

    def around_sampling(self, executor: Any, *args: Any, **more: Any) -> Any:
        """Wrapper of ComfyUI's outer_sample."""
        self._pictures = ReferencePictures(self.method.reference, self.method.noise, self.method.seed)
        self._patcher, self._at, self._latents = executor.class_obj.model_patcher, None, None
        try:
            return executor(*args, **more)
        finally:
            self._pictures = self._patcher = self._latents = None

    def see(self, args: dict[str, Any]) -> Tensor:
        """Function after guidance: the clean estimate by which a bank picks; goes on as it is."""
        denoised: Tensor = args["denoised"]
        if self._pictures is not None:
            self._pictures.x0 = denoised
        return denoised

    def around_model(
        self,
        executor: Any,
        x: Tensor,
        t: Tensor,
        c_concat: Tensor | None = None,
        c_crossattn: Tensor | None = None,
        control: Any = None,
        transformer_options: Any = None,
        model: Any = None,
        **more: Any,
    ) -> Any:
        """Wrapper of ComfyUI's apply_model: the pictures, as noisy as the rest, behind the rows of each branch, with its text."""
        import torch

        options = transformer_options or {}
        model = executor.class_obj if model is None else model
        step = step_at(x, options["sigmas"], options, getattr(model, "model_sampling", None))
        branches = len(options["cond_or_uncond"])
        count = len(x) // branches
        each = isinstance(self.method.reference, Bank)
        groups = [(row,) for row in range(count)] if each else [tuple(range(count))]
        latents = self._noisy(step, model, groups)
        if latents is None:
            return executor(x, t, c_concat, c_crossattn, control, options, **more)
        riding = latents.flatten(0, 1)
        index = []
        for begin in range(0, len(x), count):
            index += [*range(begin, begin + count), *(begin + group[0] for group in groups for _ in latents[0])]
        wide = {name: widened(value, len(x), index) for name, value in more.items()}
        parts = [widened(value, len(x), index) for value in (x, t, c_concat, c_crossattn, control)]
        for part in parts[0].chunk(branches):
            part[count:] = riding
        assert self._pictures is not None
        options = {**options, RIDING: Riding(len(riding), groups, self._pictures)}
        answer = executor(*parts, options, **wide)
        return torch.cat([part[:count] for part in answer.chunk(branches)])

    def _noisy(self, step: Step, model: Any, groups: Sequence[Sequence[int]]) -> Tensor | None:
        """Noisy latents (P, R, ...) for each group; the same in all calls of a step."""
        window = self.method.window
        if self._pictures is None or not isinstance(window, Window) or not window.is_open(step):
            return None
        if self._at != (step.index, step.sigma):
            clean = 1 - step.sigma if step.prediction_type.startswith("flow") else 1.0
            context: Any = types.SimpleNamespace(
                groups=groups,
                encode=lambda pictures: latents_of(model, self._patcher, self.vae, pictures, step.sample),
                decode=lambda latents: pictures_of(model, self._patcher, self.vae, latents),
                noised=lambda latents, noise: clean * latents + step.sigma * noise,
            )
            self._latents = self._pictures.latents(step, context)
            self._at = (step.index, step.sigma)
        return self._latents


def widened(value: Any, count: int, index: Sequence[int]) -> Any:
    """Tensors of `count` rows -> their rows `index`; in lists and dicts too; all else as it is."""
    import torch

    if isinstance(value, torch.Tensor) and value.ndim and len(value) == count:
        return value[list(index)]
    if isinstance(value, list):
        return [widened(item, count, index) for item in value]
    if isinstance(value, dict):
        return {key: widened(item, count, index) for key, item in value.items()}
    return value


@functools.lru_cache(64)
def _flat(mask: Mask, grid: Grid) -> Tensor:
    return mask.tensor(*grid).flatten()


def _checked(grid: Grid, tokens: Tensor) -> Grid:
    if grid[0] * grid[1] != tokens.shape[1]:
        raise ValueError("the tokens of a video have no grid to lay a mask on; leave NegToMe's masks out")
    return grid
