"""Judge the pictures at an address by Ray Data: groups stream through actors that have loaded the judges once.

A row is what one shard begins: the groups (a method's pictures of a prompt) whose first picture lies in it. An actor brings the
shards that it needs, keeps the last few, and hands back what the judges found; pictures come to no other place. What is made of
all groups together (means, intervals, differences) is made where the command was given, as for any batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from negguide.batch.groups import Group, Judging, bundle_of
from negguide.batch.measure import NOTHING_MORE, judges_of, keep_features
from negguide.batch.more import Kept, More
from negguide.batch.on_ray import cluster
from negguide.batch.sharded.on_ray import AHEAD, BLOCKS, environment_of, quiet
from negguide.batch.sharded.store import Shards
from negguide.batch.store import Record
from negguide.experiment.files import write
from negguide.experiment.judges import Judge

SHARDS = 3
"""Shards whose pictures an actor keeps."""
FOUND = ("broken", "note", "shows_negative", "scores", "truth")
"""What judges add to a record, beside features."""


@dataclasses.dataclass(frozen=True)
class Setup:
    """What an actor needs to load the judges: a model of each bundle, and the options of `measure`."""

    url: str
    models: dict[str, str]
    clip: str | None
    names: tuple[str, ...]
    judge: str | None


class FarJudges:
    """What runs in an actor: the judges are loaded when the first row comes, and stay."""

    def __init__(self, setup: str, folder: str, environment: dict[str, str]) -> None:
        import torch

        with contextlib.suppress(OSError):  # paths are meant from where the command was given
            os.chdir(folder)
        os.environ.update(environment)
        torch.set_num_threads(1)
        settings = json.loads(setup)
        self._setup = Setup(**{**settings, "names": tuple(settings["names"])})
        more = More(names=self._setup.names, judge=self._setup.judge)
        judges, _ = judges_of(self._setup.models, self._setup.clip, more)
        self._shards = Shards(self._setup.url)
        self._folder = tempfile.TemporaryDirectory(prefix="negguide-")
        self._here: dict[str, list[Path]] = {}
        """Shard -> the pictures of it that are in the folder; the last used last."""
        self._judges, self._kept = judges, keep_features(judges)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[object]]:
        """Judge these rows; what was found on each, as JSON, and features, as safetensors."""
        from safetensors.torch import save

        lines, features = [], []
        for text in batch["groups"]:
            groups, kept = [], {}
            for place, (shards, records) in enumerate(json.loads(text)):
                self._bring(shards)
                judging = Judging(Path(self._folder.name), self._judges, self._kept)
                (group,) = judging.judged([records])
                for at, record in enumerate(records):
                    if "features" in record:
                        kept[f"{place} {at}"] = record["features"].contiguous()
                additions = [{name: record[name] for name in FOUND if name in record} for record in records]
                groups.append((None if group is None else dataclasses.asdict(group), additions, judging.skipped))
            lines.append(json.dumps({"groups": groups, "process": os.getpid()}))
            features.append(save(kept))
        return {"row": list(batch["row"]), "told": lines, "features": features}

    def _bring(self, shards: Sequence[str]) -> None:
        """Have the pictures of these shards in the folder."""
        for shard in shards:
            files = self._here.pop(shard, None)
            if files is None:
                files = []
                places = {record["key"]: record["file"] for record in self._shards.records(shard)}
                for key, data in self._shards.pictures(shard, Path(self._folder.name)):
                    if key in places:
                        files.append(write(Path(self._folder.name) / places[key], data))
            self._here[shard] = files
        for shard in list(self._here)[: -max(SHARDS, len(shards))]:
            for file in self._here.pop(shard):
                file.unlink(missing_ok=True)


class RayJudging(Judging):
    """Judges at work in the actors of a Ray cluster, on the pictures at an address.

    Args:
        root: a folder with the records, without pictures.
        judges: of each bundle; here only their names count.
        kept: the CLIP whose features are kept, as in `Judging`.
        url: the address.
        shard_of: key of a picture -> its shard.
        clip: as in `measure`, like `more`; the actors load the same.
        more: without `against`, which needs all pictures in one place.
        workers: actors at most; by default one for each processor.
        tell: called with the number of groups that were judged, and by which process.
    """

    def __init__(
        self,
        root: Path,
        judges: Mapping[str, Sequence[Judge]],
        kept: Kept | None,
        *,
        url: str,
        shard_of: Mapping[str, str],
        clip: str | None = None,
        more: More = NOTHING_MORE,
        workers: int | None = None,
        tell: Callable[[int, int], None] = lambda groups, process: None,
    ) -> None:
        super().__init__(root, judges, kept)
        self._url, self._shard_of, self._clip, self._more = url, shard_of, clip, more
        self._workers, self._told = workers, tell

    def judged(self, groups: Sequence[Sequence[Record]]) -> list[Group | None]:
        rows: dict[str, list[int]] = defaultdict(list)
        for place, records in enumerate(groups):
            rows[self._shard_of[records[0]["key"]]].append(place)
        if not rows:
            return []
        judged: list[Group | None] = [None] * len(groups)
        skipped: dict[int, list[str]] = {}
        with cluster() as ray:
            for places, report, features in self._stream(ray, list(rows.values()), groups):
                for at, (place, (group, additions, notes)) in enumerate(zip(places, report["groups"], strict=True)):
                    skipped[place] = notes
                    for number, (record, more) in enumerate(zip(groups[place], additions, strict=True)):
                        record |= more
                        if (name := f"{at} {number}") in features:
                            record["features"] = features[name]
                    if group is not None:
                        judged[place] = Group(**{**group, "seeds": tuple(group["seeds"])})
                self._told(len(places), report["process"])
        self.skipped += [note for place in sorted(skipped) for note in skipped[place]]
        return judged

    def _stream(self, ray: Any, rows: Sequence[Sequence[int]], groups: Sequence[Sequence[Record]]) -> Any:
        """Places of the groups of a row, what was found on them, and features, as rows come back."""
        from safetensors.torch import load

        quiet(ray)
        models = {bundle_of(record): record["model"] for records in groups for record in records}
        setup = Setup(self._url, models, self._clip, tuple(self._more.names), self._more.judge)
        count = min(self._workers or max(1, int(ray.cluster_resources().get("CPU", 1))), len(rows))
        items = [
            {"row": row, "groups": json.dumps([self._asked(groups[place]) for place in places])}
            for row, places in enumerate(rows)
        ]
        answers = ray.data.from_items(items, override_num_blocks=min(len(items), BLOCKS)).map_batches(
            FarJudges,
            fn_constructor_args=(json.dumps(dataclasses.asdict(setup)), str(Path.cwd()), environment_of()),
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count, max_tasks_in_flight_per_actor=AHEAD),
            batch_size=1,
            num_cpus=1,
        )
        for answer in answers.iter_rows():
            yield rows[int(answer["row"])], json.loads(answer["told"]), load(answer["features"])

    def _asked(self, records: Sequence[Record]) -> tuple[list[str], list[Record]]:
        """The shards in which a group's pictures lie, and what the judges need of its records."""
        shards = dict.fromkeys(self._shard_of[record["key"]] for record in records)
        return list(shards), [{k: v for k, v in record.items() if k not in ("features", "trace")} for record in records]
