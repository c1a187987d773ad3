"""What the rules know: the observations, and the hub's own values before and after. Pure."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.ownership import Found, Place
from tidehub.kubernetes.planning.observe import Observation
from tidehub.kubernetes.planning.settings import read_settings
from tidehub.kubernetes.planning.subjects import Subject

if TYPE_CHECKING:
    from tidehub.helm.engine import ReleaseRecord
    from tidehub.kubernetes.deploying.record import Record
    from tidehub.kubernetes.rendering.model import Rendered

HUB_VALUES = "values.yaml"
"""Key of the jupyterhub chart's Secret that holds all its values, `Chart` and `Release` among them (since 1.0)."""


@dataclass(frozen=True)
class HubValues:
    """The jupyterhub chart's values, defaults included, whichever chart it is part of. Secrets are in clear."""

    values: Mapping[str, Any] = field(repr=False)

    def at(self, *path: str) -> Any:
        """The value at a path; None where there is none."""
        found: Any = self.values
        for part in path:
            found = found.get(part) if isinstance(found, Mapping) else None
        return found

    @property
    def chart(self) -> str:
        """Version of the jupyterhub chart."""
        return str(self.at("Chart", "Version") or "")

    @property
    def hub(self) -> str:
        """Version of JupyterHub, where the chart or its number tells it."""
        from tidehub.site.charts import hub_of

        return str(self.at("Chart", "AppVersion") or hub_of(self.chart) or "")


@dataclass(frozen=True)
class Facts:
    """Everything that was asked, for the rules to judge."""

    rendered: Rendered
    observations: tuple[Observation, ...]
    records: tuple[ReleaseRecord, ...] = ()
    """Every Helm release in the namespace, in whatever state."""
    serving: tuple[str, ...] = ()
    """Other namespaces in which something already answers at the site's address."""
    clusters: int | None = None
    """Dask clusters in the namespace; None where the credentials may not see them."""
    record: Record | None = None
    """What tidehub wrote down of its deployments; None where it has made none, or nobody may read it."""
    adopt: frozenset[str] = frozenset()
    """What the operator would name for a deployment."""
    namespace_is_new: bool = False
    """Whether the namespace comes with the deployment, and is not one of its objects."""

    @property
    def namespace(self) -> str:
        return self.rendered.platform.namespace

    @property
    def releases(self) -> frozenset[str]:
        """Names of the releases of this deployment."""
        return frozenset(one.release.name for one in self.rendered.releases)

    @cached_property
    def place(self) -> Place:
        """What `kubernetes.ownership` is told."""
        record = self.record
        return Place(
            self.namespace,
            {
                one.name: Found(one.chart, one.chart_version, one.status)
                for one in self.records
                if one.status != "uninstalled"
            },
            frozenset(one.name for one in record.releases) if record is not None else frozenset(),
            frozenset(record.kept) if record is not None else frozenset(),
            self.adopt,
        )

    @property
    def retired(self) -> tuple[ReleaseRecord, ...]:
        """Releases that tidehub made and that are no longer part of the site: a deployment uninstalls them."""
        made = {one.name for one in self.record.releases} if self.record is not None else set()
        return tuple(
            one
            for one in self.records
            if one.name in made and one.name not in self.releases and one.status != "uninstalled"
        )

    def release_record(self, name: str) -> ReleaseRecord | None:
        """What Helm knows of a release; None where there is none."""
        return next((one for one in self.records if one.name == name), None)

    def of_kind(self, *kinds: str) -> Iterator[Observation]:
        """The observations of some kinds."""
        return (one for one in self.observations if one.subject.id.kind in kinds)

    @cached_property
    def hub_before(self) -> HubValues | None:
        """The hub's values in the last release; None before the first."""
        return hub_values(one.last for one in self.subjects)

    @cached_property
    def hub_after(self) -> HubValues | None:
        """The hub's values in the new render."""
        return hub_values(one.new for one in self.subjects)

    @property
    def subjects(self) -> Iterator[Subject]:
        return (one.subject for one in self.observations)


def hub_values(objects: Iterable[Object | None]) -> HubValues | None:
    """The hub's values from the first of these objects that has them."""
    for obj in objects:
        if obj is None or obj.get("kind") != "Secret":
            continue
        written = (obj.get("data") or {}).get(HUB_VALUES)
        values = _decoded(written) if isinstance(written, str) else None
        if values is not None and "hub" in values and "singleuser" in values:
            return HubValues(values)
    return None


def _decoded(written: str) -> Mapping[str, Any] | None:
    try:
        found = read_settings(base64.b64decode(written, validate=True).decode())
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
    return found if isinstance(found, Mapping) else None
