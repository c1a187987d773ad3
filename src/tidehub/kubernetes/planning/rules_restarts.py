"""Which parts would restart, why, and what users notice of it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from tidehub.kubernetes.planning.diff import FieldChange
from tidehub.kubernetes.planning.facts import Facts
from tidehub.kubernetes.planning.model import Finding
from tidehub.kubernetes.planning.observe import Observation
from tidehub.kubernetes.planning.paths import Entry, write

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet")
TEMPLATE = ("spec", "template")
_PARTS: Mapping[tuple[str, str], tuple[str, str]] = {
    ("jupyterhub", "hub"): (
        "the hub",
        "Running servers and Dask clusters go on. For about a minute nobody can sign in or start a server.",
    ),
    ("jupyterhub", "proxy"): (
        "the proxy",
        "Servers and Dask clusters go on. Open pages lose their connection for some seconds and come back.",
    ),
    ("jupyterhub", "autohttps"): (
        "the part that has the certificate",
        "Servers and Dask clusters go on. The address does not answer for some seconds.",
    ),
    ("jupyterhub", "continuous-image-puller"): (
        "what pulls images ahead",
        "Users notice nothing: each node pulls the images anew.",
    ),
    ("dask-gateway", "gateway"): (
        "the gateway's server",
        "Dask clusters go on. For some seconds none can be started, scaled or stopped.",
    ),
    ("dask-gateway", "controller"): (
        "the gateway's controller",
        "Dask clusters go on. New ones, and new workers, wait for some seconds.",
    ),
    ("dask-gateway", "traefik"): (
        "the gateway's proxy",
        "Dask clusters go on. Notebooks lose their connection to them for some seconds.",
    ),
}
"""By chart and component: what it is called, and what users notice."""


def findings(facts: Facts) -> Iterator[Finding]:
    """One for every workload whose pods would be replaced."""
    for one in facts.of_kind(*WORKLOADS):
        if one.live is None or one.subject.new is None or not (changes := template_changes(one.changes)):
            continue
        name, means = part_of(one)
        what = f"{name[0].upper()}{name[1:]} restarts because {reason(changes)}."
        yield Finding("restart", "notice", what, means, objects=(one.subject.id,))


def template_changes(changes: tuple[FieldChange, ...]) -> tuple[FieldChange, ...]:
    """Those that replace pods: changes of the template of their pods."""
    return tuple(change for change in changes if change.path[:2] == TEMPLATE or change.path == ("spec",))


def part_of(one: Observation) -> tuple[str, str]:
    """What a workload is called, and what users notice of its restart."""
    obj = one.subject.new or one.live or {}
    template = ((obj.get("spec") or {}).get("template") or {}).get("metadata") or {}
    labels = {**((obj.get("metadata") or {}).get("labels") or {}), **(template.get("labels") or {})}
    component = labels.get("app.kubernetes.io/component") or labels.get("component") or ""
    chart = str(labels.get("app") or labels.get("app.kubernetes.io/name") or "")
    found = _PARTS.get((chart, str(component)))
    return found or (f"{one.subject.id}", "Its pods are replaced one after the other.")


def reason(changes: tuple[FieldChange, ...]) -> str:
    """Why pods are replaced, in words: an image, the configuration, or the fields."""
    images = [
        change
        for change in changes
        if change.path[-1] == "image" and change.kind == "changed" and isinstance(change.new, str)
    ]
    if len(images) == 1:
        return f"its image changes from {images[0].old} to {images[0].new}"
    if images:
        return f"its images change to {' and '.join(dict.fromkeys(str(one.new) for one in images))}"
    rest = [change for change in changes if not is_checksum(change) and not _is_label(change)]
    if not rest:
        checksums = any(is_checksum(change) for change in changes)
        return "its configuration changed" if checksums else "the labels of its pods change"
    shown = [_short(change) for change in rest[:3]]
    more = f" and {len(rest) - 3} more" if len(rest) > 3 else ""
    changed = "change" if len(rest) > 1 else "changes"
    return f"{', '.join(shown)}{more} {changed}"


def is_checksum(change: FieldChange) -> bool:
    """Whether it only says that something else changed."""
    return any(isinstance(part, str) and part.startswith("checksum") for part in change.path)


def _is_label(change: FieldChange) -> bool:
    return change.path[2:4] == ("metadata", "labels")


def _short(change: FieldChange) -> str:
    """A path within a pod's template, from its last container or volume on."""
    path = change.path[2:]
    if len(path) > 1 and path[0] in ("spec", "metadata"):
        path = path[1:]
    if len(path) > 2 and path[0] in ("containers", "initContainers") and isinstance(path[1], Entry):
        return f"{write(path[2:])} of {path[1]}"
    return write(path)
