"""What pipelines do to a guided prediction: against plain loops."""

from __future__ import annotations

import pytest
import torch

from negguide.pipeline.own_rescale import norm_between, norm_of_channels, norm_of_cond, of_first_channels

GUIDED, COND = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("least", [0.0, 0.9])
def test_norm_between_shortens_each_token(least: float) -> None:
    guided = GUIDED * torch.linspace(0.3, 3.0, 5).view(1, 5, 1)
    found = norm_between(guided, COND, {"enable_cfg_renorm": True, "cfg_renorm_min": least})
    for row in range(2):
        for token in range(5):
            lengths = [float((x[row, token] ** 2).sum() ** 0.5) for x in (COND, guided)]
            factor = min(1.0, max(least, lengths[0] / lengths[1]))
            assert torch.allclose(found[row, token], guided[row, token] * factor, atol=1e-6)
    assert not torch.equal(found, guided)


def test_norm_between_is_off_where_the_pipeline_has_no_such_argument() -> None:
    assert norm_between(GUIDED, COND, {}) is GUIDED
    assert norm_between(GUIDED, COND, {"enable_cfg_renorm": False}) is GUIDED


def test_of_first_channels_leaves_the_others_unguided() -> None:
    found = of_first_channels(GUIDED, COND, {})
    assert torch.equal(found[:, :3], GUIDED[:, :3]) and torch.equal(found[:, 3:], COND[:, 3:])


def test_norm_of_channels_is_the_conditionals_at_each_place() -> None:
    guided, cond = torch.randn(2, 1, 2, 3, 4, generator=torch.Generator().manual_seed(1)).double()
    found = norm_of_channels(guided, cond, {})
    for picture in range(2):
        for place in range(4):
            lengths = [float((x[0, picture, :, place] ** 2).sum() ** 0.5) for x in (found, cond)]
            assert lengths[0] == pytest.approx(lengths[1])


@pytest.mark.parametrize(
    ("arguments", "acts"),
    [
        ({}, True),
        ({"cfg_normalization": False}, False),
        ({"cfg_normalize": False}, False),
        ({"cfg_normalize": True}, True),
    ],
)
def test_norm_of_cond_goes_by_the_argument_that_the_pipeline_has(arguments: dict[str, bool], acts: bool) -> None:
    found = norm_of_cond(GUIDED, COND, arguments)
    lengths = (found**2).sum(-1).sqrt()
    assert torch.allclose(lengths, ((COND if acts else GUIDED) ** 2).sum(-1).sqrt())
