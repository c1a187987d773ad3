"""ServiceAccounts that a newer chart gave to pods and an older one does not know.

A merge takes `serviceAccountName` out of a template, but not `serviceAccount`, the former name of that field, which the
API server filled in itself; the server then puts the new name back from the old one. The ServiceAccount goes with its
release, and the template's pods are refused: `helm rollback` and `helm upgrade` of either version leave it so.
"""

from __future__ import annotations

from tidehub.kubernetes.deploying.observed import spec_of
from tidehub.kubernetes.deploying.running import Work
from tidehub.kubernetes.deploying.stored import live_release
from tidehub.kubernetes.objects import Object, identify, read_manifest

_WORKLOADS = ("DaemonSet", "Deployment", "StatefulSet")
_NO_ACCOUNT = {"spec": {"template": {"spec": {"serviceAccountName": None, "serviceAccount": None}}}}


def forget_accounts(work: Work, release: str) -> None:
    """Takes an account that is gone out of the templates of a release, as it stands now, that want none."""
    live = live_release(work, release)
    for obj in read_manifest(live.manifest) if live else ():
        if obj.get("kind") not in _WORKLOADS or _account(obj):
            continue
        id = identify(obj, work.namespace)
        found = work.cluster.get(id.api_version, id.kind, id.name, id.namespace)
        account = _account(found) if found is not None else ""
        # One that is there may be somebody's decision.
        if account and work.cluster.get("v1", "ServiceAccount", account, id.namespace) is None:
            work.cluster.patch(id.api_version, id.kind, id.name, _NO_ACCOUNT, id.namespace)
            work.say.note(f"{id}: the ServiceAccount {account} of another chart was taken out")


def _account(workload: Object) -> str:
    spec = (spec_of(workload).get("template") or {}).get("spec") or {}
    return str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "")
