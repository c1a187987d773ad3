"""Whether values have the shape that a chart takes: by its schema, its subcharts', and without one by its keys.

Helm checks the schemas itself, but daskhub has none and silently ignores values of another shape. Here nothing is
started and the cluster is not asked, so all of a site's problems are found at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tidehub.charts.archive import Chart, damaged
from tidehub.charts.json_schemas import validators

GLOBAL = "global"
"""Root key that Helm hands to every subchart."""


@dataclass(frozen=True)
class Complaint:
    """One thing that does not fit."""

    chart: str
    """Name of the chart, or subchart, whose shape it is."""
    path: str
    """In that chart's values, as a JSON pointer; empty for the root."""
    says: str


def check(chart: Chart, values: Mapping[str, Any]) -> tuple[Complaint, ...]:
    """What does not fit, in the order of charts and paths. `values` are what the release is given, secrets in clear.

    As Helm does, the defaults of the chart are put below the values before its schema sees them.
    """
    return tuple(_check(chart, merged(chart.values, values)))


def ignored(chart: Chart, values: Mapping[str, Any]) -> tuple[Complaint, ...]:
    """Root keys that a chart of charts without a schema does nothing with. Helm asks schemas itself."""
    return tuple(_by_keys(chart, values)) if chart.subcharts and chart.schema is None else ()


def merged(defaults: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values over defaults as Helm coalesces them: mappings merge, null takes a default away, all else replaces."""
    result: dict[str, Any] = dict(defaults)
    for key, value in values.items():
        if value is None and key in defaults:
            result.pop(key)
        elif isinstance(value, Mapping) and isinstance(result.get(key), Mapping):
            result[key] = merged(result[key], value)
        elif isinstance(value, Mapping):
            result[key] = merged({}, value)
        else:
            result[key] = value
    return result


def _check(chart: Chart, values: Mapping[str, Any]) -> Iterator[Complaint]:
    name = chart.metadata.name
    if chart.schema is not None:
        yield from _by_schema(name, chart.schema, values)
    else:
        yield from _by_keys(chart, values)
    for subchart in chart.subcharts:
        key = chart.key_of(subchart)
        given = values.get(key, {})
        if not isinstance(given, Mapping):
            yield Complaint(name, f"/{key}", f"got {_kind(given)}, want object")
            continue
        inherited = {GLOBAL: values[GLOBAL]} if GLOBAL in values else {}
        yield from _check(subchart, merged(subchart.values, {**inherited, **given}))


def _by_schema(name: str, schema: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Complaint]:
    library = validators()
    validator = library.validator_for(schema, default=library.Draft7Validator)
    try:
        validator.check_schema(schema)
    except library.exceptions.SchemaError as wrong:
        raise damaged(f"{name}: its values.schema.json is not a schema ({wrong.message})") from None
    found = sorted(
        validator(schema).iter_errors(values), key=lambda each: [str(part) for part in each.absolute_path]
    )
    for error in found:
        pointer = "".join(f"/{_escaped(str(part))}" for part in error.absolute_path)
        yield Complaint(name, pointer, _said(error))


def _said(error: Any) -> str:
    """What a schema says, never quoting the value: it may be a secret."""
    rule, wants, value = error.validator, error.validator_value, error.instance
    if rule == "additionalProperties":
        extra = sorted(set(value) - set(error.schema.get("properties", {})))
        return f"additional properties {', '.join(map(repr, extra))} not allowed"
    if rule == "type":
        return f"got {_kind(value)}, want {' or '.join(wants) if isinstance(wants, list) else wants}"
    if rule == "required":
        return f"missing properties {', '.join(repr(key) for key in wants if key not in value)}"
    if rule == "enum":
        return f"must be one of {', '.join(map(repr, wants))}"
    if rule in {"anyOf", "oneOf"}:
        return f"fits none, or more than one, of the {len(wants)} forms that are allowed"
    return f"does not satisfy {rule}: {wants}"


def _by_keys(chart: Chart, values: Mapping[str, Any]) -> Iterator[Complaint]:
    """Without a schema: root keys are its subcharts', or those of its own defaults."""
    subcharts = [chart.key_of(each) for each in chart.subcharts]
    known = {*subcharts, *(each.key for each in chart.metadata.dependencies), *chart.values, GLOBAL, "tags"}
    for key in sorted(set(values) - known):
        inside = [chart.key_of(each) for each in chart.subcharts if key in each.values]
        hint = f"; it belongs below {' or '.join(inside)}" if inside else ""
        yield Complaint(
            chart.metadata.name, f"/{_escaped(key)}", f"is not a key of this chart, which ignores it{hint}"
        )


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _kind(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, (list, tuple)) else "object"
