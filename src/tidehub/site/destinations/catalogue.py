"""Where each key of the site goes, and the value it has there: the hub's configuration, Helm values, one machine.

Pure. `explain` shows it, and Helm values are put together from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tidehub.site import describe
from tidehub.site.destinations import carried
from tidehub.site.destinations import helm as helm_values
from tidehub.site.destinations import hub as hub_traits
from tidehub.site.destinations import machine as machine_settings
from tidehub.site.destinations.destination import Destination, Rule
from tidehub.site.model import Site
from tidehub.site.model.section import Section
from tidehub.site.problems import KeyPath

__all__ = ["Destination", "carried_data", "destinations", "helm_fragments", "leaves", "value_at"]


def destinations(site: Site, path: KeyPath) -> list[Destination]:
    """What the key at `path` becomes, for a key that holds a value. Nothing for sections and unknown keys.

    Keys of Dask clusters go nowhere where `dask.engine` is none, and Helm keys only where they mean something.
    """
    key = describe.find(path)
    if key is None or key.section is not None:
        return []
    value = value_at(site, path)
    found: list[Destination] = []
    for rules in (hub_traits.RULES, helm_values.RULES, carried.RULES, machine_settings.RULES):
        rule: Rule | None = rules.get(key.name)
        if rule is None or (key.name.startswith("dask.") and not _has_dask(site, key.name)):
            continue
        found += rule(site, value, path)
    return [_nested(site, one) for one in found]


def helm_fragments(site: Site) -> dict[str, dict[str, Any]]:
    """The values of each chart that follow from the site's keys: `{"jupyterhub": {...}, "dask-gateway": {...}}`.

    Secrets are not in them, nor what joins the releases with each other, nor the code that travels (`carried_data`).
    With the model `daskhub` there is one chart.
    """
    fragments: dict[str, dict[str, Any]] = {}
    for path in leaves(site):
        for one in destinations(site, path):
            if one.where == "helm" and one.chart and not one.within:
                _put(fragments.setdefault(one.chart, {}), one.path, one)
    return fragments


def carried_data(site: Site) -> dict[str, Any]:
    """What the code that travels in Helm values reads of the site's keys, by the class that reads it."""
    data: dict[str, Any] = {}
    for path in leaves(site):
        for one in destinations(site, path):
            if one.within:
                _put(data, one.within, one)
    return data


def leaves(site: Site) -> Iterator[KeyPath]:
    """The path of every key that holds a value in this site, written or by default."""
    return _leaves(site, ())


def value_at(site: Site, path: KeyPath) -> Any:
    """The value at a path; None where a section around it is absent. Raises `KeyError` where it leads nowhere."""
    value: Any = site
    for part in path:
        if value is None:
            return None
        if isinstance(value, Section):
            name = next(
                (n for n, field in type(value).model_fields.items() if part in (n, field.alias)), None
            )
            if name is None:
                raise KeyError(part)
            value = getattr(value, name)
        elif isinstance(value, tuple) and isinstance(part, int):
            if part >= len(value):
                raise KeyError(part)
            value = value[part]
        elif isinstance(value, dict):
            value = value.get(part)
        else:
            raise KeyError(part)
    return value


def _leaves(section: Section, path: KeyPath) -> Iterator[KeyPath]:
    for name, field in type(section).model_fields.items():
        value, inside = getattr(section, name), (*path, field.alias or name)
        if isinstance(value, Section):
            yield from _leaves(value, inside)
        elif isinstance(value, tuple) and value and isinstance(value[0], Section):
            for index, item in enumerate(value):
                yield from _leaves(item, (*inside, index))
        elif (key := describe.find(inside)) is not None and key.section is None:
            yield inside


def _has_dask(site: Site, key: str) -> bool:
    return key == "dask.engine" or site.dask.engine == "gateway"


def _nested(site: Site, one: Destination) -> Destination:
    """The daskhub chart holds the two others' values below their names."""
    if one.where != "helm" or site.kubernetes is None or site.kubernetes.model != "daskhub":
        return one
    return replace(one, chart="daskhub", key=f"{one.chart}.{one.key}", path=(one.chart, *one.path))


def _put(values: dict[str, Any], path: KeyPath, one: Destination) -> None:
    inner: Any = values
    for part, following in zip(path, (*path[1:], None), strict=True):
        if isinstance(inner, list) and isinstance(part, int):
            inner += [{} for _ in range(part + 1 - len(inner))]
        if following is None:
            known = inner.get(part) if isinstance(inner, dict) else None
            if one.code and known is not None and one.value not in known:
                inner[part] = f"{known}\n{one.value}"
            elif not one.code or known is None:
                inner[part] = one.value
        elif isinstance(inner, dict):
            inner = inner.setdefault(part, [] if isinstance(following, int) else {})
        else:
            inner = inner[part]
