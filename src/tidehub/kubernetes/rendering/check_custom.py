"""Objects of kinds that are no part of Kubernetes: against the definitions that the charts bring. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.capabilities import OFFLINE_API_VERSIONS
from tidehub.kubernetes.rendering.flaw import Item, Report
from tidehub.kubernetes.rendering.model import Rendered

_OTHERS = frozenset({"gateway.networking.k8s.io"})
"""Groups whose definitions a cluster brings itself, and that tidehub writes objects of."""
_BUILT_IN = frozenset(
    {version.split("/")[0] for version in OFFLINE_API_VERSIONS if "." in version}
    | {"", "apps", "autoscaling", "batch", "policy"}
)
_ADDED = (
    "apiextensions.k8s.io",
    "admissionregistration.k8s.io",
    "apiregistration.k8s.io",
    "coordination.k8s.io",
)


def check(
    rendered: Rendered,
    items: Sequence[Item],
    served: frozenset[str] | None,
    reporter: Callable[[Item], Report],
) -> None:
    """Each instance against its schema, strictly; and kinds that nobody brings."""
    schemas = _schemas(rendered.crds)
    validators: dict[tuple[str, str], Any] = {}
    for item in items:
        kind = (item.id.api_version, item.id.kind)
        if item.id.kind == "CustomResourceDefinition":
            continue
        schema = schemas.get(kind)
        if schema is None:
            _unknown(item, served, reporter(item))
            continue
        if kind not in validators:
            # Not at the top: most renders without a gateway need none, and it is the largest import here.
            from jsonschema import Draft7Validator

            validators[kind] = Draft7Validator(strict(schema))
        say = reporter(item)
        given = {name: value for name, value in item.obj.items() if name not in ("metadata",)}
        for error in sorted(validators[kind].iter_errors(given), key=lambda one: str(one.json_path)):
            say(_words(error), str(error.json_path).removeprefix("$."))


def strict(schema: Any) -> Any:
    """An OpenAPI v3 schema of a definition as JSON Schema that refuses what an API server would prune."""
    if not isinstance(schema, Mapping):
        return schema
    made: dict[str, Any] = {}
    for name, value in schema.items():
        if name == "properties":
            made[name] = {key: strict(inner) for key, inner in value.items()}
        elif name in ("items", "additionalProperties", "not"):
            made[name] = strict(value)
        elif name in ("allOf", "anyOf", "oneOf"):
            made[name] = [_loose(inner) for inner in value]
        elif not name.startswith("x-kubernetes-") and name not in (
            "description",
            "nullable",
            "example",
            "format",
        ):
            made[name] = value
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or schema.get(
        "x-kubernetes-embedded-resource"
    )
    if "properties" in made and "additionalProperties" not in made and not open_ended:
        made["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        made.pop("anyOf", None)
        made["type"] = ["integer", "string"]
    if schema.get("nullable") and isinstance(made.get("type"), str):
        made["type"] = [made["type"], "null"]
    return made


def _loose(schema: Any) -> Any:
    """Inside allOf and its like only conditions stand: properties are listed outside."""
    found = strict(schema)
    if isinstance(found, dict):
        found.pop("additionalProperties", None)
    return found


def _schemas(crds: Sequence[Object]) -> dict[tuple[str, str], Any]:
    found: dict[tuple[str, str], Any] = {}
    for crd in crds:
        spec = crd.get("spec") or {}
        for version in spec.get("versions") or []:
            schema = (version.get("schema") or {}).get("openAPIV3Schema")
            if version.get("served") and schema:
                properties = dict(schema.get("properties") or {})
                # The API server checks these itself.
                properties.pop("metadata", None)
                properties |= {"apiVersion": {"type": "string"}, "kind": {"type": "string"}}
                required = [name for name in schema.get("required") or [] if name != "metadata"]
                whole = {**schema, "properties": properties, "required": required}
                if not required:
                    del whole["required"]
                kind = str((spec.get("names") or {}).get("kind"))
                found[(f"{spec.get('group')}/{version.get('name')}", kind)] = whole
    return found


def _unknown(item: Item, served: frozenset[str] | None, say: Report) -> None:
    group = item.id.group
    if served is not None:
        if f"{item.id.api_version}/{item.id.kind}" not in served:
            what = f"this cluster does not serve {item.id.api_version} {item.id.kind}, and no chart brings it"
            say(what, "apiVersion", fix="install what defines it, or take it out of the values")
    elif group not in _BUILT_IN and group not in _OTHERS and group not in _ADDED:
        what = f"nobody defines {item.id.api_version} {item.id.kind}: neither Kubernetes nor a chart"
        say(what, "apiVersion", fix="install what defines it, or take it out of the values")


def _words(error: Any) -> str:
    if error.validator == "additionalProperties":
        known = (error.schema or {}).get("properties") or {}
        unknown = sorted(set(error.instance) - set(known))
        return f"its definition knows no {', '.join(unknown)}"
    if error.validator == "required":
        missing = sorted(set(error.validator_value) - set(error.instance))
        return f"its definition wants {', '.join(missing)}"
    if error.validator == "type":
        return f"its definition wants {error.validator_value} here"
    if error.validator == "enum":
        return f"its definition wants one of {', '.join(map(str, error.validator_value))}"
    return f"its definition refuses it ({error.validator})"
