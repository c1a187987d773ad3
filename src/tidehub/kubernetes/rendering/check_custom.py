"""Objects of kinds that are no part of Kubernetes: against the CRDs that the charts bring. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.capabilities import OFFLINE_API_VERSIONS
from tidehub.kubernetes.rendering.flaw import Item, Report
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.kubernetes.rendering.structural import faults

_OTHERS = frozenset({"gateway.networking.k8s.io"})
"""Groups whose CRDs a cluster brings itself, and that tidehub writes objects of."""
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
    for item in items:
        if item.id.kind == "CustomResourceDefinition":
            continue
        schema = schemas.get((item.id.api_version, item.id.kind))
        if schema is None:
            _unknown(item, served, reporter(item))
            continue
        say = reporter(item)
        given = {name: value for name, value in item.obj.items() if name != "metadata"}
        for field, what in faults(given, schema):
            say(what, field)


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
        what = f"no CRD defines {item.id.api_version} {item.id.kind}: neither Kubernetes nor a chart has one"
        say(what, "apiVersion", fix="install what defines it, or take it out of the values")
