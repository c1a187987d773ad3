"""Container images: whether nodes will find them, run on their kind of machine, and what users' images carry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.preflight.edges.network import NoAnswer
from tidehub.kubernetes.preflight.edges.registry import ImageFacts, Registries, parse
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.workloads import containers, workloads
from tidehub.site import charts
from tidehub.site.charts import hub_chart

_SIDE_BY_SIDE = 6
_UNREACHED = "registry"
_MOVED = {"k8s.gcr.io": "registry.k8s.io"}
"""Registries that ended, and what took their place: https://kubernetes.io/blog/2023/02/06/k8s-gcr-io-freeze-announcement/"""
_TOLD = ("jupyterhub", "distributed", "dask", "dask-gateway")


def images(context: Context) -> list[Finding]:
    """Every image of the platform and of its users."""
    users, platform = _of_users(context), _of_platform(context)
    every = list(dict.fromkeys([*users, *platform]))
    registries = Registries(context.network)
    architectures = _architectures(context)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        findings = list(
            pool.map(lambda one: _image(context, registries, one, one in users, architectures), every)
        )
    good = [one for one in findings if one.state == "ok" and one.item == "image"]
    unreached = [one for one in findings if one.item == _UNREACHED]
    rest = [one for one in findings if one not in good and one not in unreached]
    for why in dict.fromkeys(one.what for one in unreached):
        names = tuple(one.evidence[0] for one in unreached if one.what == why)
        what = f"{_counted(names)} not asked about: {why}"
        rest.append(Finding(_UNREACHED, "unknown", what, unreached[0].fix, names))
    if good:
        names = tuple(one.what for one in good)
        rest.insert(
            0, Finding("images", "ok", f"{len(good)} of {len(every)} images are there", evidence=names)
        )
    return rest


def _image(
    context: Context, registries: Registries, image: str, of_users: bool, architectures: set[str]
) -> Finding:
    reference = parse(image)
    if reference is None:
        fix = "write it as HOST/NAME:TAG, in small letters"
        return Finding("image-name", "problem", f"{image!r} is not a name of an image", fix)
    if reference.host in _MOVED:
        fix = f"name the same image at {_MOVED[reference.host]} in overrides.helm, or take a newer chart"
        return Finding("image-moved", "warning", f"{image} is at {reference.host}, which has ended", fix)
    architecture = next(iter(sorted(architectures)), "amd64")
    try:
        facts = registries.facts(reference, contents=of_users, architecture=architecture)
    except NoAnswer as error:
        fix = "see that the nodes reach the registry: they pull the images, not this machine"
        return Finding(_UNREACHED, "unknown", error.what, fix, (image,))
    if facts.verdict == "missing":
        fix = "correct its name and tag in the site file, or have it published"
        return Finding("image-missing", "problem", f"the registry has no image {image}", fix, _said(facts))
    if facts.verdict == "refused":
        return Finding(
            "image-private",
            "warning",
            f"the registry shows {image} to nobody without credentials, or it is not there",
            "see that the namespace has a pull secret for it (imagePullSecrets in overrides.helm)",
            _said(facts),
        )
    lacking = _lacking(facts, architectures)
    if lacking:
        return Finding(
            "image-architecture",
            "problem",
            f"{image} is for {', '.join(facts.platforms)}, and nodes are {', '.join(lacking)}",
            "publish it for these machines too",
        )
    return _contents(context, image, facts) if of_users else Finding("image", "ok", image)


def _contents(context: Context, image: str, facts: ImageFacts) -> Finding:
    """What a notebook's image carries, against the hub that starts it."""
    told = [f"{name} {facts.packages[name]}" for name in _TOLD if name in facts.packages]
    hub = _hub_version(context)
    inside = facts.packages.get("jupyterhub")
    if inside is None and facts.complete:
        return Finding(
            "image-contents",
            "problem",
            f"{image} carries no jupyterhub, so no server would start from it",
            "install the package jupyterhub in the image",
            tuple(told),
        )
    if inside is None:
        why = "its layers are too large to be looked through here"
        return Finding(
            "image-contents",
            "unknown",
            f"{image} is there; which jupyterhub it carries is not known: {why}",
            f"docker run --rm {image} python -m jupyterhub --version",
            tuple(told),
        )
    if hub and charts.parts(inside)[:1] != charts.parts(hub)[:1]:
        return Finding(
            "image-contents",
            "warning",
            f"{image} carries jupyterhub {inside}, and the hub is {hub}: they should be of one major version",
            f"put jupyterhub {charts.parts(hub)[0]} into the image",
            tuple(told),
        )
    return Finding("image", "ok", f"{image}: {', '.join(told)}")


def _of_users(context: Context) -> list[str]:
    site = context.site
    found = [one.image for one in site.notebooks.profiles if one.image]
    if site.dask.engine != "none" and site.dask.image.default != "profile":
        found.append(site.dask.image.default)
    return list(dict.fromkeys(found))


def _of_platform(context: Context) -> Iterator[str]:
    for one in workloads(context.rendered) if context.rendered else ():
        for container in containers(one.pod.get("spec") or {}):
            if container.get("image"):
                yield str(container["image"])


def _architectures(context: Context) -> set[str]:
    """Of the nodes; empty where one may not look."""
    if context.look is None:
        return set()
    try:
        nodes = context.look.all("v1", "Node")
    except ClusterProblem:
        return set()
    names = ((one["metadata"].get("labels") or {}).get("kubernetes.io/arch") for one in nodes)
    return {str(name) for name in names if name}


def _lacking(facts: ImageFacts, architectures: Iterable[str]) -> list[str]:
    if not facts.platforms:
        return []
    return [one for one in sorted(architectures) if f"linux/{one}" not in facts.platforms]


def _hub_version(context: Context) -> str | None:
    version = ".".join(map(str, hub_chart(context.site)))
    return charts.hub_of(version) if version else None


def _counted(images: tuple[str, ...]) -> str:
    return "one image was" if len(images) == 1 else f"{len(images)} images were"


def _said(facts: ImageFacts) -> tuple[str, ...]:
    return (facts.said,) if facts.said else ()
