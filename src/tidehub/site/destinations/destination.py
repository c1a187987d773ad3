"""One place that a key of the site goes to, with the value as it arrives there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from tidehub.site.model import Site
from tidehub.site.problems import KeyPath, dotted

Where = Literal["hub", "helm", "cluster", "machine"]


@dataclass(frozen=True)
class Destination:
    """`where`: the hub's (and gateway's) configuration as on one machine, Helm values, objects in the cluster
    beside the charts, or one machine itself.

    `key` names the setting there. For Helm, `chart` is the chart whose values these are and `path` the way to the
    value in them. `code` says that the value is Python in an `extraConfig` entry, of which several may share one path.
    `within` says that the entry carries code of tidehub, which finds the value there: the class that reads it, then
    the way inside (`SiteBackend`, `site`, `dask`, ...).
    """

    where: Where
    key: str
    value: Any
    chart: str = ""
    path: KeyPath = ()
    code: bool = False
    note: str = ""
    within: KeyPath = ()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "where": self.where,
            "chart": self.chart or None,
            "key": self.key,
            "value": self.value,
            "code": self.code,
            "within": dotted(self.within) if self.within else None,
            "note": self.note or None,
        }


Rule = Callable[[Site, Any, KeyPath], Iterable[Destination]]
"""What one key becomes: the site, the key's value, its path."""


def hub(key: str, value: Any, note: str = "") -> Destination:
    """A trait in the hub's or the gateway's configuration."""
    return Destination("hub", key, value, note=note)


def machine(key: str, value: Any, note: str = "") -> Destination:
    """A setting of one machine: a kernel limit, an option of a program, a file."""
    return Destination("machine", key, value, note=note)


def cluster(key: str, value: Any, note: str = "") -> Destination:
    """A field of an object that tidehub makes in the cluster beside the charts."""
    return Destination("cluster", key, value, note=note)


def helm(
    chart: str,
    *path: str | int,
    value: Any,
    note: str = "",
    code: bool = False,
    within: KeyPath = (),
) -> Destination:
    """A value of a chart, or one that the code in it reads."""
    return Destination("helm", dotted(path), value, chart, path, code, note, within)
