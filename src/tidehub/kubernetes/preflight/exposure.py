"""Exposure by Ingress or load balancer, and the DNS name that leads there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from tidehub import program
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.preflight import addresses
from tidehub.kubernetes.preflight.edges.network import NoAnswer
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown, Skip
from tidehub.site.destinations import exposure as exposure_values

_INGRESS = "networking.k8s.io/v1"
_RETIRED = "k8s.io/ingress-nginx"
_PATIENCE = 120.0
"""Seconds that a load balancer may take to get its address."""
_ANNOUNCERS = ("metallb.io/v1beta1", "kube-vip.io/v1", "cilium.io/v2alpha1", "cilium.io/v2")


def ingress_class(context: Context) -> Finding:
    """Whether the class that serves the site is there."""
    _only(context, "ingress")
    classes = {str(one["metadata"]["name"]): one for one in context.there.all(_INGRESS, "IngressClass")}
    names = tuple(f"there is {name}" for name in sorted(classes)) or ("the cluster has no IngressClass",)
    wanted = exposure_values.exposure_of(context.site).class_name
    if wanted is None:
        name = addresses.ingress_class_name(context)
        if name is None:
            what = "the site names no IngressClass, and none is the default one: no controller would serve the Ingress"
            return Finding("ingress-class", "problem", what, "write kubernetes.exposure.class", names)
        return _class_found(name, classes[name], "the default IngressClass")
    if wanted in classes:
        return _class_found(wanted, classes[wanted], "the IngressClass")
    if _by_annotation(context):
        return Finding(
            "ingress-class",
            "warning",
            f"the IngressClass {wanted} was not found; this chart names it in an annotation only",
            "see whether the cluster's controller goes by the annotation, or name a class that exists",
            names,
        )
    fix = "write one of those as kubernetes.exposure.class, or have an ingress controller installed"
    return Finding("ingress-class", "problem", f"the IngressClass {wanted} was not found", fix, names)


def ingress_address(context: Context) -> Finding:
    """Whether the class's controller gives addresses out."""
    _only(context, "ingress")
    name = addresses.ingress_class_name(context)
    if name is None:
        raise Skip
    ingresses = [one for one in context.there.all(_INGRESS, "Ingress") if addresses.class_of(one) == name]
    with_address = [one for one in ingresses if addresses.load_balancer_addresses(one.get("status"))]
    if with_address:
        found = sorted(
            {one for each in with_address for one in addresses.load_balancer_addresses(each.get("status"))}
        )
        return Finding(
            "ingress-address", "ok", f"Ingresses of the class {name} have the address {', '.join(found)}"
        )
    waiting = _waiting(context)
    if waiting:
        return Finding(
            "ingress-address",
            "problem",
            f"the controller's load balancer {waiting[0]} has no address",
            "have the cloud's load balancers checked (quota, controller): the Ingress is not reachable without one",
            tuple(waiting),
        )
    # Who states externalIPs leads traffic there by other means, and no controller needs to publish them.
    stated = any((one.get("spec") or {}).get("externalIPs") for one in addresses.controller_services(context))
    if ingresses and not stated:
        named = [f"{one['metadata']['namespace']}/{one['metadata']['name']}" for one in ingresses]
        return Finding(
            "ingress-address",
            "problem",
            f"no Ingress of the class {name} has an address: its controller does not run, or publishes none",
            "have the ingress controller checked",
            tuple(named[:8]),
        )
    found = addresses.exposure(context)
    if found:
        return Finding("ingress-address", "ok", f"web traffic comes in at {', '.join(found)}")
    raise NotKnown(
        f"no Ingress of the class {name} is there yet, so its address is not known",
        f"see after the deployment: `{program.command('check')}` opens the public address",
    )


def ingress_host(context: Context) -> Finding:
    """Whether another Ingress has the site's host and path already."""
    _only(context, "ingress")
    host = exposure_values.host_of(context.site)
    if host is None:
        raise Skip
    taken = []
    for ingress in context.there.all(_INGRESS, "Ingress"):
        meta = ingress["metadata"]
        if meta.get("namespace") == context.namespace and meta["name"] == "jupyterhub":
            continue
        for rule in (ingress.get("spec") or {}).get("rules") or []:
            for path in (rule.get("http") or {}).get("paths") or []:
                if rule.get("host") == host and str(path.get("path") or "/") == context.site.base_path:
                    taken.append(f"{meta.get('namespace')}/{meta['name']}: {host}{path.get('path') or '/'}")
    if taken:
        return Finding(
            "ingress-host",
            "problem",
            f"another Ingress has {host}{context.site.base_path} already",
            "use another address (site.url), or remove that Ingress once nobody needs it",
            tuple(taken),
        )
    return Finding("ingress-host", "ok", f"no other Ingress has {host}{context.site.base_path}")


def load_balancer(context: Context) -> Finding:
    """Whether a load balancer of the site's own would get an address."""
    _only(context, "load-balancer")
    look = context.there
    services = [
        one for one in look.all("v1", "Service") if (one.get("spec") or {}).get("type") == "LoadBalancer"
    ]
    served = [one for one in services if addresses.service_addresses(one)]
    waiting = _waiting(context, every=True)
    if waiting and not served:
        return Finding(
            "load-balancer",
            "problem",
            "no load balancer of this cluster has an address, so the platform's would get none",
            "have a load balancer controller installed, or expose the site by an Ingress",
            tuple(waiting),
        )
    if served:
        return Finding("load-balancer", "ok", f"load balancers get addresses here ({len(served)} have one)")
    if any(one.api_version in _ANNOUNCERS for one in look.cluster.served()):
        return Finding("load-balancer", "ok", "something that gives load balancers addresses is installed")
    clouds = {
        str((node.get("spec") or {}).get("providerID")).partition(":")[0] for node in _nodes(context)
    } - {"None", "kwok"}
    if clouds:
        return Finding(
            "load-balancer",
            "ok",
            f"the nodes are of a cloud ({', '.join(sorted(clouds))}), which has load balancers",
        )
    return Finding(
        "load-balancer",
        "warning",
        "nothing in the cluster shows that load balancers get addresses here",
        "ask its administrators, or expose the site by an Ingress",
    )


def dns(context: Context) -> Finding:
    """Whether the site's name leads to where the platform is."""
    host = exposure_values.host_of(context.site)
    if host is None:
        raise Skip
    if addresses.is_ip(host):
        return Finding(
            "dns",
            "warning",
            f"the site's address is the IP address {host}, and certificates are for DNS names",
        )
    try:
        found = context.network.addresses(host)
    except NoAnswer as error:
        raise NotKnown(str(error.what)) from error
    if not found:
        return Finding(
            "dns",
            "problem",
            f"the name {host} does not exist",
            "point it to the address of the Ingress, Gateway or load balancer; Let's Encrypt needs it too",
        )
    there = _numbers(context)
    if not there:
        return Finding(
            "dns", "ok", f"{host} is {', '.join(found)}; the address of the exposure is not known yet"
        )
    if set(found) & set(there):
        return Finding("dns", "ok", f"{host} is {', '.join(found)}, where the platform's traffic comes in")
    private = addresses.is_private(there) and not addresses.is_private(found)
    return Finding(
        "dns",
        "warning" if private else "problem",
        f"{host} is {', '.join(found)}, and the exposure has {', '.join(there)}",
        "see that the public address leads on to that one" if private else f"make {host} point there",
    )


def _numbers(context: Context) -> list[str]:
    """Addresses of the exposure, as IP addresses."""
    if context.look is None:
        return []
    try:
        found = addresses.exposure(context)
    except ClusterProblem:
        return []
    numbers: list[str] = []
    for one in found:
        try:
            numbers += [one] if addresses.is_ip(one) else context.network.addresses(one)
        except NoAnswer:
            continue
    return numbers


def _class_found(name: str, found: Object, what: str) -> Finding:
    controller = str((found.get("spec") or {}).get("controller"))
    note = ("this controller was retired in 2026 and gets no more repairs",) if controller == _RETIRED else ()
    return Finding("ingress-class", "ok", f"{what} {name} is served by {controller}", evidence=note)


def _by_annotation(context: Context) -> bool:
    """Whether the chart names the class in the annotation of old."""
    for _, obj in context.rendered.everything() if context.rendered else ():
        if obj["kind"] == "Ingress":
            return not (obj.get("spec") or {}).get("ingressClassName")
    return False


def _waiting(context: Context, *, every: bool = False) -> list[str]:
    """Load balancers that have waited long for an address."""
    services = (
        [
            one
            for one in context.there.all("v1", "Service")
            if (one.get("spec") or {}).get("type") == "LoadBalancer"
        ]
        if every
        else addresses.controller_services(context)
    )
    return [
        f"{one['metadata']['namespace']}/{one['metadata']['name']}"
        for one in services
        if not addresses.service_addresses(one) and _age(one, context) > _PATIENCE
    ]


def _age(obj: Object, context: Context) -> float:
    made = datetime.fromisoformat(str(obj["metadata"]["creationTimestamp"]))
    return (datetime.fromtimestamp(context.network.now(), UTC) - made).total_seconds()


def _nodes(context: Context) -> Iterator[Object]:
    try:
        yield from context.there.all("v1", "Node")
    except ClusterProblem:
        return


def _only(context: Context, kind: str) -> None:
    if addresses.kind_of(context) != kind:
        raise Skip
