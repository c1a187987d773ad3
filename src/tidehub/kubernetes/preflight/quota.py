"""ResourceQuotas and LimitRanges of the namespace against what will be created in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any

from tidehub.kubernetes.objects import Object, identify
from tidehub.kubernetes.planning.quantities import amount
from tidehub.kubernetes.preflight.model import Context, Finding
from tidehub.kubernetes.preflight.ownership import existing
from tidehub.kubernetes.preflight.workloads import (
    Workload,
    containers,
    pod_amounts,
    user_pods,
    workloads,
    written,
)

_COUNTED = {
    "Secret": "secrets", "ConfigMap": "configmaps", "Service": "services",
    "PersistentVolumeClaim": "persistentvolumeclaims",
}  # fmt: skip
_COMPUTE = ("cpu", "memory", "ephemeral-storage")


def quota(context: Context) -> list[Finding]:
    """Whether the platform, and one user's server beside it, fit into the quotas."""
    quotas = context.there.all("v1", "ResourceQuota", context.namespace)
    if not quotas:
        return [Finding("quota", "ok", "no ResourceQuota limits the namespace")]
    platform = _new_demand(context)
    user = _demand([_first_server(context)])
    findings = [one for each in quotas for one in _against(each, platform, user, context)]
    return findings or [
        Finding("quota", "ok", f"the platform and a first server fit into the quota ({_names(quotas)})")
    ]


def limit_range(context: Context) -> list[Finding]:
    """Whether containers and PVCs are within the bounds of the LimitRanges."""
    ranges = context.there.all("v1", "LimitRange", context.namespace)
    if not ranges:
        return [Finding("limit-range", "ok", "no LimitRange bounds containers or PVCs")]
    pods = [*workloads(context.objects), *user_pods(context.site)]
    broken = []
    for one in ranges:
        for bounds in (one.get("spec") or {}).get("limits") or []:
            broken += [
                f"{text} (LimitRange {one['metadata']['name']})" for text in _out_of(bounds, pods, context)
            ]
    if broken:
        return [
            Finding(
                "limit-range",
                "problem",
                f"{broken[0]}" + (f", and {len(broken) - 1} more" if len(broken) > 1 else ""),
                "have the LimitRange widened, or ask for less in the site file",
                tuple(broken),
            )
        ]
    return [Finding("limit-range", "ok", f"all containers are within the LimitRange ({_names(ranges)})")]


def _against(
    quota: Object, platform: Mapping[str, Decimal], user: Mapping[str, Decimal], context: Context
) -> Iterator[Finding]:
    status, spec = quota.get("status") or {}, quota.get("spec") or {}
    if spec.get("scopes") or spec.get("scopeSelector"):
        # It counts some pods only, and which they are is the cluster's to say.
        return
    hard = _numbers(status.get("hard") or spec.get("hard") or {})
    used = _numbers(status.get("used") or {})
    name = quota["metadata"]["name"]
    over = []
    for resource, most in hard.items():
        left = most - used.get(resource, Decimal(0))
        wanted = platform.get(_plain(resource), Decimal(0))
        if wanted > left:
            over.append(f"{resource}: {written(resource, wanted)} wanted, {written(resource, left)} left")
    if over:
        yield Finding(
            "quota",
            "problem",
            f"the ResourceQuota {name} does not hold the platform: {over[0]}",
            "ask for a larger quota, or ask for less in the site file",
            tuple(over),
        )
    else:
        yield from _one_user(name, hard, used, platform, user)
    yield from _unstated(name, hard, context)


def _one_user(
    name: str,
    hard: Mapping[str, Decimal],
    used: Mapping[str, Decimal],
    platform: Mapping[str, Decimal],
    user: Mapping[str, Decimal],
) -> Iterator[Finding]:
    short = []
    for resource, most in hard.items():
        key = _plain(resource)
        left = most - used.get(resource, Decimal(0)) - platform.get(key, Decimal(0))
        if user.get(key, Decimal(0)) > left:
            short.append(f"{resource}: {written(resource, user[key])} wanted, {written(resource, left)} left")
    if short:
        yield Finding(
            "quota-users",
            "problem",
            f"the ResourceQuota {name} holds the platform, and no user's server beside it: {short[0]}",
            "ask for a larger quota: every server takes its guarantee from it",
            tuple(short),
        )


def _unstated(name: str, hard: Mapping[str, Decimal], context: Context) -> Iterator[Finding]:
    """With a quota on an amount, a container that does not state it is refused, unless a LimitRange fills it in."""
    given = {
        (f"{which}.{resource}")
        for one in context.there.all("v1", "LimitRange", context.namespace)
        for bounds in (one.get("spec") or {}).get("limits") or []
        for which, key in (("limits", "default"), ("requests", "defaultRequest"))
        for resource in bounds.get(key) or {}
    }
    for resource in hard:
        which, _, bare = resource.rpartition(".") if "." in resource else ("requests", "", resource)
        if which not in ("requests", "limits") or bare not in _COMPUTE or f"{which}.{bare}" in given:
            continue
        without = [
            one.name
            for one in [*workloads(context.objects), *user_pods(context.site)]
            if any(
                bare not in _stated(container, which) for container in containers(one.pod.get("spec") or {})
            )
        ]
        if without:
            yield Finding(
                "quota-unstated",
                "problem",
                f"the ResourceQuota {name} demands {which}.{bare} of every container, and {without[0]} states none",
                "have a LimitRange with defaults put beside the quota, or state the amounts in overrides.helm",
                tuple(without),
            )
            return


def _stated(container: Mapping[str, Any], which: str) -> Mapping[str, Any]:
    resources = container.get("resources") or {}
    stated = dict(resources.get("limits") or {})
    return stated if which == "limits" else stated | dict(resources.get("requests") or {})


def _new_demand(context: Context) -> dict[str, Decimal]:
    """What is created that is not there yet, by the resource names of quotas."""
    there = existing(context)
    new = [obj for _, obj in context.objects.everything() if identify(obj, context.namespace) not in there]
    names = {f"{obj['kind']} {obj['metadata']['name']}" for obj in new}
    pods = [one for one in workloads(context.objects) if one.name in names and not one.hook]
    total = _demand(pods, daemon_pods=_node_count(context))
    for obj in new:
        counted = _COUNTED.get(str(obj["kind"]))
        if counted:
            total[counted] = total.get(counted, Decimal(0)) + 1
        if obj["kind"] == "PersistentVolumeClaim":
            size = amount(((obj["spec"].get("resources") or {}).get("requests") or {}).get("storage"))
            total["requests.storage"] = total.get("requests.storage", Decimal(0)) + (size or 0)
        if obj["kind"] == "Service" and (obj.get("spec") or {}).get("type") == "LoadBalancer":
            total["services.loadbalancers"] = total.get("services.loadbalancers", Decimal(0)) + 1
    return total


def _demand(pods: Iterable[Workload], daemon_pods: int = 1) -> dict[str, Decimal]:
    total: dict[str, Decimal] = {}
    for one in pods:
        count = one.count or daemon_pods
        total["pods"] = total.get("pods", Decimal(0)) + count
        for which in ("requests", "limits"):
            for name, number in pod_amounts(one.pod.get("spec") or {}, which).items():
                key = f"{which}.{name}"
                total[key] = total.get(key, Decimal(0)) + number * count
    return total


def _first_server(context: Context) -> Workload:
    wanted = context.site.notebooks.default_profile.name
    pods = user_pods(context.site)
    return next((one for one in pods if one.name.endswith(f" {wanted}")), pods[0])


def _node_count(context: Context) -> int:
    from tidehub.kubernetes.cluster.port import ClusterProblem

    try:
        return max(len(context.there.all("v1", "Node")), 1)
    except ClusterProblem:
        return 1


def _out_of(bounds: Mapping[str, Any], pods: Iterable[Workload], context: Context) -> Iterator[str]:
    kind = bounds.get("type")
    least, most = _numbers(bounds.get("min") or {}), _numbers(bounds.get("max") or {})
    if kind == "PersistentVolumeClaim":
        for name, size in _pvcs(context):
            yield from _outside(name, {"storage": size}, {"storage": size}, least, most)
        return
    for one in pods:
        spec = one.pod.get("spec") or {}
        each = (
            [{"containers": [container]} for container in containers(spec)] if kind == "Container" else [spec]
        )
        for part in each:
            yield from _outside(
                one.name, pod_amounts(part, "requests"), pod_amounts(part, "limits"), least, most
            )


def _outside(
    name: str,
    requests: Mapping[str, Decimal],
    limits: Mapping[str, Decimal],
    least: Mapping[str, Decimal],
    most: Mapping[str, Decimal],
) -> Iterator[str]:
    for resource, bound in most.items():
        wanted = max(limits.get(resource, Decimal(0)), requests.get(resource, Decimal(0)))
        if wanted > bound:
            yield f"{name} wants {written(resource, wanted)} of {resource}; at most {written(resource, bound)} may be"
    for resource, bound in least.items():
        if resource in requests and requests[resource] < bound:
            yield (
                f"{name} wants {written(resource, requests[resource])} of {resource}; "
                f"at least {written(resource, bound)} must be"
            )


def _pvcs(context: Context) -> Iterator[tuple[str, Decimal]]:
    for _, obj in context.objects.everything():
        if obj["kind"] == "PersistentVolumeClaim":
            size = amount(((obj["spec"].get("resources") or {}).get("requests") or {}).get("storage"))
            if size is not None:
                yield f"the PVC {obj['metadata']['name']}", size
    home = context.site.notebooks.home.size
    if home is not None:
        yield "a user's home", Decimal(home)


def _numbers(quantities: Mapping[str, Any]) -> dict[str, Decimal]:
    read = {str(name): amount(value) for name, value in quantities.items()}
    return {name: number for name, number in read.items() if number is not None}


def _plain(resource: str) -> str:
    """`cpu` and `memory` of a quota mean requests; `count/secrets` the same as `secrets`."""
    if resource in _COMPUTE:
        return f"requests.{resource}"
    return resource.removeprefix("count/")


def _names(objects: Iterable[Object]) -> str:
    return ", ".join(str(one["metadata"]["name"]) for one in objects)
