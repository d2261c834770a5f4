"""Answers and prompts as words: what may become a negative, and what never does."""

from __future__ import annotations

import pytest

from negguide.watchers import questions as asking
from negguide.watchers.protocol import Question
from negguide.watchers.words import canonical, head_noun, mentions, phrases, says_yes, singular, without


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("cats", "cat"),
        ("puppies", "puppy"),
        ("ties", "tie"),
        ("foxes", "fox"),
        ("benches", "bench"),
        ("dresses", "dress"),
        ("horses", "horse"),
        ("houses", "house"),
        ("shoes", "shoe"),
        ("tomatoes", "tomato"),
        ("buses", "bus"),
        ("mice", "mouse"),
        ("women", "woman"),
        ("wolves", "wolf"),
        ("leaves", "leaf"),
        ("people", "person"),
    ],
)
def test_plurals_and_their_singulars_meet(plural: str, one: str) -> None:
    assert singular(plural) == one
    assert singular(one) == one
    assert canonical(f"The {plural.upper()}") == canonical(f"a {one}")


@pytest.mark.parametrize("word", ["glass", "cactus", "iris", "glasses", "trousers", "gas", "is", "bus", "sheep"])
def test_what_is_no_plural_stays(word: str) -> None:
    assert singular(word) == word


NOTHING = """
    |  |.|yes|No.|Yes!|none|Nothing|unknown|Unknown.|error|ERROR: timeout|n/a|null|no hat|not a cat|without glasses
    |I don't know|I'm sorry, I cannot help|As an AI model, I can't|It is unknown|it is not clear|unable to determine
    |a|object|it is an object|something|big red old sad odd tall cat
"""


@pytest.mark.parametrize("answer", NOTHING.split("|"))
def test_answers_that_name_nothing(answer: str) -> None:
    assert phrases(answer) == []


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("cat", ["cat"]),
        ("A Cat.", ["cat"]),
        ("It appears to be a fluffy cat.", ["fluffy cat"]),
        ("It looks like a dog", ["dog"]),
        ("It's a bird", ["bird"]),
        ("The image shows a fluffy white cat sitting on a couch.", ["fluffy white cat"]),
        ("There is a man wearing a hat", ["man"]),
        ("red car and a bus", ["red car", "bus"]),
        ("cat, dog or rabbit; cat", ["cat", "dog", "rabbit"]),
        ("yes, a cat", ["cat"]),
        ("Answer: a castle", ["castle"]),
        ("**cat**", ["cat"]),
        ("nonna", ["nonna"]),
        ("notebook", ["notebook"]),
        ("island", ["island"]),
        ("golden retriever", ["golden retriever"]),
    ],
)
def test_what_answers_name(answer: str, named: list[str]) -> None:
    assert phrases(answer) == named


@pytest.mark.parametrize(
    ("prompt", "noun"),
    [
        ("a pet", "pet"),
        ("a photo of a pet on grass", "pet"),
        ("An oil painting of two fluffy cats on grass, 4k", "cat"),
        ("a portrait of a person with a hat", "person"),
        ("a photo of a creative building.", "building"),
        ("two red apples", "apple"),
        ("a dog running", "dog"),
        ("a running dog", "dog"),
        ("a pair of shoes", "shoe"),
        ("a painting of a statue of a woman", "woman"),
        ("", None),
        ("of", None),
    ],
)
def test_head_noun(prompt: str, noun: str | None) -> None:
    assert head_noun(prompt) == noun


def test_words_of_the_prompt_are_taken_out() -> None:
    assert without("glass buildings", ["a creative building"]) == "glass"
    assert without("Pets", ["a pet on grass"]) == ""
    assert without("cat on the grass", ["a pet on grass"]) == "cat"
    assert without("fluffy cat", ["a pet"]) == "fluffy cat"
    assert without("kitten", ["a cat"], [("cat", "kitten")]) == ""
    assert without("cat", []) == "cat"


def test_synonyms_and_mentions() -> None:
    table = [("cat", "kitty", "house cat")]
    assert canonical("Kitties", table) == canonical("the house-cat", table) == "cat"
    assert canonical("kitty") != canonical("cat")
    assert mentions("two black cats", "cat")
    assert not mentions("male breast", "female breast")
    assert not mentions("a catalogue", "cat")
    assert mentions("a kitty", "cat", table)
    assert not mentions("a kitty", "dog", table)
    assert not mentions("anything", "")


def test_says_yes() -> None:
    assert says_yes("Yes, there is.") and says_yes("true") and not says_yes("no") and not says_yes("")
    assert not says_yes("yesterday")


def test_questions_come_from_templates_prompts_and_lists() -> None:
    assert [q.text for q in asking.of_prompt("a photo of two pets")] == ["What kind of pet is it?"]
    assert [q.text for q in asking.of_prompt("")] == ["What is the main object in the picture?"]
    assert [q.text for q in asking.of_category("building")] == [
        "What kind of building is it?",
        "What is the building made of?",
    ]
    asked = ["hat", "apple", "cats", "glasses", "female breast"]
    assert [(q.about, q.text.removesuffix(" in the picture?")) for q in asking.about(asked)] == [
        ("hat", "Is there a hat"),
        ("apple", "Is there an apple"),
        ("cats", "Are there cats"),
        ("glasses", "Are there glasses"),
        ("female breast", "Is there female breast"),
    ]
    given = asking.as_questions(["What {noun} is it?", {"text": "Is it red?", "about": "red"}])
    assert [q.text for q in asking.filled(given, "a pet")] == ["What pet is it?", "Is it red?"]
    assert asking.filled(given, "a pet")[1].about == "red"
    with pytest.raises(TypeError, match="a question is 3"):
        asking.as_questions([3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="ask in words"):
        Question(" ")
