"""pydantic's findings in words an operator can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tidehub.site.model import Site
from tidehub.site.problems import KeyPath, Problem, dotted

_KINDS = {
    "string_type": "one line of text",
    "tuple_type": "a list",
    "dict_type": "a mapping of keys and values",
    "model_type": "a mapping of keys and values",
    "model_attributes_type": "a mapping of keys and values",
    "int_type": "a whole number",
}

_UNKNOWN, _MISSING = "this key is not known", "this key is missing"
_SECRET = re.compile(r"secret|passw|token|crypt_?key|api_?key")


def problems_of(error: ValidationError) -> list[Problem]:
    """One `Problem` for each finding."""
    findings = error.errors(include_url=False)
    # A list whose only items are wrong is reported as empty too; the items' own problems say it better.
    return [
        _problem(finding)
        for finding in findings
        if finding["type"] != "too_short"
        or not any(_is_within(other["loc"], finding["loc"]) for other in findings)
    ]


def each_once(problems: list[Problem]) -> list[Problem]:
    """The same without the keys that are missing only because they stand there misspelt: those are not known, and the
    likeliest meant key is named already.
    """
    meant = {
        (*problem.path[:-1], close)
        for problem in problems
        if problem.what == _UNKNOWN and (close := _meant(problem.path)) is not None
    }
    return [problem for problem in problems if problem.what != _MISSING or problem.path not in meant]


def nearest_key(path: KeyPath) -> str | None:
    """What to do about the unknown key at `path`: the likeliest meant key, or the keys that exist there."""
    wanted = _plain(path)
    if _SECRET.search(wanted):
        return "remove it: secrets never stand in the site file, they have a file of their own"
    if (close := _meant(path)) is not None:
        return f"did you mean {close}?"
    model = _model_at(path[:-1])
    known = _keys(model) if model else []
    elsewhere = [key for key in _all_keys() if key.rsplit(".", 1)[-1] == wanted]
    if len(elsewhere) == 1:
        return f"did you mean {elsewhere[0]}? It belongs there"
    return f"known here: {', '.join(known)}" if known else None


def _meant(path: KeyPath) -> str | None:
    """The key beside the unknown one at `path` that is likely meant by it."""
    model = _model_at(path[:-1])
    close = difflib.get_close_matches(_plain(path), _keys(model) if model else [], n=1, cutoff=0.6)
    return close[0] if close else None


def _plain(path: KeyPath) -> str:
    return str(path[-1]).replace("-", "_").lower()


def _problem(finding: Any) -> Problem:
    path: KeyPath = tuple(part for part in finding["loc"] if part != "[key]")
    kind, context = finding["type"], finding.get("ctx", {})
    raised = context.get("error")
    if kind == "extra_forbidden":
        return Problem(_UNKNOWN, path, fix=nearest_key(path))
    if kind == "missing":
        return Problem(_MISSING, path, expected=_description(path))
    if kind == "value_error" and hasattr(raised, "what"):
        return Problem(raised.what, path, expected=raised.expected, fix=raised.fix)
    found = _shown(finding["input"])
    if kind in ("literal_error", "enum"):
        meant = difflib.get_close_matches(
            str(finding["input"]), str(context["expected"]).replace("'", "").split(), n=1
        )
        fix = f"did you mean {meant[0].strip(',')}?" if meant else None
        return Problem(f"{found} is not a choice", path, expected=str(context["expected"]), fix=fix)
    if kind in _KINDS:
        fix = (
            "quote it, if this text is meant"
            if kind == "string_type" and _is_scalar(finding["input"])
            else None
        )
        return Problem(f"found {found}", path, expected=_KINDS[kind], fix=fix)
    if kind == "too_short":
        return Problem("the list is empty", path, expected=_description(path))
    return Problem(f"found {found}", path, expected=_expected(kind, context, str(finding["msg"])))


def _is_within(inner: tuple[str | int, ...], outer: tuple[str | int, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _expected(kind: str, context: dict[str, Any], message: str) -> str:
    numbers = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least")}
    numbers |= {"less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}
    if kind in numbers:
        name, words = numbers[kind]
        return f"{words} {context[name]:g}"
    if kind == "string_too_short":
        return "some text"
    if kind == "string_too_long":
        return f"at most {context['max_length']} characters"
    if kind == "string_pattern_mismatch":
        return f"text of the form {context['pattern']}"
    return message


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, (list, tuple)):
        return "a list"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _keys(model: type[BaseModel]) -> list[str]:
    return [info.alias or name for name, info in model.model_fields.items()]


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _field_at(path: KeyPath) -> Any:
    model: type[BaseModel] | None = Site
    info = None
    for part in path:
        if isinstance(part, int):
            continue
        if model is None:
            return None
        info = next(
            (field for name, field in model.model_fields.items() if part in (name, field.alias)), None
        )
        model = next(_models_in(info.annotation), None) if info else None
    return info


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    if not path:
        return Site
    info = _field_at(path)
    return next(_models_in(info.annotation), None) if info else None


def _description(path: KeyPath) -> str | None:
    info = _field_at(path)
    return info.description if info else f"the key {dotted(path)}"


@cache
def _all_keys() -> tuple[str, ...]:
    return tuple(_every_key(Site, ""))


def _every_key(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        key = prefix + (info.alias or name)
        yield key
        for below in _models_in(info.annotation):
            yield from _every_key(below, f"{key}.")
