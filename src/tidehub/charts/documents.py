"""YAML as Helm and Kubernetes read it, at C speed: an index or a manifest is megabytes.

ruamel.yaml takes nine times as long here, and the site file's comments and places are not wanted. PyYAML's own rules
are YAML 1.1 with dates and base-60 numbers, which Kubernetes does not know; the resolvers below are Kubernetes'.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any


@cache
def _loader() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    add = Loader.add_implicit_resolver
    add("tag:yaml.org,2002:null", re.compile(r"^(?:~|null|Null|NULL|)$"), ["~", "n", "N", ""])
    add("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF"))
    add(
        "tag:yaml.org,2002:int",
        re.compile(r"^[-+]?(?:0|[1-9][0-9]*|0x[0-9a-fA-F]+|0[0-7]+)$"),
        list("-+0123456789"),
    )
    number = r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)$"
    add("tag:yaml.org,2002:float", re.compile(number), list("-+.0123456789"))
    add("tag:yaml.org,2002:merge", re.compile(r"^<<$"), ["<"])
    return Loader


def read_all(text: str | bytes) -> list[Any]:
    """Every document that is not empty. Raises `ValueError` for what is not YAML."""
    import yaml

    try:
        return [found for found in yaml.load_all(text, Loader=_loader()) if found is not None]
    except (yaml.YAMLError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError(_words(error)) from None


def read_one(text: str | bytes) -> Any:
    """The one document; None for an empty text. Raises `ValueError` for what is not one document of YAML."""
    found = read_all(text)
    if len(found) > 1:
        raise ValueError("there is more than one document")
    return found[0] if found else None


def _words(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    return f"{problem} in line {mark.line + 1}" if mark else str(problem)
