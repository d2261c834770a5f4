"""Plans: what they may say, and what is told when they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from negguide.batch.plan import Plan
from negguide.batch.read import PlanError, load_plan, load_preset, presets
from negguide.batch.units import Machine, units

PLAN = """\
model: toybox
prompts:
  - a pet on grass --no cat
  - {prompt: a face, negatives: [hat], tag: colors}
  - file: more.txt
  - {each: [a cat, a dog], in: ["{} at night"], negatives: [snow]}
methods:
  - plain
  - {use: perp_neg+apg, sweep: {weight: [0.5, 2]}}
  - {name: low, use: plain, guidance: 2}
  - {method: negative, negatives: [blurry]}
seeds: 0-4
batch: 2
steps: 3
"""


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    (tmp_path / "more.txt").write_text("# comment\na tree --no snow\n")
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    return file


def test_a_plan_is_prompts_times_methods_times_seeds(plan_file: Path) -> None:
    plan = load_plan(plan_file)
    assert [prompt.prompt for prompt in plan.prompts] == [
        "a pet on grass --no cat",
        "a face",
        "a tree --no snow",
        "a cat at night",
        "a dog at night",
    ]
    assert plan.prompts[1].metadata == {"tag": "colors"} and plan.prompts[4].metadata["word"] == "a dog"
    assert [(v.label, v.guidance) for v in plan.variants()] == [
        ("plain", None),
        ("perp_neg:weight=0.5+apg", None),
        ("perp_neg:weight=2+apg", None),
        ("low", 2.0),
        ('negative:negatives=["blurry"]', None),
    ]
    found = list(units(plan, Machine("cpu", "float32")))
    assert [unit.seeds for unit in found[:3]] == [(0, 1), (2, 3), (4,)] and len(found) == 5 * 5 * 3
    assert [unit.settings.guidance_scale for unit in found[:15:3]] == [5, 5, 5, 2, 5]  # the Toybox's own
    weights = [unit.about["methods"][0]["negatives"][0]["weight"] for unit in found[3:9:3]]
    assert weights == [0.5, 2]
    assert found[12].about["methods"][0]["negatives"][0]["prompt"] == "blurry"
    keys = {unit.key(seed) for unit in found for seed in unit.seeds}
    files = {unit.file(seed) for unit in found for seed in unit.seeds}
    assert len(keys) == len(files) == 5 * 5 * 5


def test_json_and_toml_say_the_same_and_a_plan_comes_back_from_json(plan_file: Path, tmp_path: Path) -> None:
    plan = load_plan(plan_file)
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    assert load_plan(tmp_path) == plan  # the folder of a batch
    (tmp_path / "a.json").write_text(json.dumps({"prompts": ["a face"], "methods": ["plain"], "seeds": [1, 2]}))
    (tmp_path / "a.toml").write_text('prompts = ["a face"]\nmethods = ["plain"]\nseeds = "1-2"\n')
    assert load_plan(tmp_path / "a.json") == load_plan(tmp_path / "a.toml")
    assert load_plan(plan_file, {"seeds": "7", "models": "other/model"}).models[0].name == "other/model"


def test_prompts_of_geneval_keep_what_they_say(tmp_path: Path) -> None:
    rows = [{"tag": "two", "include": [{"class": "cat"}], "prompt": "a cat"}, {"prompt": "a dog", "negatives": "hat"}]
    (tmp_path / "p.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    plan = load_plan(None, {"prompts": [{"file": str(tmp_path / "p.jsonl")}]})
    assert plan.prompts[0].metadata == {"tag": "two", "include": [{"class": "cat"}]}
    assert plan.prompts[1].negatives == ("hat",)


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("use: perp_neg+apg", "use: perpneg", 9, "did you mean 'perp_neg'"),
        ("weight: [", "wieght: [", 9, "'wieght' is no option of perp_neg+apg"),
        ("seeds: 0-4", "seeds: few", 12, "seeds are 'few'"),
        ("steps: 3", "stesp: 3", 14, "did you mean 'steps'"),
        ("steps: 3", "steps: 0", 14, "greater than or equal to 1"),
        ("[hat]", "[no]", 4, "put it in quotes"),
        ("a pet on grass --no cat", "a pet on grass --no cat:heavy", 3, "'heavy' is not a number"),
        ("a pet on grass --no cat", "' '", 3, "is empty"),
        ("steps: 3", "seeds: 3", 14, "'seeds' is there twice"),
        ("steps: 3", "steps: [3", 15, "expected"),
        ("file: more.txt", "file: none.txt", 5, "none.txt' cannot be read"),
        ("file: more.txt", "file: more.csv", 5, "must end in .txt or .jsonl"),
        ('["{} at night"]', "[at night]", 6, "no place for the word"),
        ("- plain", "- {us: plain}", 8, "a method is {'us': 'plain'}"),
        ("name: low, use: plain", "name: plain, use: plain", None, "'plain' is there twice"),
        ("a pet on grass --no cat", "a pet on grass", None, "'a pet on grass' has none"),
        ("steps: 3", "baseline: palin", None, "possible: plain, "),
        ("steps: 3", "takeover: true", None, "needs a guidance scale"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(
    plan_file: Path, old: str, new: str, line: int | None, message: str
) -> None:
    assert old in PLAN
    plan_file.write_text(PLAN.replace(old, new))
    with pytest.raises(PlanError) as told:
        load_plan(plan_file)
    assert message in str(told.value)
    assert f"{plan_file}, line {line}" in str(told.value) if line else str(plan_file) in str(told.value)


def test_a_wrong_line_of_a_prompts_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_text('{"prompt": "a cat"}\n\n{"promt": "a dog"}\n')
    with pytest.raises(PlanError, match=r"p\.jsonl, line 3: an object with the key 'prompt'"):
        load_plan(None, {"prompts": [{"file": str(file)}]})
    file.write_text('{"prompt": "a cat"}\n{"prompt": "a dog --no cat:x"}\n')
    with pytest.raises(PlanError, match=r"p\.jsonl, line 2: prompts\[1\]: .*'x' is not a number"):
        load_plan(None, {"prompts": [{"file": str(file)}]})


def test_presets_are_plans() -> None:
    assert "negtome-diversity" in presets()
    for name in presets():
        plan = load_preset(name, {"prompts": ["a face --no hat"]} if name == "fsg-geneval" else {})
        assert plan.title and list(units(plan, Machine("cpu", "float32")))
    assert len(load_preset("negtome-diversity").prompts) == 20 * 7
    creative = load_preset("adaptive-creative", {"models": "org/other"})
    assert len(creative.prompts) == 4 and len(creative.seeds) == 100 and creative.models[0].name == "org/other"
    with pytest.raises(PlanError, match=r"no prompt; .*--prompts"):
        load_preset("fsg-geneval")
    with pytest.raises(PlanError, match="did you mean 'easy-hard'"):
        load_preset("easyhard")


def test_a_key_changes_with_what_determines_a_picture_and_with_nothing_else() -> None:
    base = {"prompts": ["a face --no hat"], "methods": ["perp_neg"], "seeds": "0-3", "batch": 2, "steps": 3}

    def keys(**changes: object) -> set[str]:
        found = units(load_plan(None, {**base, **changes}), Machine("cpu", "float32"))
        return {unit.key(seed) for unit in found for seed in unit.seeds}

    usual = keys()
    for same in ({"output": "elsewhere"}, {"title": "x"}, {"methods": [{"use": "perp_neg", "name": "mine"}]}):
        assert keys(**same) == usual
    assert keys(seeds="0-5") > usual  # more seeds keep what is there
    assert keys(prompts=["a cat --no dog", "a face --no hat"]) > usual
    on_gpu = [units(load_plan(None, {**base, "threads": count}), Machine("cuda", "float32")) for count in (1, 2)]
    assert [unit.id for unit in on_gpu[0]] == [unit.id for unit in on_gpu[1]]  # the CPU's threads mean nothing there
    for other in (
        {"steps": 4},
        {"guidance": 6},
        {"size": 128},
        {"threads": 2},
        {"batch": 4},
        {"methods": ["perp_neg:weight=2"]},
        {"prompts": ["a face --no hat@0-0.5"]},
    ):
        assert not keys(**other) & usual


def test_another_content_of_a_learnt_file_makes_other_pictures(tmp_path: Path) -> None:
    file = tmp_path / "cat.safetensors"

    def key() -> str:
        plan = load_plan(
            None,
            {
                "models": "toybox",
                "prompts": ["a pet"],
                "methods": [f'learned_negative:file="{file}"'],
                "seeds": "0",
                "output": str(tmp_path / "out"),
            },
        )
        (unit,) = units(plan, Machine("cpu", "float32"))
        return unit.key(0)

    file.write_bytes(b"one")
    first = key()
    assert key() == first
    file.write_bytes(b"two")
    assert key() != first
