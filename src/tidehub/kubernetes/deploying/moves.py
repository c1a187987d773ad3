"""What going from one set of charts to another means for database, homes, CRDs and values. Pure.

Sources: hub schemas see `planning.hub_schema`; KubeSpawner 7 in jupyterhub/kubespawner `spawner.py`
(`_start`) and `slugs.py`; value names by comparing the charts' `values.schema.json`; CRD groups by the
charts' `crds/`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from tidehub import program
from tidehub.kubernetes.deploying.observed import meta_of, name_of
from tidehub.kubernetes.deploying.words import counted, listed
from tidehub.kubernetes.objects import USERNAME, Object
from tidehub.kubernetes.planning.hub_schema import CHAIN, head, migration
from tidehub.site.charts import DASKHUB, hub_of, parts

Weight = Literal["refused", "upgrade", "notice"]
"""`refused` cannot be done, `upgrade` only by that command, `notice` is worth knowing."""

KUBESPAWNER_7 = (4, 0, 0)
"""jupyterhub chart from which on KubeSpawner names PVCs by its `safe` scheme."""
TRAEFIK_IO = (2023, 9, 0)
"""dask-gateway chart from which on its routes are of the group traefik.io."""


@dataclass(frozen=True)
class Renamed:
    """A value of a chart that has another name from a version on."""

    chart: str
    since: tuple[int, ...]
    old: str
    new: str
    """Empty where there is nothing in its place."""


RENAMED = (
    Renamed("jupyterhub", (1, 0, 0), "auth", "hub.config"),
    Renamed("jupyterhub", (1, 0, 0), "hub.extraConfigMap", "custom"),
    Renamed("jupyterhub", (1, 0, 0), "hub.imagePullSecret", "imagePullSecret"),
    Renamed("jupyterhub", (1, 0, 0), "hub.uid", "hub.containerSecurityContext.runAsUser"),
    Renamed("jupyterhub", (1, 0, 0), "singleuser.imagePullSecret", "imagePullSecret"),
    Renamed(
        "jupyterhub",
        (1, 0, 0),
        "singleuser.cloudMetadata.enabled",
        "singleuser.cloudMetadata.blockWithIptables",
    ),
    Renamed("jupyterhub", (1, 0, 0), "proxy.containerSecurityContext", "proxy.chp.containerSecurityContext"),
    Renamed("jupyterhub", (1, 0, 0), "proxy.networkPolicy", "proxy.chp.networkPolicy"),
    Renamed("jupyterhub", (1, 0, 0), "proxy.pdb", "proxy.chp.pdb"),
    Renamed(
        "jupyterhub",
        (2, 0, 0),
        "scheduling.userScheduler.plugins.score",
        "scheduling.userScheduler.pluginConfig",
    ),
)


@dataclass(frozen=True)
class Charts:
    """Versions of the charts that count, whichever model brings them; None where there is none or it is unknown."""

    jupyterhub: str | None = None
    gateway: str | None = None

    @classmethod
    def of(cls, releases: Iterable[tuple[str, str]]) -> Charts:
        """From the charts of releases, each with its version; the meta-chart by what is in it."""
        hub = gateway = None
        for chart, version in releases:
            if chart == "daskhub":
                hub, gateway = DASKHUB.get(version, (None, None))
            elif chart == "jupyterhub":
                hub = version
            elif chart == "dask-gateway":
                gateway = version
        return cls(hub, gateway)

    @property
    def hub(self) -> str:
        """Version of JupyterHub; empty where it is not known."""
        return (hub_of(self.jupyterhub) or "") if self.jupyterhub else ""

    def __str__(self) -> str:
        named = {"jupyterhub": self.jupyterhub, "dask-gateway": self.gateway}
        return " and ".join(f"{name} {version}" for name, version in named.items() if version) or "no charts"


@dataclass(frozen=True)
class Homes:
    """The homes of a namespace."""

    count: int = 0
    newer: tuple[str, ...] = ()
    """Those that KubeSpawner 7 named in a way that older ones do not look for."""

    @classmethod
    def of(cls, pvcs: Iterable[Object]) -> Homes:
        """From the PVCs of a namespace: those that a hub made for users."""
        homes = [pvc for pvc in pvcs if USERNAME in (meta_of(pvc).get("annotations") or {})]
        # `---` is before the digest of a name that had to be changed (its slugs.py).
        return cls(len(homes), tuple(name_of(pvc) for pvc in homes if "---" in name_of(pvc)))


@dataclass(frozen=True)
class Move:
    """One consequence."""

    kind: Literal["database", "downgrade", "pvc-names", "crd-group", "values", "hub", "unknown"]
    weight: Weight
    what: str
    fix: str = ""


def moves(
    before: Charts,
    after: Charts,
    *,
    homes: Homes = Homes(),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    database: str | None = None,
    finds_homes: bool = True,
) -> tuple[Move, ...]:
    """What follows from going from `before` to `after`; nothing where both are the same.

    `overrides` are values in the charts' own words, by chart; `database` is the schema that the hub's database really
    has, where it was looked at; `finds_homes` says that the hub goes by what exists (`homes.spawner`).
    """
    found = [*_database(before, after, database)]
    if before.jupyterhub and after.jupyterhub:
        old, new = (parts(each) >= KUBESPAWNER_7 for each in (before.jupyterhub, after.jupyterhub))
        if old != new:
            found += _pvc_names(homes, finds_homes, back=old)
    if before.gateway and after.gateway:
        old, new = parts(before.gateway) >= TRAEFIK_IO, parts(after.gateway) >= TRAEFIK_IO
        if old != new:
            group = ("traefik.containo.us", "traefik.io")
            found.append(
                Move(
                    "crd-group",
                    "upgrade",
                    f"the gateway's routes move from {group[old]} to {group[new]}: their CRDs are applied "
                    "first, the former ones stay; running Dask clusters lose their routes",
                    "ask users to stop their Dask clusters first",
                )
            )
    found += _values(before, after, overrides or {})
    return tuple(found)


def _database(before: Charts, after: Charts, real: str | None) -> Iterable[Move]:
    if not before.jupyterhub or not after.jupyterhub or before.jupyterhub == after.jupyterhub:
        return
    old, new = before.hub, after.hub
    wanted = head(new) if new else None
    if real is not None and real in CHAIN and wanted is not None:
        steps = CHAIN.index(wanted) - CHAIN.index(real)
        kind = "same" if not steps else "forward" if steps > 0 else "backward"
    else:
        kind = migration(old, new) if old and new else "unknown"
    schema = real or (head(old) if old else None)
    if kind == "forward":
        yield Move(
            "database",
            "upgrade",
            f"JupyterHub {new} brings the database of {old or 'the older one'} from the schema {schema} to {wanted}; "
            "the older hub cannot read it afterwards",
            f"it is backed up first; `{program.command('rollback')}` puts that copy back",
        )
    elif kind == "backward":
        yield Move(
            "downgrade",
            "refused",
            f"JupyterHub {new} cannot read a database with the schema {schema}; it knows {wanted}",
            "give the backup from before the upgrade: --database FILE",
        )
    elif kind == "unknown":
        yield Move(
            "unknown",
            "upgrade",
            f"it is not known whether the hub of {after} reads the database of the hub of {before}",
            "it is backed up first",
        )
    if old and new and kind != "unknown" and parts(old)[:1] != parts(new)[:1]:
        yield Move("hub", "notice", f"JupyterHub goes from {old} to {new}: servers that run keep running")


def _pvc_names(homes: Homes, finds_homes: bool, *, back: bool) -> Iterable[Move]:
    if homes.count and finds_homes:
        kept = "home keeps its PVC" if homes.count == 1 else "homes keep their PVCs"
        yield Move(
            "pvc-names",
            "notice",
            f"{homes.count} {kept}: the hub finds them whatever KubeSpawner calls new ones",
        )
    elif back and homes.newer:
        yield Move(
            "pvc-names",
            "upgrade",
            f"{counted(len(homes.newer), 'home')} ({listed(homes.newer, 3)}) have names that KubeSpawner before 7 does "
            "not look for, and this hub does not find them otherwise: their users get an empty home, the old one stays",
            f"`{program.command('homes')}` shows who has two, and moves them",
        )
    elif not back and homes.count:
        yield Move(
            "pvc-names",
            "upgrade",
            "KubeSpawner 7 names PVCs in another way, and this hub has a spawner of the site's own, which may not look "
            "for the old names: users whose names have other characters than a-z and 0-9 may get an empty home",
            "take hub.config.JupyterHub.spawner_class out of the overrides, or set hub.config.KubeSpawner.slug_scheme: "
            "escape",
        )


def _values(before: Charts, after: Charts, overrides: Mapping[str, Mapping[str, Any]]) -> Iterable[Move]:
    for one in RENAMED:
        version = after.jupyterhub if one.chart == "jupyterhub" else after.gateway
        given = overrides.get(one.chart) or (overrides.get("daskhub") or {}).get(one.chart) or {}
        if version and parts(version) >= one.since and _at(given, one.old):
            yield Move(
                "values",
                "refused",
                f"the {one.chart} chart {version} has no value {one.old}",
                f"write it as {one.new}" if one.new else "remove it",
            )


def _at(values: Any, path: str) -> bool:
    for part in path.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return False
        values = values[part]
    return True
