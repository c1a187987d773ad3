"""Objects in the form in which two of them can be compared. Pure.

What the server keeps the books in is left out, and what may be written in several ways is written in one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.planning.quantities import canonical

_SERVER_OWNED = frozenset(
    {
        "creationTimestamp", "deletionGracePeriodSeconds", "deletionTimestamp", "generation", "managedFields",
        "resourceVersion", "selfLink", "uid",
    }
)  # fmt: skip
"""Fields of metadata that only the server writes."""
_BOOKKEEPING = (
    "meta.helm.sh/",
    "deployment.kubernetes.io/revision",
    "deprecated.daemonset.template.generation",
    "kubectl.kubernetes.io/last-applied-configuration",
    "tidehub/digest",
)
"""Annotations by which Helm, controllers, kubectl and tidehub keep their books. kubectl's repeats the whole object."""
_AMOUNTS = frozenset({"requests", "limits", "capacity", "hard", "overhead"})
"""Mappings whose values are quantities, wherever they stand in an object of the built-in kinds."""
_AMOUNT = frozenset({"sizeLimit"})


def normal(obj: Object) -> Object:
    """The object without what the server owns, nulls left out, quantities and Secrets in one writing."""
    found: Object = {key: value for key, value in obj.items() if key != "status"}
    found["metadata"] = _metadata(obj.get("metadata") or {})
    if obj.get("kind") == "Secret" and obj.get("apiVersion") == "v1":
        found["data"] = _secret_data(obj)
        found.pop("stringData", None)
    return {key: _value(value, key) for key, value in found.items() if value is not None}


def _metadata(meta: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: value for key, value in meta.items() if key not in _SERVER_OWNED}
    annotations = {
        key: value
        for key, value in (meta.get("annotations") or {}).items()
        if not key.startswith(_BOOKKEEPING)
    }
    found.pop("annotations", None)
    if annotations:
        found["annotations"] = annotations
    if not found.get("labels"):
        found.pop("labels", None)
    return found


def _secret_data(obj: Object) -> dict[str, str]:
    """A Secret's data as the server has it: `stringData` is written over `data`, in base64 without line breaks."""
    data = {key: "".join(str(value or "").split()) for key, value in (obj.get("data") or {}).items()}
    for key, text in (obj.get("stringData") or {}).items():
        data[key] = base64.b64encode(str(text).encode()).decode()
    return data


def _value(value: Any, key: str) -> Any:
    if isinstance(value, Mapping):
        if key in _AMOUNTS:
            return {name: canonical(each) for name, each in value.items() if each is not None}
        return {name: _value(each, name) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_value(each, "") for each in value]
    return canonical(value) if key in _AMOUNT else value
