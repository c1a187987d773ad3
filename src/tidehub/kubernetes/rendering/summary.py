"""What `tidehub render` says of a rendering: as text, for `--json`, and single objects for `--show`. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tidehub.errors import UsageError
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.flaw import Flaw
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease

OWN = "tidehub"
"""What stands for a release's name before objects that no chart renders."""


def lines(rendered: Rendered, flaws: Iterable[Flaw], written: Path | None) -> list[str]:
    """A few lines: where, what, what is wrong with it."""
    platform = rendered.platform
    versions = f"release set {platform.release_set}, Kubernetes {rendered.kube_version}"
    found = [f"{platform.site.site.name}: namespace {platform.namespace}, model {platform.model}, {versions}"]
    for one in rendered.releases:
        crds = f", {len(one.crds)} CRDs" if one.crds else ""
        hooks = f", {len(one.hooks)} hooks" if one.hooks else ""
        chart = f"{one.release.chart} {one.release.version}"
        found.append(f"  {one.release.name}: chart {chart}, {len(one.objects)} objects{hooks}{crds}")
    if rendered.objects:
        counted = Counter(str(obj["kind"]) for obj in rendered.objects)
        own = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items()))
        found.append(f"  beside the charts: {own}")
    found += [str(flaw) for flaw in flaws]
    if written is not None:
        found.append(f"Written to {written}; its README.md says how to install with helm and kubectl alone.")
    else:
        found.append("Nothing is written: name a folder with --output.")
    return found


def as_dict(rendered: Rendered, flaws: Iterable[Flaw], written: Path | None) -> dict[str, Any]:
    """For `--json`. No object's content is in it."""
    platform = rendered.platform
    return {
        "site": platform.site.site.name,
        "namespace": platform.namespace,
        "release_set": platform.release_set,
        "model": platform.model,
        "kube_version": rendered.kube_version,
        "releases": [_release(one) for one in rendered.releases],
        "objects": [_named(obj) for obj in rendered.objects],
        "flaws": [flaw.as_dict() for flaw in flaws],
        "folder": str(written) if written else None,
    }


def shown(rendered: Rendered, wanted: str) -> list[Object]:
    """The objects that `RELEASE`, `RELEASE/KIND` or `RELEASE/KIND/NAME` names; `tidehub` for those beside the charts.

    Raises `UsageError` with what there is instead.
    """
    name, _, rest = wanted.partition("/")
    kind, _, obj_name = rest.partition("/")
    groups: dict[str, tuple[Object, ...]] = {
        one.release.name: (*one.objects, *one.hooks) for one in rendered.releases
    }
    groups[OWN] = rendered.objects
    if name not in groups:
        raise UsageError(f"the release {name!r} does not exist", expected=f"one of {', '.join(groups)}")
    found = [
        obj
        for obj in groups[name]
        if (not kind or str(obj["kind"]).lower() == kind.lower())
        and (not obj_name or obj["metadata"].get("name") == obj_name)
    ]
    if not found:
        near = [obj for obj in groups[name] if str(obj["kind"]).lower() == kind.lower()] or groups[name]
        raise UsageError(
            f"{name} renders no {wanted.partition('/')[2] or 'object'}",
            expected=f"one of {', '.join(_paths(name, near))}" if near else None,
        )
    return found


def _release(one: RenderedRelease) -> dict[str, Any]:
    return {
        "name": one.release.name,
        "chart": one.release.chart,
        "version": one.release.version,
        "sha256": one.archive.sha256,
        "objects": [_named(obj) for obj in one.objects],
        "hooks": [_named(obj) for obj in one.hooks],
        "crds": [str(crd["metadata"]["name"]) for crd in one.crds],
    }


def _named(obj: Object) -> str:
    return f"{obj['kind']}/{obj['metadata'].get('name', '')}"


def _paths(release: str, objects: Iterable[Object]) -> Iterator[str]:
    seen = sorted({f"{release}/{_named(obj)}" for obj in objects})
    yield from seen[:12]
    if len(seen) > 12:
        yield f"and {len(seen) - 12} more"
