"""Pods and what makes them: containers, images, resources, volumes, selectors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.check_fields import (
    PROTOCOLS,
    amount,
    at,
    check_target,
    is_label,
    is_port,
    is_quantity,
)
from tidehub.kubernetes.rendering.flaw import Item, Report

_TEMPLATES = {
    "Pod": "spec",
    "Deployment": "spec.template.spec",
    "ReplicaSet": "spec.template.spec",
    "StatefulSet": "spec.template.spec",
    "DaemonSet": "spec.template.spec",
    "Job": "spec.template.spec",
    "CronJob": "spec.jobTemplate.spec.template.spec",
}
_WITH_SELECTOR = ("Deployment", "ReplicaSet", "StatefulSet", "DaemonSet")
_PULL = ("Always", "IfNotPresent", "Never")
_RESTART = {
    "Job": ("OnFailure", "Never"),
    "CronJob": ("OnFailure", "Never"),
    "Pod": ("Always", "OnFailure", "Never"),
}
_IMAGE = re.compile(
    r"(?P<name>[a-zA-Z0-9]([-a-zA-Z0-9.]*[a-zA-Z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*)"
    r"(:(?P<tag>\w[\w.-]{0,127}))?(?P<digest>@sha256:[0-9a-f]{64})?"
)
_ENV = re.compile(r"[-._a-zA-Z][-._a-zA-Z0-9]*")


def pod_spec(obj: Object) -> tuple[str, Mapping[str, Any]] | None:
    """Where the pods of an object are described, and how; None for what makes none."""
    path = _TEMPLATES.get(str(obj.get("kind")))
    spec = at(obj, path) if path else None
    return (path, spec) if path and isinstance(spec, Mapping) else None


def containers(path: str, spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every container with the path that leads to it, those before the others first."""
    for part in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(part) or []):
            if isinstance(container, Mapping):
                yield f"{path}.{part}[{index}]", container


def check(item: Item, say: Report) -> None:
    """The pods of one object."""
    found = pod_spec(item.obj)
    if item.id.kind in _WITH_SELECTOR:
        _selector(item, say)
    if found is None:
        if item.id.kind in _TEMPLATES:
            say("it describes no pod", _TEMPLATES[item.id.kind])
        return
    path, spec = found
    allowed = _RESTART.get(item.id.kind, ("Always",))
    policy = spec.get("restartPolicy", "Always")
    if policy not in allowed:
        say(f"{policy!r} is not one of {', '.join(allowed)}", f"{path}.restartPolicy")
    _volumes(path, spec, say)
    every = list(containers(path, spec))
    names = [container.get("name") for _, container in every]
    if not spec.get("containers"):
        say("it has no container", f"{path}.containers")
    told: set[str] = set()
    for where, container in every:
        if not is_label(container.get("name")) or names.count(container.get("name")) > 1:
            say(
                f"{container.get('name')!r} is not a name of a container, or not the only one",
                f"{where}.name",
            )
        _image(where, container, say, told)
        _resources(where, container, say)
        _ports(where, container, say)
        _environment(where, container, say)


def _selector(item: Item, say: Report) -> None:
    wanted = at(item.obj, "spec.selector.matchLabels") or {}
    labels = at(item.obj, "spec.template.metadata.labels") or {}
    if not wanted and not at(item.obj, "spec.selector.matchExpressions"):
        say("it selects no pods", "spec.selector")
    elif any(labels.get(key) != value for key, value in wanted.items()):
        say("it does not select its own pods", "spec.selector.matchLabels")


def _volumes(path: str, spec: Mapping[str, Any], say: Report) -> None:
    names = [volume.get("name") for volume in spec.get("volumes") or []]
    for index, volume in enumerate(spec.get("volumes") or []):
        where = f"{path}.volumes[{index}]"
        if not is_label(volume.get("name")) or names.count(volume.get("name")) > 1:
            say(f"{volume.get('name')!r} is not a name of a volume, or not the only one", f"{where}.name")
        limit = at(volume, "emptyDir.sizeLimit")
        if limit is not None and not is_quantity(limit):
            say(f"{limit!r} is not a size", f"{where}.emptyDir.sizeLimit")
    for where, container in containers(path, spec):
        for index, mount in enumerate(container.get("volumeMounts") or []):
            if mount.get("name") not in names:
                say(f"the volume {mount.get('name')!r} does not exist", f"{where}.volumeMounts[{index}].name")


def _image(where: str, container: Mapping[str, Any], say: Report, told: set[str]) -> None:
    """`told` are the images of this pod that were warned about already."""
    image = container.get("image")
    matched = _IMAGE.fullmatch(image) if isinstance(image, str) else None
    if matched is None:
        say(f"{image!r} is not an image", f"{where}.image")
    elif not matched["digest"] and matched["tag"] in (None, "latest") and str(image) not in told:
        told.add(str(image))
        what = "has no tag" if matched["tag"] is None else "has the tag latest"
        fix = "name a tag that stays: what runs changes without notice otherwise"
        say(f"the image {image} {what}", f"{where}.image", fix=fix, warning=True)
    policy = container.get("imagePullPolicy")
    if policy is not None and policy not in _PULL:
        say(f"{policy!r} is not one of {', '.join(_PULL)}", f"{where}.imagePullPolicy")


def _resources(where: str, container: Mapping[str, Any], say: Report) -> None:
    asked, limits = (at(container, f"resources.{part}") or {} for part in ("requests", "limits"))
    for part, stated in (("requests", asked), ("limits", limits)):
        for name, value in stated.items():
            if (found := amount(value)) is None or found < 0:
                say(f"{value!r} is not a quantity", f"{where}.resources.{part}.{name}")
    for name, value in asked.items():
        wanted, limit = amount(value), amount(limits.get(name))
        if wanted is not None and limit is not None and wanted > limit:
            say(f"{value} is more than the limit {limits[name]}", f"{where}.resources.requests.{name}")


def _ports(where: str, container: Mapping[str, Any], say: Report) -> None:
    names = [port.get("name") for port in container.get("ports") or [] if port.get("name")]
    for index, port in enumerate(container.get("ports") or []):
        field = f"{where}.ports[{index}]"
        if not is_port(port.get("containerPort")):
            say(f"{port.get('containerPort')!r} is not a port: 1 to 65535", f"{field}.containerPort")
        if port.get("protocol", "TCP") not in PROTOCOLS:
            say(f"{port['protocol']!r} is not one of {', '.join(PROTOCOLS)}", f"{field}.protocol")
        if port.get("name"):
            check_target(port["name"], f"{field}.name", say)
            if names.count(port["name"]) > 1:
                say(f"two ports are named {port['name']}", f"{field}.name")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        target = at(container, f"{probe}.httpGet.port")
        field = f"{where}.{probe}.httpGet.port"
        check_target(target, field, say)
        if isinstance(target, str) and target not in names:
            say(f"the container has no port {target}", field)


def _environment(where: str, container: Mapping[str, Any], say: Report) -> None:
    for index, variable in enumerate(container.get("env") or []):
        field = f"{where}.env[{index}]"
        name, value = variable.get("name"), variable.get("value")
        if not isinstance(name, str) or not _ENV.fullmatch(name):
            say(f"{name!r} is not a name of a variable", f"{field}.name")
        if value is not None and not isinstance(value, str):
            say(f"the value of {name} is not text", f"{field}.value", fix="put it between quotation marks")
        if value and variable.get("valueFrom"):
            say(f"{name} has a value, and one from elsewhere", field)
