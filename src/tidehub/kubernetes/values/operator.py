"""The engine `operator`: the Dask operator, and what notebooks may ask of it. Pure.

It is what became of the classic dask-kubernetes. Users' pods make DaskCluster objects, the operator makes the pods.
All notebook servers share one service account, so the cluster cannot tell users apart. Held here: the size of a
worker and of a scheduler, workers of one group, and that a cluster's pods reach no secret, volume, host or other
account (`policies`). Not held, because nothing there counts by user: dask.per_user, dask.cluster's cores and memory,
whose cluster somebody deletes or sends work to. Where that matters, the engine is `gateway`.
"""

from __future__ import annotations

from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.releases import Release
from tidehub.site.destinations.convert import to_kubernetes_cpu, to_kubernetes_quantity, to_whole_seconds
from tidehub.site.model import Site
from tidehub.site.model.deployment import Kubernetes

CHART = "dask-kubernetes-operator"
RELEASE = "dask-operator"
PODS = {"app.kubernetes.io/name": CHART, "app.kubernetes.io/instance": RELEASE}
"""Labels of the operator's own pods."""
SERVICE_ACCOUNT = "daskkubernetes"
"""The name that the daskhub chart and the Pangeo guide gave the account of users' pods."""
GROUP = "kubernetes.dask.org"
RESOURCES = ("daskclusters", "daskworkergroups", "daskjobs", "daskautoscalers")
_RBAC, _ADMISSION = "rbac.authorization.k8s.io", "admissionregistration.k8s.io"
_LABELS = {"app.kubernetes.io/managed-by": "tidehub"}


def is_installed(site: Site) -> bool:
    """Whether users make their clusters through the Dask operator."""
    return site.dask.engine == "operator"


def release(site: Site) -> Release | None:
    """The operator's release; None where the site has another engine."""
    if not is_installed(site):
        return None
    values = {
        "fullnameOverride": RELEASE,
        # For this namespace alone: the chart's default watches, and may change, every namespace's pods.
        "rbac": {"create": True, "cluster": False},
        "kopfArgs": [f"--namespace={_namespace(site)}"],
    }
    return Release(RELEASE, CHART, chart_version(site), values)


def chart_version(site: Site) -> str:
    """Version of the operator's chart, from the site's release set."""
    from tidehub import release_sets

    name = site.kubernetes.release_set if site.kubernetes is not None else None
    return release_sets.release(name or release_sets.DEFAULT).versions.charts[CHART]


def hub_values(site: Site) -> dict[str, Any]:
    """Values of the jupyterhub chart for users' pods; empty where the site has another engine.

    `$(JUPYTER_IMAGE_SPEC)` is filled in by Kubernetes, after KubeSpawner has set it; braces are doubled for
    KubeSpawner, which formats values.
    """
    if not is_installed(site):
        return {}
    image = site.dask.image.default
    sizes = _amounts(site.dask.worker.cores.default, site.dask.worker.memory.default)
    resources = repr({"requests": sizes, "limits": sizes}).replace("{", "{{").replace("}", "}}")
    environment = {
        "DASK_KUBERNETES__IMAGE": "$(JUPYTER_IMAGE_SPEC)" if image == "profile" else image,
        "DASK_KUBERNETES__RESOURCES": resources,
        # distributed 2026.6 and newer have no dask-worker program.
        "DASK_KUBERNETES__WORKER_COMMAND": "dask worker",
    }
    if site.dask.cluster.idle_timeout:
        environment["DASK_KUBERNETES__IDLE_TIMEOUT"] = str(to_whole_seconds(site.dask.cluster.idle_timeout))
    return {
        "singleuser": {
            # The token comes with it: z2jh leaves it out only where no account is named.
            "serviceAccountName": SERVICE_ACCOUNT,
            "extraEnv": environment,
        }
    }


def objects(site: Site) -> list[Object]:
    """What users' pods may do in the namespace, and within what bounds; nothing with another engine."""
    if not is_installed(site):
        return []
    return [*_account(), *_quota(site), *policies(site)]


def policies(site: Site) -> list[Object]:
    """What the API server admits of clusters, jobs, groups of workers and autoscalers (Kubernetes 1.30 and newer).

    Whoever may have the operator make pods may otherwise have one with any secret of the namespace mounted.
    """
    dask = site.dask
    worker = (dask.worker.cores.max, dask.worker.memory.max)
    scheduler = (max(dask.scheduler.cores, worker[0]), max(dask.scheduler.memory, worker[1]))
    rules = [
        _rule(
            _each_pod(_NO_OTHER_ACCOUNT), "Dask pods run under the account default, with no other's rights."
        ),
        _rule(_each_pod(_NO_HOST), "Dask pods do not share the network or processes of their machine."),
        _rule(
            _each_pod(_PLAIN_VOLUMES), "Dask pods may mount emptyDir, configMap and downwardAPI volumes only."
        ),
        _rule(_each_pod(_ONE_CONTAINER), "A Dask pod has one container, and no others before it."),
        _rule(
            _each_pod(_NO_PRIVILEGES), "Containers of Dask pods are not privileged and gain no capabilities."
        ),
        _rule(_each_pod(_NO_SECRETS), "Containers of Dask pods read no secrets into their environment."),
        _rule(
            f"variables.workers.all(w, {_within('w.spec.containers[0]', *worker)})",
            _too_large("worker", *worker, "dask.worker"),
        ),
        _rule(
            f"variables.schedulers.all(s, {_within('s.spec.containers[0]', *scheduler)})",
            _too_large("scheduler", *scheduler, "dask.scheduler and dask.worker"),
        ),
        _rule(
            f"variables.jobs.all(j, {_within('j.containers[0]', *worker)})",
            _too_large("job", *worker, "dask.worker"),
        ),
        _rule(
            f"variables.workers.all(w, !has(w.replicas) || w.replicas <= {dask.cluster.max_workers}) && "
            f"(object.kind != 'DaskAutoscaler' || object.spec.maximum <= {dask.cluster.max_workers})",
            f"A cluster has {dask.cluster.max_workers} workers at most (dask.cluster.max_workers).",
        ),
        _rule(
            "variables.schedulers.all(s, (!has(s.service.type) || s.service.type == 'ClusterIP') && "
            "!has(s.service.externalIPs))",
            "The service of a scheduler is of the type ClusterIP: nothing is reached from outside.",
        ),
    ]
    return [_admission(site, rules), _binding(site)]


# --- the language of admission policies (CEL) -------------------------------------------------

_VARIABLES = {
    "clusters": "object.kind == 'DaskCluster' ? [object.spec] : "
    "object.kind == 'DaskJob' ? [object.spec.cluster.spec] : []",
    "schedulers": "variables.clusters.map(c, c.scheduler)",
    "workers": "variables.clusters.map(c, c.worker) + "
    "(object.kind == 'DaskWorkerGroup' ? [object.spec.worker] : [])",
    "jobs": "object.kind == 'DaskJob' ? [object.spec.job.spec] : []",
    "pods": "variables.workers.map(w, w.spec) + variables.schedulers.map(s, s.spec) + variables.jobs",
}
_NO_OTHER_ACCOUNT = (
    "(!has(p.serviceAccountName) || p.serviceAccountName in ['', 'default']) && "
    "(!has(p.serviceAccount) || p.serviceAccount in ['', 'default'])"
)
_NO_HOST = " && ".join(
    f"(!has(p.{name}) || p.{name} == false)" for name in ("hostNetwork", "hostPID", "hostIPC")
)
_PLAIN_VOLUMES = (
    "!has(p.volumes) || p.volumes == null || "
    "p.volumes.all(v, has(v.emptyDir) || has(v.configMap) || has(v.downwardAPI))"
)
_ONE_CONTAINER = (
    "size(p.containers) == 1 && (!has(p.initContainers) || size(p.initContainers) == 0) && "
    "!has(p.ephemeralContainers)"
)
_NO_PRIVILEGES = (
    "p.containers.all(k, !has(k.securityContext) || k.securityContext == null || "
    "((!has(k.securityContext.privileged) || k.securityContext.privileged == false) && "
    "(!has(k.securityContext.capabilities) || !has(k.securityContext.capabilities.add))))"
)
_NO_SECRETS = (
    "p.containers.all(k, (!has(k.env) || k.env == null || "
    "k.env.all(e, !has(e.valueFrom) || !has(e.valueFrom.secretKeyRef))) && "
    "(!has(k.envFrom) || k.envFrom == null || k.envFrom.all(e, !has(e.secretRef))))"
)


def _each_pod(expression: str) -> str:
    return f"variables.pods.all(p, {expression})"


def _within(container: str, cores: float, memory: int) -> str:
    limits = f"{container}.resources.limits"
    return (
        f"has({container}.resources) && {container}.resources != null && has({limits}) && "
        f"'cpu' in {limits} && 'memory' in {limits} && "
        f"quantity(string({limits}.cpu)).compareTo(quantity('{to_kubernetes_cpu(cores)}')) <= 0 && "
        f"quantity(string({limits}.memory)).compareTo(quantity('{to_kubernetes_quantity(memory)}')) <= 0"
    )


def _too_large(what: str, cores: float, memory: int, key: str) -> str:
    return (
        f"A {what} states its limits, within cpu {to_kubernetes_cpu(cores)} and memory "
        f"{to_kubernetes_quantity(memory)} ({key}), as in resources={{'limits': {{'cpu': ..., 'memory': ...}}}}."
    )


def _rule(expression: str, message: str) -> dict[str, str]:
    return {"expression": expression, "message": message}


def _admission(site: Site, rules: list[dict[str, str]]) -> Object:
    matched = {
        "apiGroups": [GROUP],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": list(RESOURCES),
    }
    return {
        "apiVersion": f"{_ADMISSION}/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": _admission_name(site), "labels": _LABELS},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [matched]},
            "variables": [{"name": name, "expression": text} for name, text in _VARIABLES.items()],
            "validations": rules,
        },
    }


def _binding(site: Site) -> Object:
    here = {"matchLabels": {"kubernetes.io/metadata.name": _namespace(site)}}
    return {
        "apiVersion": f"{_ADMISSION}/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": _admission_name(site), "labels": _LABELS},
        "spec": {
            "policyName": _admission_name(site),
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": here},
        },
    }


# --- accounts and counts ----------------------------------------------------------------------


def _account() -> list[Object]:
    verbs = ["get", "list", "watch", "create", "patch", "update", "delete"]
    rules = [
        {"apiGroups": [GROUP], "resources": list(RESOURCES), "verbs": verbs},
        # Where the scheduler is, whether it is there yet, and why not.
        {"apiGroups": [""], "resources": ["pods", "pods/log", "services"], "verbs": ["get", "list", "watch"]},
    ]
    reference = {"apiGroup": _RBAC, "kind": "Role", "name": SERVICE_ACCOUNT}
    subjects = [{"kind": "ServiceAccount", "name": SERVICE_ACCOUNT}]
    return [
        _named("v1", "ServiceAccount"),
        _named(f"{_RBAC}/v1", "Role", rules=rules),
        _named(f"{_RBAC}/v1", "RoleBinding", roleRef=reference, subjects=subjects),
    ]


def _quota(site: Site) -> list[Object]:
    """Clusters of all users together, where the site says how many users it is for."""
    if site.site.people is None:
        return []
    most = site.site.people * site.dask.per_user.max_clusters
    return [_named("v1", "ResourceQuota", spec={"hard": {f"count/daskclusters.{GROUP}": str(most)}})]


def _named(version: str, kind: str, **fields: Any) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": SERVICE_ACCOUNT, "labels": _LABELS},
        **fields,
    }


def _amounts(cores: float, memory: int) -> dict[str, str]:
    return {"cpu": to_kubernetes_cpu(cores), "memory": to_kubernetes_quantity(memory)}


def _namespace(site: Site) -> str:
    return (site.kubernetes or Kubernetes()).namespace


def _admission_name(site: Site) -> str:
    # Policies of this kind have no namespace.
    return f"tidehub-{_namespace(site)}-dask"
