"""Which chart a values file is for, told by its shape; several files merge as Helm merges `-f a -f b`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from tidehub.errors import Place
from tidehub.importing.fates import ChartValues, Fate, Kind, LeafFate, leaves
from tidehub.importing.values_yaml import Document, ValuesError
from tidehub.site.model.overrides import ROOT_KEYS
from tidehub.site.problems import KeyPath, Problem

Model = Literal["split", "daskhub"]

_INSIDE_DASKHUB = ("jupyterhub", "dask-gateway")
# Root keys that no other chart is likely to have, and so tell which one a file is for.
_TELLING: dict[str, frozenset[str]] = {
    "jupyterhub": frozenset({"hub", "singleuser", "proxy", "scheduling", "prePuller", "cull", "httpRoute"}),
    "dask-gateway": ROOT_KEYS["dask-gateway"] - ROOT_KEYS["jupyterhub"],
}
_HELM_SAYS = ("USER-SUPPLIED VALUES", "COMPUTED VALUES")
"""What `helm get values` prints before the values."""
_WRITTEN_BY_TOOLS = ("kubectl.kubernetes.io/", "meta.helm.sh/")
"""Prefixes of annotations that kubectl and Helm write into objects: not the site's choice."""
_WRAPPERS = ("daskhub", "basehub", "pangeo")


@dataclass
class Recognised:
    """The values of each chart, and what an operator should know about the files themselves."""

    model: Model
    jupyterhub: ChartValues
    gateway: ChartValues
    daskhub: ChartValues
    ingress: ChartValues
    """A Kubernetes Ingress, written by hand beside the chart."""
    remarks: list[Problem] = field(default_factory=list)

    @property
    def charts(self) -> tuple[ChartValues, ...]:
        return (self.jupyterhub, self.gateway, self.daskhub, self.ingress)


def recognise(documents: list[Document]) -> Recognised:
    """Take the files apart. Raises `ValuesError` when one is for no known chart, or they are for two models."""
    shapes = {document.file: _shape(document) for document in documents}
    kinds = set(shapes.values())
    if not any(document.data for document in documents):
        files = ", ".join(document.file for document in documents)
        raise ValuesError([Problem(f"no values were found in {files}", expected="a chart's values")])
    if "daskhub" in kinds and kinds & {"split"}:
        split = next(document for document in documents if shapes[document.file] == "split")
        raise ValuesError(
            [
                Problem(
                    "these files are for two ways of installing",
                    where=Place(split.file, 1, 1),
                    expected="values of daskhub (jupyterhub: and dask-gateway: at the root), or values of its "
                    "charts (hub:, singleuser:, gateway:), not both",
                    fix="import the files of one release at a time",
                )
            ]
        )
    inside = "daskhub" in kinds
    found = Recognised(
        model="daskhub" if inside else "split",
        jupyterhub=ChartValues("jupyterhub", ("jupyterhub",) if inside else ()),
        gateway=ChartValues("dask-gateway", ("dask-gateway",) if inside else ()),
        daskhub=ChartValues("daskhub"),
        ingress=ChartValues("ingress"),
    )
    for document in documents:
        _distribute(document, shapes[document.file], found)
    return found


def _shape(document: Document) -> Literal["daskhub", "split", "ingress", "shared", "none"]:
    """`shared`: the file has only keys that fit both ways."""
    data, file = document.data, document.file
    if not data:
        return "none"
    if "sops" in data or str(data.get("encrypted_regex", "")):
        what = "this file is encrypted by SOPS"
        raise ValuesError([Problem(what, where=Place(file, 1, 1), fix="decrypt it first: sops -d FILE")])
    if "apiVersion" in data and "kind" in data:
        if data["kind"] == "Ingress":
            return "ingress"
        what = f"this is a Kubernetes object ({str(data['kind'])[:40]}), not a values file"
        raise ValuesError([Problem(what, where=document.places["kind",], expected="values, or an Ingress")])
    if any(isinstance(data.get(key), dict) for key in _INSIDE_DASKHUB) or _wrapper(data):
        return "daskhub"
    if any(key in data for keys in _TELLING.values() for key in keys):
        return "split"
    known = frozenset().union(*ROOT_KEYS.values())
    if set(data) <= known | set(_HELM_SAYS):
        return "daskhub" if set(data) & {"dask-kubernetes", *_INSIDE_DASKHUB} else "shared"
    raise ValuesError(
        [
            Problem(
                "these are not values of the charts jupyterhub, dask-gateway or daskhub",
                where=document.places[next(iter(data)),],
                expected="keys such as hub:, singleuser:, gateway:, or jupyterhub: and dask-gateway:",
            )
        ]
    )


def _wrapper(data: dict[str, Any]) -> str | None:
    """The key of a chart around daskhub: sites often wrap it in a chart of their own."""
    for key in _WRAPPERS:
        inner = data.get(key)
        if isinstance(inner, dict) and any(isinstance(inner.get(name), dict) for name in _INSIDE_DASKHUB):
            return key
    return None


def _distribute(document: Document, shape: str, found: Recognised) -> None:
    for key in document.data:
        if key in _HELM_SAYS and document.data[key] is None:
            note = "the defaults of the chart are among them: see the overrides, most can go"
            if key.startswith("COMPUTED"):
                found.remarks.append(
                    Problem("these are computed values", (), document.places[key,], expected=note)
                )
            merge_into(found.daskhub, document, (key,), (key,))
            found.daskhub.dropped((key,), "what `helm get values` prints before the values")
            continue
        value = document.data[key]
        if shape == "ingress":
            _to_ingress(document, key, found)
        elif shape == "daskhub":
            if key == _wrapper(document.data):
                for inner in value:
                    _to_daskhub(document, (key, inner), found)
            else:
                _to_daskhub(document, (key,), found)
        elif shape == "shared":
            chart = found.daskhub if found.model == "daskhub" else found.jupyterhub
            merge_into(chart, document, (key,), (key,))
        else:
            of_gateway = key in _TELLING["dask-gateway"] or (
                key in ROOT_KEYS["dask-gateway"] and not _tells(document.data, "jupyterhub")
            )
            merge_into(found.gateway if of_gateway else found.jupyterhub, document, (key,), (key,))


def _to_ingress(document: Document, key: str, found: Recognised) -> None:
    """An Ingress object. Its annotations mean what `ingress.annotations` of the jupyterhub chart mean."""
    value = document.data[key]
    if key != "metadata" or not isinstance(value, dict) or not isinstance(value.get("annotations"), dict):
        merge_into(found.ingress, document, (key,), (key,))
        return
    for name, inner in value.items():
        if name == "annotations" and inner:
            hub = found.jupyterhub
            if not isinstance(hub.data.get("ingress"), dict):
                hub.data["ingress"] = {}
            for annotation in inner:
                if annotation.startswith(_WRITTEN_BY_TOOLS):
                    found.ingress.data.setdefault(key, {}).setdefault(name, {})
                    merge_into(found.ingress, document, (key, name, annotation), (key, name, annotation))
                    continue
                hub.data["ingress"].setdefault("annotations", {})
                merge_into(hub, document, (key, name, annotation), ("ingress", "annotations", annotation))
        else:
            found.ingress.data.setdefault(key, {})
            merge_into(found.ingress, document, (key, name), (key, name))


def _tells(data: dict[str, Any], chart: str) -> bool:
    return any(key in _TELLING[chart] for key in data)


def _to_daskhub(document: Document, path: KeyPath, found: Recognised) -> None:
    key = path[-1]
    value = _at(document.data, path)
    if key in _INSIDE_DASKHUB and isinstance(value, dict) and value:
        chart = found.jupyterhub if key == "jupyterhub" else found.gateway
        for name in value:
            merge_into(chart, document, (*path, name), (name,))
    else:
        merge_into(found.daskhub, document, path, (key,))


def _at(data: Any, path: KeyPath) -> Any:
    for part in path:
        data = data[part]
    return data


def merge_into(chart: ChartValues, document: Document, source: KeyPath, target: KeyPath) -> None:
    """Lay one value of a file over what is there, as Helm does: mappings merge, everything else replaces."""
    value = _at(document.data, source)
    parent: Any = chart.data
    for part in target[:-1]:
        parent = parent[part]
    key = target[-1]
    old = parent.get(key)
    if isinstance(value, dict) and isinstance(old, dict):
        if not value:
            return
        if not old:
            chart.places[target] = document.places[source]
        for name in value:
            merge_into(chart, document, (*source, name), (*target, name))
        return
    if key in parent:
        _forget(chart, target, document.places[source])
    if isinstance(value, dict) and value:
        parent[key] = {}
        chart.places[target] = document.places[source]
        for name in value:
            merge_into(chart, document, (*source, name), (*target, name))
        return
    parent[key] = value
    for below in _nodes(value, ()):
        chart.places[*target, *below] = document.places[*source, *below]


def _forget(chart: ChartValues, path: KeyPath, by: Place) -> None:
    remark = f"stated again in {by}, and Helm takes the last"
    for leaf in leaves(chart.get(*path), path):
        where = chart.place(leaf)
        chart.replaced.append(
            LeafFate(chart.chart, (*chart.prefix, *leaf), where, Fate(Kind.REPLACED, None, remark))
        )
    for known in list(_nodes(chart.get(*path), path)):
        chart.places.pop(known, None)


def _nodes(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The paths of a value and of everything in it."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _nodes(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nodes(inner, (*path, index))
