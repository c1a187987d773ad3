"""What is wrong with rendered objects, found without a cluster. Pure.

An API server has the last word (`plan` asks it); what is found here is found before anybody is asked, and by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from tidehub.errors import TidehubError
from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.rendering import (
    check_custom,
    check_fields,
    check_pods,
    check_references,
    check_secrets,
)
from tidehub.kubernetes.rendering.capabilities import REMOVED
from tidehub.kubernetes.rendering.flaw import Flaw, Item, Report
from tidehub.kubernetes.rendering.model import Rendered

__all__ = ["Flaw", "RenderError", "check", "refuse"]

LARGEST_CONFIG = 1024 * 1024
"""Bytes that a ConfigMap or Secret may hold (pkg/apis/core/types.go, MaxSecretSize)."""


class RenderError(TidehubError):
    """Rendered objects that no cluster would take, or that show a secret. `flaws` holds them all."""

    def __init__(self, flaws: Iterable[Flaw]) -> None:
        self.flaws = tuple(flaws)
        errors = [flaw for flaw in self.flaws if flaw.severity == "error"]
        count = "1 error" if len(errors) == 1 else f"{len(errors)} errors"
        super().__init__(f"the rendered objects cannot be used ({count})")

    def __str__(self) -> str:
        return "\n".join([self.what, *(str(flaw) for flaw in self.flaws)])


def check(rendered: Rendered, *, served: Iterable[str] | None = None) -> list[Flaw]:
    """Everything found, errors first. `served` are the cluster's API versions (`Cluster.api_versions`)."""
    items = list(_items(rendered))
    found: list[Flaw] = []
    known = None if served is None else frozenset(served)
    per_item: list[Callable[[Item, Report], None]] = [
        check_fields.check,
        check_pods.check,
        lambda item, say: _version(item, say, rendered.kube_version),
        lambda item, say: _namespace(item, say, rendered.platform.namespace),
        _size,
    ]
    for item in items:
        say = _reporter(found, item)
        for one in per_item:
            one(item, say)
    _duplicates(items, found)
    check_custom.check(rendered, items, known, lambda item: _reporter(found, item))
    check_references.check(items, lambda item: _reporter(found, item))
    check_secrets.check(rendered, items, lambda item: _reporter(found, item), found)
    return sorted(found, key=lambda flaw: flaw.severity != "error")


def refuse(flaws: Iterable[Flaw]) -> list[Flaw]:
    """The warnings. Raises `RenderError` where there is an error among the flaws."""
    found = list(flaws)
    if any(flaw.severity == "error" for flaw in found):
        raise RenderError(found)
    return found


def _items(rendered: Rendered) -> Iterator[Item]:
    namespace = rendered.platform.namespace
    for source, obj in rendered.everything():
        yield Item(source, identify(obj, namespace), obj)
    for one in rendered.releases:
        for hook in one.hooks:
            yield Item(one.release.name, identify(hook, namespace), hook, hook=True)


def _reporter(found: list[Flaw], item: Item) -> Report:
    def say(what: str, field: str = "", *, fix: str | None = None, warning: bool = False) -> None:
        flaw = Flaw("warning" if warning else "error", what, item.source, item.id, field, fix)
        if flaw not in found:
            found.append(flaw)

    return say


def _version(item: Item, say: Report, kube_version: str) -> None:
    known = REMOVED.get((item.id.api_version, item.id.kind))
    if known is None:
        return
    (major, minor), instead = known
    numbers = [part for part in kube_version.lstrip("v").split(".")[:2] if part.isdigit()]
    if [int(part) for part in numbers] >= [major, minor]:
        say(
            f"{item.id.api_version} was removed in Kubernetes {major}.{minor}; this is {kube_version}",
            "apiVersion",
            fix=f"{instead} replaces it: take a newer chart",
        )


def _namespace(item: Item, say: Report, namespace: str) -> None:
    if item.id.namespace not in (None, namespace):
        say(
            f"it goes into the namespace {item.id.namespace}, not {namespace}",
            "metadata.namespace",
            fix="that namespace has to exist, with the permission to write into it",
            warning=True,
        )
    if item.id.kind in ("ClusterRoleBinding", "RoleBinding"):
        for index, subject in enumerate(item.obj.get("subjects") or []):
            account = isinstance(subject, dict) and subject.get("kind") == "ServiceAccount"
            if account and not subject.get("namespace") and item.id.kind == "ClusterRoleBinding":
                say("a service account is named without its namespace", f"subjects[{index}].namespace")


def _size(item: Item, say: Report) -> None:
    if item.id.kind not in ("ConfigMap", "Secret"):
        return
    size = 0
    for part in ("data", "binaryData", "stringData"):
        for key, value in (item.obj.get(part) or {}).items():
            text = value if isinstance(value, str) else ""
            encoded = part == "binaryData" or (item.id.kind == "Secret" and part == "data")
            size += len(text) * 3 // 4 if encoded else len(text.encode())
            size += len(str(key)) if item.id.kind == "ConfigMap" else 0
    if size > LARGEST_CONFIG:
        say(f"it holds {size} bytes, and {LARGEST_CONFIG} is the most", "data")


def _duplicates(items: list[Item], found: list[Flaw]) -> None:
    counted = Counter(item.id for item in items if not item.hook)
    sources: dict[ObjectId, list[Item]] = {}
    for item in items:
        if not item.hook:
            sources.setdefault(item.id, []).append(item)
    for identity, count in counted.items():
        if count < 2 or (identity.kind == "CustomResourceDefinition" and _same(sources[identity])):
            continue
        brought = sorted({item.source for item in sources[identity]})
        say = _reporter(found, sources[identity][0])
        say(f"it is rendered {count} times, by {' and '.join(brought)}", "metadata.name")


def _same(items: list[Item]) -> bool:
    first: Object = items[0].obj
    return all(item.obj == first for item in items)
