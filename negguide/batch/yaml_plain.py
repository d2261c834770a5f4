"""YAML in which a plain number is what it looks like: `010` and `1:30` are texts, not 8 and 90."""

from __future__ import annotations

import re

import yaml


class PlainLoader(yaml.SafeLoader):
    """As `yaml.SafeLoader`, with the whole numbers of YAML 1.2 and without its predecessor's dates.

    YAML 1.1 reads `010` as 8 (octal), `1:30` as 90 (sexagesimal), `1_000` as 1000 and `2024-01-02` as a date, which no
    JSON can hold. Here they stay texts, and who needs a number (seeds, steps) reads it as one in the decimal system.
    """


_CHANGED = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _CHANGED]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
PlainLoader.add_implicit_resolver(_CHANGED[0], re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$"), list("-+0123456789"))
PlainLoader.add_implicit_resolver(
    _CHANGED[1],
    re.compile(r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"),
    list("-+0123456789."),
)
