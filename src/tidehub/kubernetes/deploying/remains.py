"""What is left in a namespace, and what of it belongs to users. Read-only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.deploying.observed import meta_of, name_of, spec_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.steps.crds import API, KIND
from tidehub.kubernetes.deploying.steps.removing import DATABASE_PVC
from tidehub.kubernetes.homes.whose import is_home
from tidehub.kubernetes.objects import Object

CRD_GROUPS = ("gateway.dask.org", "traefik.io", "traefik.containo.us", "kubernetes.dask.org")
"""Groups of the CRDs in the charts' `crds/`."""


@dataclass(frozen=True)
class Remains:
    """What is there, by name."""

    homes: tuple[str, ...] = ()
    database: tuple[str, ...] = ()
    other_pvcs: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    crds: tuple[str, ...] = ()
    """CRDs of the charts' groups in the cluster, whoever brought them."""
    others: tuple[str, ...] = ()
    """Pods and other releases that are not tidehub's."""

    def lines(self) -> list[str]:
        """As it is shown."""
        found = []
        for words, names in (
            ("homes (PVCs)", self.homes),
            ("the hub's database (PVC)", self.database),
            ("other PVCs", self.other_pvcs),
            ("secrets", self.secrets),
            ("CRDs in the cluster", self.crds),
            ("not tidehub's", self.others),
        ):
            if names:
                shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
                found.append(f"{words}: {shown}")
        return found

    def to_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "homes": list(self.homes),
            "database": list(self.database),
            "other_pvcs": list(self.other_pvcs),
            "secrets": list(self.secrets),
            "crds": list(self.crds),
            "others": list(self.others),
        }


def remains(work: Work) -> Remains:
    """What is left. What may not be read is left out. Raises `ClusterProblem` where nothing answers."""
    pvcs = work.cluster.find("v1", "PersistentVolumeClaim", work.namespace)
    homes = [one for one in pvcs if is_home(one)]
    database = [one for one in pvcs if name_of(one) == DATABASE_PVC]
    other = [one for one in pvcs if one not in homes and one not in database]
    kept = {name.partition("/")[2] for name in work.record.kept if name.startswith("Secret/")}
    secrets = [one for one in _readable(work, "v1", "Secret", work.namespace) if name_of(one) in kept]
    crds = [one for one in _readable(work, API, KIND) if spec_of(one).get("group") in CRD_GROUPS]
    pods = [
        one
        for one in _readable(work, "v1", "Pod", work.namespace)
        if not meta_of(one).get("deletionTimestamp")
    ]
    return Remains(
        _names(homes), _names(database), _names(other), _names(secrets), _names(crds), _names(pods, "pod ")
    )


def _names(objects: Iterable[Object], prefix: str = "") -> tuple[str, ...]:
    return tuple(sorted(prefix + name_of(one) for one in objects))


def _readable(work: Work, api_version: str, kind: str, namespace: str | None = None) -> list[Object]:
    try:
        return work.cluster.find(api_version, kind, namespace)
    except ClusterProblem as problem:
        if problem.reason != "forbidden":
            raise
        return []
