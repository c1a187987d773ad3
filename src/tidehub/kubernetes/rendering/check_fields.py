"""Names, labels, ports, enumerations and sizes of single objects, by the API's own rules. Pure.

Rules: apimachinery/pkg/util/validation and pkg/apis/core/validation of Kubernetes 1.34.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tidehub.kubernetes.rendering.flaw import Item, Report

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
_NAME_PART = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_KEY = re.compile(r"[-._a-zA-Z0-9]+")
_QUANTITY = re.compile(
    r"[+-]?([0-9]+|[0-9]+\.[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+|Ki|Mi|Gi|Ti|Pi|Ei|[numkMGTPE])?"
)
_PATHS = frozenset({"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
"""Kinds whose names are path segments: everything but `/` and `%`."""
_LABEL_KINDS = frozenset({"Namespace"})
_MULTIPLES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    **{suffix: 1000.0 ** (at + 1) for at, suffix in enumerate("kMGTPE")},
    **{f"{suffix}i": 1024.0 ** (at + 1) for at, suffix in enumerate("KMGTPE")},
}
PORT_NAMES = re.compile(r"(?=.*[a-z])[a-z0-9](?!.*--)[-a-z0-9]{0,13}[a-z0-9]|[a-z]")
"""IANA service names, at most 15 characters."""
_ENUMS: dict[str, dict[str, tuple[str, ...]]] = {
    "Service": {
        "spec.type": ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
        "spec.sessionAffinity": ("None", "ClientIP"),
        "spec.externalTrafficPolicy": ("Cluster", "Local"),
        "spec.internalTrafficPolicy": ("Cluster", "Local"),
        "spec.ipFamilyPolicy": ("SingleStack", "PreferDualStack", "RequireDualStack"),
    },
    "Deployment": {"spec.strategy.type": ("Recreate", "RollingUpdate")},
    "StatefulSet": {
        "spec.updateStrategy.type": ("OnDelete", "RollingUpdate"),
        "spec.podManagementPolicy": ("OrderedReady", "Parallel"),
    },
    "DaemonSet": {"spec.updateStrategy.type": ("OnDelete", "RollingUpdate")},
    "CronJob": {"spec.concurrencyPolicy": ("Allow", "Forbid", "Replace")},
    "PersistentVolumeClaim": {"spec.volumeMode": ("Filesystem", "Block")},
}
_ACCESS_MODES = ("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod")
_PATH_TYPES = ("Prefix", "Exact", "ImplementationSpecific")
PROTOCOLS = ("TCP", "UDP", "SCTP")


def amount(quantity: Any) -> float | None:
    """A Kubernetes quantity as a number; None for what is none."""
    text = str(quantity) if isinstance(quantity, (str, int, float)) and not isinstance(quantity, bool) else ""
    matched = _QUANTITY.fullmatch(text)
    if not matched:
        return None
    suffix = matched[2] or ""
    if suffix[:1] in ("e", "E") and len(suffix) > 1:
        return float(text)
    return float(text[: len(text) - len(suffix)]) * _MULTIPLES[suffix]


def is_quantity(value: Any) -> bool:
    """Whether the API takes it for a quantity."""
    return amount(value) is not None


def is_port(value: Any) -> bool:
    """Whether it is a number of a port."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536


def is_label(value: Any) -> bool:
    """Whether it is a DNS label, as names of containers, volumes and namespaces are."""
    return isinstance(value, str) and len(value) < 64 and _LABEL.fullmatch(value) is not None


def check(item: Item, say: Report) -> None:
    """Fields that every object has, and those of its kind."""
    _name(item, say)
    _metadata(item, say)
    for path, allowed in _ENUMS.get(item.id.kind, {}).items():
        value = at(item.obj, path)
        if value is not None and value not in allowed:
            say(f"{value!r} is not one of {', '.join(allowed)}", path)
    by_kind = {
        "Service": _service,
        "Ingress": _ingress,
        "ConfigMap": _keys,
        "Secret": _keys,
        "PersistentVolumeClaim": _pvc,
        "NetworkPolicy": _policy,
        "PodDisruptionBudget": _budget,
    }
    rule = by_kind.get(item.id.kind)
    if rule is not None:
        rule(item, say)


def at(value: Any, path: str) -> Any:
    """What stands at a dotted path of mappings; None where there is nothing."""
    for part in path.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _name(item: Item, say: Report) -> None:
    name, kind = item.id.name, item.id.kind
    if not name:
        if not at(item.obj, "metadata.generateName"):
            say("it has no name", "metadata.name")
        return
    if kind in _PATHS:
        fits, words = name not in (".", "..") and not set(name) & {"/", "%"}, "a name without / and %"
    elif kind in ("Service", *_LABEL_KINDS):
        pattern = _SERVICE if kind == "Service" else _LABEL
        fits = len(name) < 64 and pattern.fullmatch(name) is not None
        words = "lower-case letters, digits and -, at most 63"
    else:
        fits = len(name) < 254 and _SUBDOMAIN.fullmatch(name) is not None
        words = "lower-case letters, digits, - and ., at most 253"
    if not fits:
        say(f"{name!r} is not a name for a {kind}: it takes {words}", "metadata.name")


def _metadata(item: Item, say: Report) -> None:
    meta = item.obj.get("metadata") or {}
    for part in ("labels", "annotations"):
        size = 0
        for key, value in (meta.get(part) or {}).items():
            field = f"metadata.{part}.{key}"
            prefix, slash, name = str(key).rpartition("/")
            if len(name) > 63 or not _NAME_PART.fullmatch(name):
                say(f"{key!r} is not a key of a {part[:-1]}", field)
            elif slash and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix.lower())):
                say(f"{prefix!r} before / is not a name of a domain", field)
            if not isinstance(value, str):
                say(f"{value!r} is not text", field, fix="put it between quotation marks")
            elif part == "labels" and (len(value) > 63 or not _VALUE.fullmatch(value)):
                say(f"{value!r} is not a value of a label", field)
            size += len(str(key)) + len(str(value))
        if part == "annotations" and size > 256 * 1024:
            say(f"the annotations hold {size} characters, and 262144 is the most", "metadata.annotations")


def _service(item: Item, say: Report) -> None:
    ports = at(item.obj, "spec.ports") or []
    if not ports and at(item.obj, "spec.type") != "ExternalName" and at(item.obj, "spec.clusterIP") != "None":
        say("it has no port", "spec.ports")
    names = [port.get("name") for port in ports]
    for index, port in enumerate(ports):
        field = f"spec.ports[{index}]"
        if not is_port(port.get("port")):
            say(f"{port.get('port')!r} is not a port: 1 to 65535", f"{field}.port")
        node = port.get("nodePort")
        if node is not None and not is_port(node):
            say(f"{node!r} is not a port: 1 to 65535", f"{field}.nodePort")
        check_target(port.get("targetPort"), f"{field}.targetPort", say)
        if port.get("protocol", "TCP") not in PROTOCOLS:
            say(f"{port['protocol']!r} is not one of {', '.join(PROTOCOLS)}", f"{field}.protocol")
        if len(ports) > 1 and (not is_label(port.get("name")) or names.count(port.get("name")) > 1):
            say("several ports need a name each, all different", f"{field}.name")


def check_target(target: Any, field: str, say: Report) -> None:
    """A port by number or by name; None where it is left out."""
    wrong_name = isinstance(target, str) and (len(target) > 15 or not PORT_NAMES.fullmatch(target))
    if target is not None and not is_port(target) and (not isinstance(target, str) or wrong_name):
        say(f"{target!r} is not a port: 1 to 65535, or a name of at most 15 characters", field)


def _ingress(item: Item, say: Report) -> None:
    for index, rule in enumerate(at(item.obj, "spec.rules") or []):
        host = rule.get("host")
        if host and not _SUBDOMAIN.fullmatch(str(host).removeprefix("*.")):
            say(f"{host!r} is not a name of a host", f"spec.rules[{index}].host")
        for number, path in enumerate(at(rule, "http.paths") or []):
            field = f"spec.rules[{index}].http.paths[{number}]"
            if item.id.api_version == "networking.k8s.io/v1" and path.get("pathType") not in _PATH_TYPES:
                say(f"{path.get('pathType')!r} is not one of {', '.join(_PATH_TYPES)}", f"{field}.pathType")
            if not str(path.get("path") or "/").startswith("/"):
                say("a path begins with /", f"{field}.path")
    named = at(item.obj, "spec.ingressClassName")
    noted = (at(item.obj, "metadata.annotations") or {}).get("kubernetes.io/ingress.class")
    if named and noted and named != noted:
        say(f"its class is {named}, and by annotation {noted}", "spec.ingressClassName")


def _keys(item: Item, say: Report) -> None:
    for part in ("data", "binaryData", "stringData"):
        for key, value in (item.obj.get(part) or {}).items():
            if len(str(key)) > 253 or not _KEY.fullmatch(str(key)):
                say(f"{key!r} is not a key of a {item.id.kind}", part)
            if not isinstance(value, str):
                say("it is not text", f"{part}.{key}", fix="put it between quotation marks")


def _pvc(item: Item, say: Report) -> None:
    size = (at(item.obj, "spec.resources.requests") or {}).get("storage")
    if not is_quantity(size) or not amount(size):
        say(f"{size!r} is not a size", "spec.resources.requests.storage")
    modes = at(item.obj, "spec.accessModes") or []
    if not modes or not set(modes) <= set(_ACCESS_MODES):
        say(f"{modes!r} holds none, or others than {', '.join(_ACCESS_MODES)}", "spec.accessModes")


def _policy(item: Item, say: Report) -> None:
    types = at(item.obj, "spec.policyTypes") or []
    if not set(types) <= {"Ingress", "Egress"}:
        say(f"{types!r} holds others than Ingress and Egress", "spec.policyTypes")
    for direction in ("ingress", "egress"):
        for index, rule in enumerate(at(item.obj, f"spec.{direction}") or []):
            for number, port in enumerate((rule or {}).get("ports") or []):
                field = f"spec.{direction}[{index}].ports[{number}]"
                check_target(port.get("port"), f"{field}.port", say)
                if port.get("protocol", "TCP") not in PROTOCOLS:
                    say(f"{port['protocol']!r} is not one of {', '.join(PROTOCOLS)}", f"{field}.protocol")


def _budget(item: Item, say: Report) -> None:
    spec = item.obj.get("spec") or {}
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        say("minAvailable and maxUnavailable exclude each other", "spec")
