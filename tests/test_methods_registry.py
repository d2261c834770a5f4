"""Negatives as people write them, methods by name, and their JSON form."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest
import torch

from negguide import methods
from negguide.methods import (
    APG,
    METHODS,
    CFGZeroStar,
    ContrastiveNegative,
    DynamicNegative,
    Interval,
    Mask,
    Method,
    Negative,
    NegativePrompt,
    PerpNeg,
    Positive,
    Rescale,
    Window,
    from_dict,
    from_json,
    get_method,
    register,
    to_dict,
    to_json,
)

MASK = Mask(torch.linspace(0, 1, 12).view(3, 4))
NEGATIVES = [
    "hat",
    Negative("glasses", 0.8, Window(0, 0.4)),
    Negative(("a", ""), 1.5, Window(14.6, 1, "sigma"), MASK),
]
CONFIGS: list[Method] = [
    NegativePrompt("hat"),
    NegativePrompt(NEGATIVES, mode="signed", scale=5, unconditional="own"),
    PerpNeg(NEGATIVES, positives=[("sun", 0.5)], unconditional=("a", "b")),
    ContrastiveNegative(NEGATIVES, tau=0.5, boost_positive=True),
    DynamicNegative(NEGATIVES, prior=0.1, scale=2.0),
    APG(0.5, 15, -0.75),
    CFGZeroStar(False, 3),
    Rescale(0.5),
    Interval(Window(5.42, 0.28, "sigma")),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_json_round_trip(config: Method) -> None:
    text = to_json(config, indent=2)
    again = from_json(text)
    assert again == config
    assert type(again) is type(config)
    assert hash(again) == hash(config)
    assert from_dict(to_dict(config)) == config
    assert json.loads(text)["method"] == config.name
    assert json.loads(json.dumps(to_dict(config))) == to_dict(config)
    assert pickle.loads(pickle.dumps(config)) == copy.deepcopy(config) == config


def test_every_spelling_of_a_negative() -> None:
    wanted = (Negative("hat", 0.8),)
    spellings: list[Any] = [
        ("hat", 0.8),
        [("hat", 0.8)],
        Negative("hat", 0.8),
        {"prompt": "hat", "weight": 0.8},
        [Negative(["hat"][0], torch.tensor(0.8).double().round(decimals=1))],  # type: ignore[arg-type]
    ]
    for spelling in spellings:
        assert PerpNeg(spelling).negatives == wanted
    assert PerpNeg("hat").negatives == (Negative("hat"),)
    assert PerpNeg(("hat", "cap")).negatives == (Negative("hat"), Negative("cap"))
    assert PerpNeg("a", positives="b").positives == (Positive("b"),)
    assert Negative("a", window=(0, 0.5)).window == Window(0, 0.5)  # type: ignore[arg-type]
    assert Negative(["a", "b"]).prompt == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: PerpNeg([]), ValueError, r"PerpNeg got no negative; .*PerpNeg\('hat'\)"),
        (lambda: PerpNeg(" "), ValueError, "empty text"),
        (lambda: Negative(("", " ")), ValueError, "all texts of a negative are empty"),
        (lambda: Negative("hat", float("nan")), ValueError, "the weight of negative 'hat' is nan; a finite number"),
        (lambda: Negative("hat", -1.5), ValueError, "weights are 0 or more"),
        (lambda: Negative("hat", "1"), TypeError, "a number is needed"),
        (lambda: Negative("hat", window=(0.4, 0.1)), ValueError, "start <= stop"),
        (lambda: Negative("hat", window=0.4), TypeError, "window is 0.4; possible"),
        (lambda: Negative("hat", mask="mask.png"), TypeError, "a mask is made from str; possible: PIL"),
        (lambda: Negative(3), TypeError, "one text for each prompt"),
        (lambda: PerpNeg(3), TypeError, "negatives are 3; possible: a text"),
        (lambda: PerpNeg([3]), TypeError, "a negative is 3; possible: a text"),
        (lambda: PerpNeg({"promt": "hat"}), ValueError, "negative has no 'promt'; possible: prompt, weight"),
        (lambda: PerpNeg("hat", unconditional=3), TypeError, "unconditional is 3; possible: None"),
        (lambda: NegativePrompt("hat", mode="minus"), ValueError, "mode is 'minus'; possible: 'replace'"),
        (lambda: NegativePrompt("hat", scale=2.0), ValueError, "only with mode='signed'"),
        (lambda: NegativePrompt("hat", mode="signed", scale=-1), ValueError, "scale is -1; possible: at least 0"),
        (lambda: ContrastiveNegative("hat", tau=-1), ValueError, "tau is -1"),
        (lambda: DynamicNegative("hat", prior=0.9), ValueError, "prior is 0.9; possible: from 0 to 0.8"),
        (lambda: DynamicNegative("hat", p_max=1.0), ValueError, "p_max is 1"),
        (lambda: DynamicNegative("hat", temperature=float("inf")), ValueError, "finite"),
        (lambda: get_method("perpneg"), ValueError, "no method is called 'perpneg'; did you mean 'perp_neg'. Known:"),
        (lambda: get_method("xyz"), ValueError, "'xyz'. Known: negative, signed, perp_neg"),
        (lambda: from_dict({"method": "dng", "negatives": "a", "priors": 1}), ValueError, "did you mean 'prior'"),
        (lambda: from_dict({"negatives": "a"}), ValueError, "with the key 'method'"),
        (lambda: from_dict({"method": "perp_neg"}), TypeError, "negatives"),
    ],
)
def test_errors_teach(build: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()


def test_registry() -> None:
    names = [
        "negative",
        "signed",
        "perp_neg",
        "ccfg",
        "dng",
        "negative_model",
        "nag",
        "learned_negative",
        "vsf",
        "negative_weight",
        "recommended",
    ]
    names += [
        "adaptive",
        "guard",
        "distinct",
        "surplus",
        "negtome",
        "spell",
        "particle_guidance",
        "cads",
        "seed_variance",
        "apg",
        "cfg_zero_star",
        "rescale",
        "interval",
    ]
    assert [name for name in METHODS if get_method(name).method.__module__.startswith("negguide.")] == names
    for name in set(names) - {"adaptive", "guard", "distinct", "surplus", "negative_model", "learned_negative"}:
        entry = get_method(name)
        assert entry.name == name
        assert entry.summary
        assert entry.cost
        assert entry.paper
        method = entry("hat") if entry.takes_negatives else entry()
        assert from_json(to_json(method)) == method
    assert get_method("signed")("hat") == NegativePrompt("hat", mode="signed")
    assert get_method("signed")("hat", scale=2.0) == NegativePrompt("hat", mode="signed", scale=2.0)
    assert from_dict({"method": "signed", "negatives": "hat"}) == NegativePrompt("hat", mode="signed")


def test_registering() -> None:
    class Unknown(PerpNeg):
        name = "perp_neg"

    with pytest.raises(ValueError, match="needs a name of its own; 'perp_neg'"):
        register(Unknown)
    with pytest.raises(ValueError, match="Unknown is not registered"):
        to_dict(Unknown("hat"))


def test_exports_are_sorted_and_real() -> None:
    from negguide import maths

    for module in (methods, maths):
        assert all(hasattr(module, name) for name in module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)


def test_configs_are_frozen() -> None:
    for config in CONFIGS:
        with pytest.raises(AttributeError):
            config.name = "other"  # type: ignore[misc]
