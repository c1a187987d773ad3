"""The server itself, and what is between it and this machine: versions, Helm, kinds, names, the clock."""

from __future__ import annotations

from tidehub.kubernetes.objects import identify
from tidehub.kubernetes.preflight.endpoints import ready_addresses
from tidehub.kubernetes.preflight.model import Context, Finding, NotKnown

_CLOCK_WARNING, _CLOCK_PROBLEM = 30.0, 300.0
"""Seconds. Tokens and certificates of a few minutes' life begin to fail beyond the second."""
_DNS = (("k8s-app", "kube-dns"), ("k8s-app", "coredns"), ("app.kubernetes.io/name", "coredns"))
"""Labels of the cluster's name service, by custom the first."""


def connection(context: Context) -> list[Finding]:
    """Whether the API server was reached, and how safely."""
    trouble = context.troubles.get("connection")
    if trouble is not None:
        return [
            Finding(
                "connection", "problem", str(trouble.what), trouble.fix or "", _expected(trouble.expected)
            )
        ]
    cluster = context.there.cluster
    unwise = tuple(getattr(cluster, "warnings", ()))
    if unwise:
        fix = "put the cluster's CA into the kubeconfig and take out insecure-skip-tls-verify"
        return [
            Finding(
                "connection",
                "warning",
                f"{cluster.name} answers, and its certificate is not verified",
                fix,
                unwise,
            )
        ]
    return [Finding("connection", "ok", f"{cluster.name} answers")]


def api_version(context: Context) -> list[Finding]:
    """The server's version against the range of every chart."""
    from tidehub.charts.archive import metadata
    from tidehub.charts.kube_version import check_kube_version

    version = context.there.cluster.version()
    if context.rendered is None:
        raise NotKnown(f"the server is {version}; the charts' ranges are not known without the charts")
    wrong, ranges = [], []
    for one in context.rendered.releases:
        chart, wanted = f"{one.release.chart} {one.release.version}", metadata(one.archive.path).kube_version
        ranges.append(f"{chart}: {wanted or 'any version'}")
        try:
            fits = check_kube_version(wanted, version)
        except ValueError as error:
            raise NotKnown(f"the range of {chart} cannot be read: {error}") from error
        if not fits:
            wrong.append(f"{chart} is for Kubernetes {wanted}")
    if wrong:
        return [
            Finding(
                "api-version",
                "problem",
                f"the server is {version}: {'; '.join(wrong)}",
                "upgrade the cluster, or pin chart versions that fit below kubernetes.charts",
                tuple(ranges),
            )
        ]
    return [
        Finding(
            "api-version",
            "ok",
            f"the server is {version}, which every chart supports",
            evidence=tuple(ranges),
        )
    ]


def helm(context: Context) -> Finding:
    """Whether there is a helm program that can be used."""
    from tidehub.helm.problems import HelmMissing
    from tidehub.helm.program import find_helm

    try:
        program = find_helm(context.environ)
    except HelmMissing as problem:
        where = f" ({problem.where})" if problem.where else ""
        return Finding(
            "helm", "problem", f"{problem.what}{where}", problem.fix or "", _expected(problem.expected)
        )
    return Finding("helm", "ok", f"helm {program.version}", evidence=(program.path,))


def rendering(context: Context) -> list[Finding]:
    """Whether the site can be rendered with its charts."""
    found = []
    for name in ("charts", "rendering"):
        trouble = context.troubles.get(name)
        if trouble is not None:
            head, *rest = str(trouble).splitlines()
            told = tuple(line.strip() for line in rest if not line.startswith("  to do: "))
            fix = trouble.fix or "correct the site file as it says"
            found.append(Finding(name, "problem", head, fix, told))
    if context.rendered is not None and not found:
        count = sum(1 for _ in context.rendered.everything())
        found.append(Finding("rendering", "ok", f"{count} objects are to be deployed"))
    return found


def kinds_served(context: Context) -> Finding:
    """Whether the server has every kind that is to be deployed, or gets it from a CRD that comes along."""
    rendered, look = context.objects, context.there
    coming = {
        (f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"])
        for crd in rendered.crds
        for version in crd["spec"].get("versions") or []
    }
    coming |= {
        (f"{crd['spec']['group']}/{crd['spec']['version']}", crd["spec"]["names"]["kind"])
        for crd in rendered.crds
        if crd["spec"].get("version")
    }
    wanted = {
        (str(obj["apiVersion"]), str(obj["kind"])): identify(obj, context.namespace)
        for _, obj in rendered.everything()
    }
    lacking = [one for kind, one in wanted.items() if kind not in coming and not look.serves(*kind)]
    if lacking:
        names = tuple(f"{one.kind} of {one.api_version}, for example {one.name}" for one in lacking)
        kind = lacking[0]
        fix = (
            "install what defines these kinds (for the Gateway API: its CustomResourceDefinitions)"
            if ("." in kind.group and not kind.group.endswith(".k8s.io")) or "gateway" in kind.group
            else "the chart writes kinds of another Kubernetes: take a chart version for this one"
        )
        return Finding(
            "kinds-served", "problem", f"the server has no {kind.kind} of {kind.api_version}", fix, names
        )
    return Finding(
        "kinds-served", "ok", f"the server has all {len(wanted)} kinds, or gets them with the deployment"
    )


def cluster_dns(context: Context) -> Finding:
    """Whether names are resolved inside of the cluster."""
    look = context.there
    services = [
        one
        for one in look.all("v1", "Service", "kube-system")
        if any((one["metadata"].get("labels") or {}).get(key) == value for key, value in _DNS)
        or one["metadata"]["name"] == "kube-dns"
    ]
    if not services:
        return Finding(
            "cluster-dns",
            "warning",
            "no DNS service was found in kube-system: pods may not find each other",
            "have CoreDNS installed, unless this cluster resolves names by other means",
        )
    name = str(services[0]["metadata"]["name"])
    ready = ready_addresses(look, "kube-system", name)
    if not ready:
        return Finding(
            "cluster-dns",
            "problem",
            f"the cluster's DNS service ({name} in kube-system) has no pod that is ready",
            "have its pods repaired: without it the hub does not find its proxy",
        )
    return Finding("cluster-dns", "ok", f"the cluster's DNS service has {len(ready)} ready")


def clock(context: Context) -> Finding:
    """The API server's clock against this machine's."""
    read = getattr(context.there.cluster, "clock_offset", None)
    offset = read() if callable(read) else None
    if offset is None:
        raise NotKnown("the API server does not say what time it has")
    return clock_finding("clock", "the API server's clock", float(offset))


def clock_finding(item: str, clock: str, offset: float) -> Finding:
    """What an offset in seconds means. Answers carry whole seconds, and take their time to come."""
    apart = f"{clock} is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine's"
    if abs(offset) < _CLOCK_WARNING:
        return Finding(item, "ok", f"{clock} agrees with this machine's")
    state = "problem" if abs(offset) >= _CLOCK_PROBLEM else "warning"
    fix = "set the clocks by NTP: tokens and certificates are refused before and after their time"
    return Finding(item, state, apart, fix)  # type: ignore[arg-type]


def _expected(text: str | None) -> tuple[str, ...]:
    return (f"expected: {text}",) if text else ()
