"""A value against a structural schema: the OpenAPI that CRDs are written in. Pure.

Strict, as `kubectl --validate=strict`: what the API server would drop without a word is an error. The package
jsonschema takes two seconds to import where JupyterHub's extras are installed: longer than rendering everything.
Dialect: apiextensions-apiserver/pkg/apiserver/schema and kubernetes.io, "Specifying a structural schema".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Fault = tuple[str, str]
"""Where, and what; no value of the object is in the words."""
_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, Mapping),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: (
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, float) and value.is_integer())
    ),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
}


def faults(value: Any, schema: Mapping[str, Any], path: str = "") -> Iterator[Fault]:
    """Everything that the schema refuses in the value."""
    if value is None and schema.get("nullable"):
        return
    if schema.get("x-kubernetes-int-or-string"):
        if not _TYPES["integer"](value) and not isinstance(value, str):
            yield path, "its CRD requires a whole number or a text here"
        return
    kind = schema.get("type")
    if kind in _TYPES and not _TYPES[kind](value):
        yield path, f"its CRD requires {_article(kind)} here"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"its CRD requires one of {', '.join(map(str, schema['enum']))}"
    if isinstance(value, Mapping):
        yield from _mapping(value, schema, path)
    elif isinstance(value, list):
        yield from _list(value, schema, path)
    elif isinstance(value, str):
        yield from _text(value, schema, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from _number(value, schema, path)
    yield from _conditions(value, schema, path)


def _mapping(value: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    known: Mapping[str, Any] = schema.get("properties") or {}
    others = schema.get("additionalProperties")
    open_ended = (
        schema.get("x-kubernetes-preserve-unknown-fields") or schema.get("x-kubernetes-embedded-resource")
    )  # fmt: skip
    for name in schema.get("required") or []:
        if name not in value:
            yield path, f"its CRD requires {name}"
    for name, inner in value.items():
        at = f"{path}.{name}" if path else str(name)
        if name in known:
            yield from faults(inner, known[name], at)
        elif isinstance(others, Mapping):
            yield from faults(inner, others, at)
        elif others is False or (known and not others and not open_ended):
            yield at, "its CRD has no such field"
    if len(value) < int(schema.get("minProperties", 0)):
        yield path, f"its CRD requires at least {schema['minProperties']} entries"
    if "maxProperties" in schema and len(value) > int(schema["maxProperties"]):
        yield path, f"its CRD requires at most {schema['maxProperties']} entries"


def _list(value: list[Any], schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    items = schema.get("items")
    if isinstance(items, Mapping):
        for index, item in enumerate(value):
            yield from faults(item, items, f"{path}[{index}]")
    if len(value) < int(schema.get("minItems", 0)):
        yield path, f"its CRD requires at least {schema['minItems']} entries"
    if "maxItems" in schema and len(value) > int(schema["maxItems"]):
        yield path, f"its CRD requires at most {schema['maxItems']} entries"
    if schema.get("uniqueItems") and any(item in value[:index] for index, item in enumerate(value)):
        yield path, "its CRD requires every entry once"


def _text(value: str, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    if len(value) < int(schema.get("minLength", 0)):
        yield path, f"its CRD requires at least {schema['minLength']} characters"
    if "maxLength" in schema and len(value) > int(schema["maxLength"]):
        yield path, f"its CRD requires at most {schema['maxLength']} characters"
    if "pattern" in schema and not _matches(str(schema["pattern"]), value):
        yield path, f"its CRD requires a text that matches {schema['pattern']}"


def _number(value: float, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and (value < low or (value == low and schema.get("exclusiveMinimum"))):
        yield (
            path,
            f"its CRD requires {'more than' if schema.get('exclusiveMinimum') else 'at least'} {low}",
        )
    if high is not None and (value > high or (value == high and schema.get("exclusiveMaximum"))):
        yield (
            path,
            f"its CRD requires {'less than' if schema.get('exclusiveMaximum') else 'at most'} {high}",
        )


def _conditions(value: Any, schema: Mapping[str, Any], path: str) -> Iterator[Fault]:
    """What holds beside the fields. A condition lists the fields that it speaks of, not all."""
    for condition in schema.get("allOf") or []:
        yield from faults(value, _open(condition), path)
    for name, most in (("anyOf", None), ("oneOf", 1)):
        alternatives = schema.get(name) or []
        count = sum(not any(faults(value, _open(one), path)) for one in alternatives)
        if alternatives and (not count or (most is not None and count > most)):
            many = "exactly one" if most else "one"
            yield path, f"its CRD requires {many} of {len(alternatives)} alternatives"
    if schema.get("not") is not None and not any(faults(value, _open(schema["not"]), path)):
        yield path, "its CRD excludes what is there"


def _open(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**schema, "x-kubernetes-preserve-unknown-fields": True}


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        # Go's expressions know things that Python's do not: the API server decides.
        return True


def _article(kind: str) -> str:
    return {"object": "a mapping", "array": "a list", "string": "a text", "integer": "a whole number"}.get(
        kind, f"a {kind}"
    )
