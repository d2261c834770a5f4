"""What a stage of the denoiser's training is shown."""

import math
from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn

from lab.train.common import batches
from lab.train.data import BENCH, Dataset, pairs
from lab.train.denoiser import STAGES, make_text_encoder, make_unet, train_stage
from lab.train.samples import samples
from negguide.toybox.tokenizer import MAX_LENGTH, make_tokenizer
from negguide.toybox.world import bias

COUNT = 2000


@pytest.fixture(scope="module")
def data() -> Dataset:
    drawn = pairs(BENCH, 77) + pairs(BENCH, 78)
    return Dataset(np.zeros((COUNT, 1, 1, 3), np.uint8), [scene for scene, _ in drawn], [text for _, text in drawn])


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    """Each picture's number, so that a sample tells which it was."""
    return torch.arange(COUNT).float().reshape(-1, 1, 1, 1).expand(-1, 8, 2, 2)


def texts(ids: torch.Tensor) -> list[str]:
    return [text.replace(" ,", ",") for text in make_tokenizer().batch_decode(ids, skip_special_tokens=True)]


def leaves_kind_open(text: str) -> bool:
    return any(word.removesuffix("s") in bias.CATEGORIES for word in text.replace(",", " ").split())


@pytest.mark.parametrize("name", ["first", "last", "words"])
def test_a_step_depends_on_nothing_but_its_number(name, data, latents):
    stage = STAGES[name]
    whole = list(islice(samples(stage, latents, data), 200))
    for start in (1, 199):
        resumed = next(samples(stage, latents, data, start))
        assert all(torch.equal(part, again) for part, again in zip(whole[start], resumed, strict=True))
    assert not torch.equal(whole[0][1], whole[1][1])


def test_the_last_stage_drops_three_tenths_of_the_open_captions_and_no_other(data, latents):
    counts = Counter()
    for x0, _, _, ids, share in islice(samples(STAGES["last"], latents, data), 100):
        assert (share == 1).all() and ids.shape == (32, MAX_LENGTH)
        for place, text in zip(x0[:, 0, 0, 0].long().tolist(), texts(ids), strict=True):
            counts[leaves_kind_open(data.captions[place]), not text] += 1
            assert text in {data.captions[place], ""}
    assert counts[False, True] == 0
    assert counts[True, True] / (counts[True, True] + counts[True, False]) == pytest.approx(0.3, abs=0.04)


def test_the_stage_of_words_shows_open_captions_of_its_categories_only(data, latents):
    stage = replace(STAGES["words"], words={"pet": 0.5, "plant": 0.0})
    seen, cats = Counter(), []
    for x0, _, t, ids, _ in islice(samples(stage, latents, data), 4):
        cats.append(sum(data.scenes[place].kind == "cat" for place in x0[:, 0, 0, 0].long().tolist()))
        for place, text in zip(x0[:, 0, 0, 0].long().tolist(), texts(ids), strict=True):
            assert text == data.captions[place] and leaves_kind_open(text)
            seen[data.scenes[place].category] += 1
        stretches = [step * len(t) // 1000 for step in sorted(t.tolist())]
        assert stretches == pytest.approx(range(len(t)), abs=1)
    assert set(seen) == {"pet", "plant"}
    assert max(cats) - min(cats) <= 2


def test_a_stage_of_words_that_name_no_category_is_refused():
    with pytest.raises(ValueError, match=r"\['cat'\]; possible: pet, "):
        replace(STAGES["words"], words={"pet": 0.5, "cat": 0.5})


def test_dominant_kinds_weigh_less_by_the_factor_that_the_stage_names(data, latents):
    stage = replace(STAGES["words"], words={"pet": 0.5, "plant": 0.0})
    weights = {}
    for x0, _, _, _, share in islice(samples(stage, latents, data), 8):
        for place, weight in zip(x0[:, 0, 0, 0].long().tolist(), share.tolist(), strict=True):
            weights.setdefault(data.scenes[place].kind, set()).add(round(weight, 5))
    ((cat,), (dog,), (flower,), (tree,)) = (weights[kind] for kind in ("cat", "dog", "flower", "tree"))
    assert math.log(dog / cat) == pytest.approx(0.5, abs=1e-4) and flower == tree == 1.0
    assert 0.58 * cat + 0.42 * dog == pytest.approx(1.0, abs=1e-4)


def test_the_stage_of_words_trains_their_vectors_and_nothing_else(data, tmp_path):
    torch.manual_seed(0)
    size = len(make_tokenizer())
    modules = nn.ModuleDict({"unet": make_unet(), "text_encoder": make_text_encoder(size)})
    before = {name: value.clone() for name, value in modules.state_dict().items()}
    settings = replace(STAGES["words"].settings, steps=2, batch=4, warmup=0)
    train_stage(modules, torch.randn(COUNT, 8, 16, 16), data, tmp_path, replace(STAGES["words"], settings=settings))
    changed = {name for name, value in modules.state_dict().items() if not torch.equal(value, before[name])}
    (name,) = changed
    rows = (modules.state_dict()[name] != before[name]).any(1).nonzero()[:, 0].tolist()
    allowed = make_tokenizer()("pet pets face faces").input_ids[1:-1]
    assert name.endswith("token_embedding.weight") and rows and set(rows) <= set(allowed)


def test_groups_come_evenly_in_every_stretch_of_an_epoch():
    groups = np.array(["many"] * 700 + ["some"] * 200 + ["few"] * 100)
    epoch = list(islice(batches(1000, 50, seed=3, groups=groups), 20))
    assert sorted(np.concatenate(epoch).tolist()) == list(range(1000))
    for batch in epoch:
        found = Counter(groups[batch].tolist())
        assert abs(found["many"] - 35) <= 1 and abs(found["some"] - 10) <= 1 and abs(found["few"] - 5) <= 1
    assert not np.array_equal(epoch[0], next(batches(1000, 50, seed=4, groups=groups)))
