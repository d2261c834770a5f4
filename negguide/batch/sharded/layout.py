"""Which pictures of a plan lie in which shard, without making a list of all of them.

A shard is a run of consecutive units of one model. Its name tells its place and hashes everything that determines its pictures,
so that a plan and a list of names say what is done.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping

from negguide.batch.plan import Plan
from negguide.batch.units import Machine, ModelUnits, Unit, hash_of, methods_of


@dataclasses.dataclass(frozen=True)
class Shard:
    """The units from `start` to before `stop` of the plan's `model`-th model."""

    name: str
    model: int
    start: int
    stop: int
    pictures: int


class Layout:
    """The shards of a plan on a kind of machine. `content`: what a model is, in place of `fingerprint`."""

    def __init__(self, plan: Plan, machine: Machine, content: Callable[[str], str] | None = None) -> None:
        self.plan = plan
        self._models = [ModelUnits(plan, model, machine, content) for model in plan.models]
        self.shards = [shard for place in range(len(self._models)) for shard in self._shards(place)]
        self.pictures = sum(shard.pictures for shard in self.shards)

    def units(self, shard: Shard) -> Iterator[Unit]:
        """The units of a shard, each made when it is its turn."""
        return self._models[shard.model].between(shard.start, shard.stop)

    def _shards(self, place: int) -> Iterator[Shard]:
        model_units = self._models[place]
        common = _common(model_units)
        size = max(1, self.plan.shard // max(map(len, model_units.groups)))
        before = list(itertools.accumulate(map(len, model_units.groups), initial=0))

        def pictures(units: int) -> int:
            rounds, rest = divmod(units, len(model_units.groups))
            return rounds * before[-1] + before[rest]

        for number, start in enumerate(range(0, len(model_units), size)):
            stop = min(start + size, len(model_units))
            first, last = start // model_units.per_prompt, (stop - 1) // model_units.per_prompt
            prompts = [(prompt.prompt, prompt.negatives) for prompt in self.plan.prompts[first : last + 1]]
            digest = hash_of([common, start % model_units.per_prompt, stop - start, prompts])[:16]
            yield Shard(f"{place:02d}-{number:06d}-{digest}", place, start, stop, pictures(stop) - pictures(start))


def _common(model_units: ModelUnits) -> Mapping[str, object]:
    """What determines the pictures of a model's units beside their prompts; pictures named in methods with their content."""
    first = next(model_units.between(0, 1)).task
    return {
        **model_units.about(),
        "settings": [dataclasses.asdict(settings) for settings in model_units.settings],
        "methods": model_units.plan.model_dump(mode="json", include={"methods"}),
        "contents": [methods_of(variant, first) for variant in model_units.variants],
        "negatives": model_units.plan.negatives,
        "groups": model_units.groups,
    }
