"""What objects name of each other: services of an Ingress, pods of a service, Secrets and ConfigMaps of pods. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tidehub.kubernetes.rendering.check_fields import at
from tidehub.kubernetes.rendering.check_pods import containers, pod_spec
from tidehub.kubernetes.rendering.flaw import Item, Report

_FIX = "make it before the deployment, or correct the name"


def check(items: Sequence[Item], reporter: Callable[[Item], Report]) -> None:
    """Names that lead nowhere in what is rendered. What others make (a certificate's Secret) is not looked for."""
    there = {(item.id.kind, item.id.namespace, item.id.name): item for item in items}
    for item in items:
        say = reporter(item)
        if item.id.kind == "Ingress":
            _backends(item, there, say)
        elif item.id.kind == "Service":
            _selected(item, items, say)
        found = pod_spec(item.obj)
        if found is not None:
            for kind, name, key, field in _needed(*found):
                other = there.get((kind, item.id.namespace, name))
                if other is None:
                    say(f"it needs the {kind} {name}, which is not rendered", field, fix=_FIX, warning=True)
                elif key is not None and not _has_key(other, key):
                    say(f"the {kind} {name} has no {key}", field)


def _backends(item: Item, there: Mapping[tuple[str, str | None, str], Item], say: Report) -> None:
    for index, rule in enumerate(at(item.obj, "spec.rules") or []):
        for number, path in enumerate(at(rule, "http.paths") or []):
            field = f"spec.rules[{index}].http.paths[{number}].backend"
            backend = path.get("backend") or {}
            name = at(backend, "service.name") or backend.get("serviceName")
            port = at(backend, "service.port.name") or at(backend, "service.port.number")
            service = there.get(("Service", item.id.namespace, str(name)))
            if service is None:
                say(f"it leads to the service {name}, which is not rendered", field)
            elif port is not None and not any(
                port in (one.get("name"), one.get("port")) for one in at(service.obj, "spec.ports") or []
            ):
                say(f"the service {name} has no port {port}", field)


def _selected(item: Item, items: Sequence[Item], say: Report) -> None:
    wanted = at(item.obj, "spec.selector")
    if not wanted:
        return
    matching = [
        found
        for other in items
        if other.id.namespace == item.id.namespace and (found := pod_spec(other.obj)) is not None
        if _matches(other, wanted)
    ]
    if not matching:
        say("it leads to no pods that are rendered", "spec.selector", warning=True)
        return
    named = {
        port.get("name")
        for path, spec in matching
        for _, container in containers(path, spec)
        for port in container.get("ports") or []
    }
    for index, port in enumerate(at(item.obj, "spec.ports") or []):
        target = port.get("targetPort")
        if isinstance(target, str) and target not in named:
            say(f"its pods have no port named {target}", f"spec.ports[{index}].targetPort")


def _matches(item: Item, wanted: Mapping[str, Any]) -> bool:
    path = "metadata.labels" if item.id.kind == "Pod" else "spec.template.metadata.labels"
    labels = at(item.obj, path) or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def _needed(path: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, str, str | None, str]]:
    """Kind, name, key and field of what pods cannot start without."""
    for index, volume in enumerate(spec.get("volumes") or []):
        where = f"{path}.volumes[{index}]"
        for kind, part, name in (("Secret", "secret", "secretName"), ("ConfigMap", "configMap", "name")):
            source = volume.get(part)
            if isinstance(source, Mapping) and not source.get("optional") and source.get(name):
                yield kind, str(source[name]), None, f"{where}.{part}.{name}"
        pvc = at(volume, "persistentVolumeClaim.claimName")
        if pvc:
            yield "PersistentVolumeClaim", str(pvc), None, f"{where}.persistentVolumeClaim.claimName"
    for where, container in containers(path, spec):
        for index, variable in enumerate(container.get("env") or []):
            for kind, part in (("Secret", "secretKeyRef"), ("ConfigMap", "configMapKeyRef")):
                source = at(variable, f"valueFrom.{part}")
                if isinstance(source, Mapping) and not source.get("optional"):
                    key = str(source["key"]) if source.get("key") else None
                    yield kind, str(source.get("name")), key, f"{where}.env[{index}].valueFrom.{part}"


def _has_key(item: Item, key: str) -> bool:
    return any(key in (item.obj.get(part) or {}) for part in ("data", "stringData", "binaryData"))
