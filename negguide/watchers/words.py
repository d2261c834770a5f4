"""What an answer says, as words that may become a negative: pure functions on English texts, no model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

_WORD = re.compile(r"\w+(?:['’-]\w+)*")


def _set(listed: str) -> frozenset[str]:
    return frozenset(listed.split())


_IRREGULAR = {
    **{f"{stem}men": f"{stem}man" for stem in ("", "wo", "fisher", "fire", "police", "snow")},
    **{"children": "child", "people": "person", "mice": "mouse", "geese": "goose", "feet": "foot", "teeth": "tooth"},
    **{f"{stem}ves": f"{stem}f" for stem in ("lea", "wol", "shel", "hal", "loa", "cal", "hoo", "scar", "thie")},
    **{f"{stem}ves": f"{stem}fe" for stem in ("kni", "li", "wi")},
    **{"buses": "bus", "gases": "gas", "lenses": "lens", "irises": "iris", "cacti": "cactus", "oxen": "ox"},
    **{"cactuses": "cactus", "octopuses": "octopus", "walruses": "walrus", "viruses": "virus"},
    **{"movies": "movie", "cookies": "cookie", "zombies": "zombie", "selfies": "selfie", "hoodies": "hoodie"},
}
_UNCHANGED = _set(
    "glasses sunglasses eyeglasses scissors trousers jeans pants shorts tights clothes goggles binoculars "
    "headphones series species news lens gas bus sheep deer fish canvas atlas christmas"
)

_FUNCTION_WORDS = _set(
    "a an the this that these those some any one its his her their my your our very really quite just so kind "
    "type sort it he she they there here is are was be has have seems appears looks like maybe probably "
    "possibly likely perhaps also either both"
)
_STOPS = _set(
    "with in on at of under near by from for to behind beside into inside outside against during over above "
    "below next between around across through along without within upon onto beneath among like as and or but "
    "that which who whose where while when is are was were has have had made set seen wearing"
)
"""Words at which a noun phrase ends."""

_NOUNS_IN_ING = _set(
    "building wing ring king thing string painting clothing ceiling wedding evening morning spring swing "
    "duckling earring drawing lightning sibling pudding carving ending railing dressing dumpling darling "
    "sling bling viking"
)
_LEAD = re.compile(
    r"^(?:(?:an?|the|one|two|some|several)\s+)?(?:[\w-]+\s+){0,2}?"
    r"(?:photos?|photographs?|pictures?|images?|portraits?|paintings?|drawings?|illustrations?|render(?:ing)?s?|sketch(?:es)?|"
    r"shots?|close-?ups?|views?|scenes?|statues?|models?|groups?|pairs?|bunch|couple|crowd|herd|flock|set|pile|row|lots?)"
    r"\s+of\s+"
)
_OPENING = re.compile(
    r"^(?:(?:the|this)\s+(?:image|picture|photo|photograph|object|animal|thing|main \w+)\s+)?"
    r"(?:it|this|that|there|i|we|you|he|she|they)?\s*"
    r"(?:can\s+see|see|think|(?:appears?|seems?|looks?)\s+(?:to\s+be|like)|"
    r"shows?|depicts?|contains?|features?|is|are|['’]s|might\s+be|may\s+be|could\s+be)"
    r"(?:\s+(?:of|that|probably|likely|possibly|most likely|a kind of|a type of))?\s+"
)
_NOT_AN_ANSWER = re.compile(
    r"^(?:yes|yeah|yep|no|nope|not|none|nothing|nobody|no one|nowhere|without|unknown|unclear|uncertain|unsure|unidentified|"
    r"unanswerable|unrecogni[sz]able|(?:error|exception|traceback)\b.*|null|nan|nil|n/?a|undefined|empty|ok|okay|true|false|maybe|other|"
    r"object|objects|something|anything|thing|things|stuff|blur|noise|image|picture|photo|answer|"
    r"(?:i(?:['’]m| am)?|we|you)\b.*|can(?:no|['’])t\b.*|cannot\b.*|don['’]?t\b.*|sorry\b.*|as an ai\b.*|unable\b.*|"
    r"(?:no|not|without|never)\s.*)$"
)
_MOST_WORDS = 5


def singular(word: str) -> str:
    """The singular of an English noun by rule, lower-case; what is no plural comes back as it is.

    >>> [singular(word) for word in ("cats", "puppies", "foxes", "horses", "bus", "glasses", "mice")]
    ['cat', 'puppy', 'fox', 'horse', 'bus', 'glasses', 'mouse']
    """
    word = word.lower()
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCHANGED or len(word) < 4 or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies"):
        return word[:-1] if len(word) == 4 else f"{word[:-3]}y"
    if word.endswith(("sses", "xes", "zzes", "ches", "shes")) or (word.endswith("oes") and len(word) > 5):
        return word[:-2]
    return word[:-1]


def canonical(text: str, synonyms: Sequence[Sequence[str]] = ()) -> str:
    """A form that is equal for texts that name the same: no article, plural, hyphen or case; synonyms by the table.

    `synonyms`: groups of texts that count as one, e.g. `[("cat", "kitten", "kitty")]`.
    """
    plain = _canonical(text)
    for group in synonyms:
        forms = [_canonical(word) for word in group]
        if plain in forms:
            return forms[0]
    return plain


def words(text: str) -> list[str]:
    """Its words, lower-case; hyphenated ones are taken apart."""
    return [part for word in _WORD.findall(text.lower()) for part in word.split("-") if part]


def phrases(answer: str) -> list[str]:
    """The things that an answer names, in order, lower-case; [] for one that names nothing.

    Takes off openings ("it looks like"), articles and punctuation; splits at commas, "and", "or"; of a sentence keeps
    the noun phrase. Nothing are: empty texts, yes and no, "unknown", "error", refusals, negations ("no hat"), and more
    than five words.

    >>> phrases("It appears to be a fluffy cat, or a dog.")
    ['fluffy cat', 'dog']
    """
    text = re.sub(r"[\"“”`*_#()\[\]{}]", " ", answer.lower()).strip(" \t\n.!?:;,-'’")
    text = re.sub(r"^(?:answer|a)\s*:\s*", "", text)
    if not text or (_NOT_AN_ANSWER.match(text) and not _OPENING.match(text)):
        return []
    parts = re.split(r"\s*(?:[,;/&|.\n]|\band\b|\bor\b)\s*", _OPENING.sub("", text, count=1))
    stripped = (_phrase(part) for part in parts)
    return list(dict.fromkeys(phrase for phrase in stripped if phrase))


def head_noun(prompt: str) -> str | None:
    """What a prompt is of, by rule: the last word of its first noun phrase, in the singular; None if there is none.

    >>> head_noun("an oil painting of two fluffy cats on grass, 4k")
    'cat'
    """
    text = re.split(r"[,.;:()\[\]|\n]|\s--", prompt.lower().strip(), maxsplit=1)[0]
    while match := _LEAD.match(text):
        text = text[match.end() :]
    before_stop = _until_stop([word for word in words(text)])
    return singular(before_stop[-1]) if before_stop else None


def without(phrase: str, taken: Iterable[str], synonyms: Sequence[Sequence[str]] = ()) -> str:
    """The phrase without words that stand, in any form, in one of the texts `taken`; "" if nothing of weight is left.

    >>> without("glass buildings", ["a creative building"])
    'glass'
    """
    taken_words = {canonical(word, synonyms) for text in taken for word in words(text)}
    taken_words |= {canonical(text, synonyms) for text in taken}
    if canonical(phrase, synonyms) in taken_words:
        return ""
    kept = [word for word in words(phrase) if canonical(word, synonyms) not in taken_words]
    return " ".join(_stripped(kept)) if len(kept) < len(words(phrase)) else phrase


def says_yes(answer: str) -> bool:
    """Whether an answer to a yes-or-no question is yes."""
    first = words(answer)[:1]
    return bool(first) and first[0] in ("yes", "yeah", "yep", "true", "correct", "sure")


def mentions(text: str, thing: str, synonyms: Sequence[Sequence[str]] = ()) -> bool:
    """Whether whole words of `text`, in any form, name the thing or a synonym: "male cats" does not mention "female cat"."""
    names = {_canonical(thing)} | {
        _canonical(word)
        for group in synonyms
        if _canonical(thing) in {_canonical(word) for word in group}
        for word in group
    }
    said = f" {_canonical(text)} "
    return any(name and f" {name} " in said for name in names)


def _canonical(text: str) -> str:
    plain = [singular(word) for word in words(text)]
    return " ".join([word for word in plain if word not in ("a", "an", "the")] or plain)


def _phrase(part: str) -> str:
    part = part.strip(" \t\n.!?:;,-'’")
    if not part or _NOT_AN_ANSWER.match(part):
        return ""
    tokens = [word for word in _WORD.findall(part)]
    tokens = _stripped(tokens)
    if len(tokens) > 3:
        tokens = _until_stop(tokens)
    text = " ".join(tokens)
    return "" if not tokens or len(tokens) > _MOST_WORDS or _NOT_AN_ANSWER.match(text) else text


def _stripped(tokens: Sequence[str], edge: Collection[str] = _FUNCTION_WORDS | _STOPS) -> list[str]:
    """Without function words at both ends."""
    kept = list(tokens)
    while kept and kept[0] in edge:
        kept.pop(0)
    while kept and kept[-1] in edge:
        kept.pop()
    return kept


def _until_stop(tokens: Sequence[str]) -> list[str]:
    """The words of the first noun phrase, articles and numbers taken off."""
    phrase: list[str] = []
    for word in tokens:
        if (word in _FUNCTION_WORDS and not phrase) or word.isdigit() or (word in _NUMBERS and not phrase):
            continue
        ends = word in _STOPS or (word.endswith("ing") and len(word) > 4 and word not in _NOUNS_IN_ING and phrase)
        if ends:
            break
        phrase.append(word)
    return phrase


_NUMBERS = _set("two three four five six seven eight nine ten several many few")
