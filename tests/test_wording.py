"""What messages say of what is near, and of errors; what holds for a model where nobody says otherwise."""

from __future__ import annotations

import pytest

from negguide.experiment.defaults import ModelDefaults, defaults_of
from negguide.names import find_bundle
from negguide.wording import did_you_mean, first_line, in_one_line


def test_what_is_near_is_named() -> None:
    assert did_you_mean("perpneg", ("nag", "perp_neg"), ";") == "; did you mean 'perp_neg'?"
    assert did_you_mean("xyz", ("nag", "perp_neg"), ";") == ";"
    assert did_you_mean("xyz", ("nag",)) == ""


@pytest.mark.parametrize(
    ("error", "first", "whole"),
    [
        (ValueError("\n  no such\n thing "), "no such", "ValueError: no such thing"),
        (KeyError(), "KeyError", "KeyError: "),
        (OSError("  "), "OSError", "OSError: "),
    ],
)
def test_errors_in_a_line(error: Exception, first: str, whole: str) -> None:
    assert (first_line(error), in_one_line(error)) == (first, whole)


def test_what_a_model_is_used_with() -> None:
    bundle = find_bundle("toybox")
    assert bundle is not None
    for pipeline, sampling in bundle.pipelines.items():
        defaults = defaults_of(bundle.model_name(pipeline))
        assert (defaults.steps, defaults.guidance_scale) == (sampling.steps, sampling.guidance_scale)
        assert (defaults.batch, defaults.watcher) == (8, "toybox")
    assert defaults_of("some/model") == ModelDefaults(25, None, 1, None)
