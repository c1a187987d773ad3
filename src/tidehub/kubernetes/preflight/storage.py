"""Storage classes of homes and the hub's database, and the PVCs that are there already."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.objects import HOME, Object
from tidehub.kubernetes.planning.quantities import amount
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.workloads import written

_API = "storage.k8s.io/v1"
_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
_BY_HAND = "kubernetes.io/no-provisioner"
_MIGRATED = {
    "kubernetes.io/cinder": "cinder.csi.openstack.org",
    "kubernetes.io/aws-ebs": "ebs.csi.aws.com",
    "kubernetes.io/gce-pd": "pd.csi.storage.gke.io",
    "kubernetes.io/azure-disk": "disk.csi.azure.com",
    "kubernetes.io/azure-file": "file.csi.azure.com",
    "kubernetes.io/vsphere-volume": "csi.vsphere.vmware.com",
}
"""In-tree provisioners and the CSI drivers that took their place."""
_ZONE = "topology.kubernetes.io/zone"


def storage_class(context: Context) -> list[Finding]:
    """Every class that will be asked for: whether it is there, makes volumes, and lets them grow."""
    look = context.there
    classes = {str(one["metadata"]["name"]): one for one in look.all(_API, "StorageClass")}
    findings: list[Finding] = []
    for wanted, uses in _wanted(context).items():
        what = " and ".join(uses)
        found, trouble = _found(wanted, what, classes)
        findings += trouble
        if found is not None:
            findings += _judged(context, found, what)
    return findings


def pvcs(context: Context) -> list[Finding]:
    """PVCs that are there already against what is asked for now."""
    look, wanted = context.there, dict(_pvcs(context))
    live = {
        str(one["metadata"]["name"]): one
        for one in look.all("v1", "PersistentVolumeClaim", context.namespace)
    }
    findings = [
        finding for name, pvc in wanted.items() if name in live for finding in _compared(pvc, live[name])
    ]
    findings += _lost(live)
    findings += _homes(context, live)
    if findings:
        return findings
    there = sum(1 for name in wanted if name in live)
    return [Finding("pvcs", "ok", f"{there} of {len(wanted)} PVCs are there, and none contradicts the site")]


def _wanted(context: Context) -> dict[str | None, list[str]]:
    """Class (None is the default one) and what it is for."""
    uses: dict[str | None, list[str]] = {}
    for name, pvc in _pvcs(context):
        uses.setdefault(_class_of(pvc), []).append(f"the PVC {name}")
    if context.rendered is None:
        uses.setdefault(context.site.hub.database.storage_class, []).append("the hub's database")
    uses.setdefault(context.site.notebooks.home.storage_class, []).append("homes")
    return uses


def _pvcs(context: Context) -> Iterator[tuple[str, Object]]:
    for _, obj in context.rendered.everything() if context.rendered else ():
        if obj["kind"] == "PersistentVolumeClaim":
            yield str(obj["metadata"]["name"]), obj


def _found(wanted: str | None, what: str, classes: dict[str, Object]) -> tuple[Object | None, list[Finding]]:
    names = tuple(f"there is {name}" for name in sorted(classes)) or ("the cluster has no StorageClass",)
    if wanted:
        if wanted in classes:
            return classes[wanted], []
        fix = "name one of those in the site file, or have this one made"
        return None, [
            Finding(
                "storage-class",
                "problem",
                f"the StorageClass {wanted} was not found, for {what}",
                fix,
                names,
            )
        ]
    default = [one for one in classes.values() if _is_default(one)]
    if not default:
        fix = (
            "write notebooks.home.storage_class and hub.database.storage_class, or have one marked as default"
        )
        what = f"no StorageClass is the default one, and {what} name none: their PVCs would stay Pending"
        return None, [Finding("storage-default", "problem", what, fix, names)]
    # With several, the newest counts: https://kubernetes.io/docs/concepts/storage/storage-classes/#default-storageclass
    newest = max(default, key=lambda one: str(one["metadata"].get("creationTimestamp")))
    if len(default) == 1:
        return newest, []
    several = ", ".join(sorted(str(one["metadata"]["name"]) for one in default))
    return newest, [
        Finding(
            "storage-default",
            "warning",
            f"several StorageClasses are the default one ({several}); the newest counts: {newest['metadata']['name']}",
            "name the one that is meant in the site file, or have the mark taken from the others",
        )
    ]


def _judged(context: Context, found: Object, what: str) -> list[Finding]:
    name, provisioner = str(found["metadata"]["name"]), str(found.get("provisioner"))
    findings = []
    lacking = _no_provisioner(context, name, provisioner)
    if lacking:
        findings.append(lacking)
    if found.get("allowVolumeExpansion") is not True:
        findings.append(
            Finding(
                "storage-expansion",
                "warning",
                f"volumes of the StorageClass {name} cannot grow: the sizes for {what} are final",
                "have allowVolumeExpansion set, if its driver can, or begin with sizes that will do",
            )
        )
    mode = str(found.get("volumeBindingMode") or "Immediate")
    if mode == "Immediate" and len(_zones(context)) > 1:
        findings.append(
            Finding(
                "storage-binding",
                "warning",
                f"volumes of {name} are made before their pod has a node, and the nodes are in several zones",
                "use a class with volumeBindingMode: WaitForFirstConsumer",
                tuple(sorted(_zones(context))),
            )
        )
    if findings:
        return findings
    policy = str(found.get("reclaimPolicy") or "Delete")
    evidence = (
        f"{provisioner}, {mode}, volumes that can grow, {'kept' if policy == 'Retain' else 'deleted'} with their PVC",
    )
    return [Finding("storage-class", "ok", f"the StorageClass {name} for {what}", evidence=evidence)]


def _no_provisioner(context: Context, name: str, provisioner: str) -> Finding | None:
    if provisioner == _BY_HAND:
        free = [
            one
            for one in context.there.all("v1", "PersistentVolume")
            if (one.get("spec") or {}).get("storageClassName") == name
            and (one.get("status") or {}).get("phase") == "Available"
        ]
        return Finding(
            "storage-provisioner",
            "warning" if free else "problem",
            f"nothing makes volumes of the StorageClass {name}: each is made by hand, and {len(free)} are free",
            "use a class with a provisioner: every new user needs a volume",
        )
    driver = _MIGRATED.get(provisioner, provisioner)
    # Provisioners outside of CSI (nfs-subdir, local-path) do not announce themselves.
    if "csi" not in driver.split("/")[-1].split(".") and driver == provisioner and "csi" not in driver:
        return None
    if context.there.one(_API, "CSIDriver", driver) is not None:
        return None
    return Finding(
        "storage-provisioner",
        "problem",
        f"the driver {driver} of the StorageClass {name} is not installed: no volume would be made",
        "have the CSI driver installed, or name another class",
    )


def _compared(wanted: Object, live: Object) -> Iterator[Finding]:
    name, asked, has = str(live["metadata"]["name"]), _class_of(wanted), _class_of(live)
    if asked and asked != has:
        yield Finding(
            "pvc-class",
            "problem",
            f"the PVC {name} has the StorageClass {has or '(none)'}, and the site says {asked}: that is final",
            f"write {has or 'its class'} in the site file, or move the data: a new PVC means an empty volume",
        )
    size, there = _size(wanted), _size(live)
    if size is None or there is None or size == there:
        return
    if size < there:
        yield Finding(
            "pvc-size",
            "problem",
            f"the PVC {name} has {written('storage', there)}, and the site says {written('storage', size)}: "
            "PVCs do not shrink",
            f"write {written('storage', there)} or more",
        )
    else:
        yield Finding(
            "pvc-size",
            "warning",
            f"the PVC {name} would grow from {written('storage', there)} to {written('storage', size)}",
            "nothing, where its StorageClass lets volumes grow; else the server refuses it",
        )


def _lost(live: dict[str, Object]) -> Iterator[Finding]:
    lost = sorted(name for name, pvc in live.items() if (pvc.get("status") or {}).get("phase") == "Lost")
    if lost:
        yield Finding(
            "pvc-lost",
            "problem",
            f"the PersistentVolume of the PVC {lost[0]} is gone"
            + (f", and those of {len(lost) - 1} more" if len(lost) > 1 else ""),
            "have the volume brought back, or delete the PVC once its data is given up",
            tuple(lost),
        )


def _homes(context: Context, live: dict[str, Object]) -> Iterator[Finding]:
    """Homes of users who have been here before."""
    homes = [one for one in live.values() if (one["metadata"].get("labels") or {}).get("component") == HOME]
    wanted = context.site.notebooks.home.storage_class
    others = sorted({str(_class_of(one)) for one in homes if wanted and _class_of(one) != wanted})
    if others:
        count = sum(1 for one in homes if _class_of(one) != wanted)
        yield Finding(
            "homes-class",
            "warning",
            f"{count} of {len(homes)} homes have another StorageClass ({', '.join(others)}) than new ones ({wanted})",
            "nothing: homes stay where they are",
        )


def _class_of(pvc: Object) -> str | None:
    return (pvc.get("spec") or {}).get("storageClassName") or None


def _size(pvc: Object) -> Decimal | None:
    return amount((((pvc.get("spec") or {}).get("resources") or {}).get("requests") or {}).get("storage"))


def _is_default(one: Object) -> bool:
    annotations = one["metadata"].get("annotations") or {}
    return any(annotations.get(key) == "true" for key in _DEFAULT)


def _zones(context: Context) -> set[str]:
    try:
        nodes = context.there.all("v1", "Node")
    except ClusterProblem:
        return set()
    zones = ((node["metadata"].get("labels") or {}).get(_ZONE) for node in nodes)
    return {str(zone) for zone in zones if zone}
