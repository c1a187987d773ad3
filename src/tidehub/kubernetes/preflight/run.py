"""Asks every item, side by side and within one deadline."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem
from tidehub.kubernetes.preflight import (
    admission,
    capacity,
    crds,
    exposure,
    exposure_gateway,
    identity,
    images,
    issuing,
    namespace,
    ownership,
    permissions,
    placing,
    pod_security,
    quota,
    server,
    storage,
)
from tidehub.kubernetes.preflight.model import (
    Check,
    Context,
    Finding,
    NotKnown,
    NotRendered,
    Skip,
    right_missing,
)

SECONDS = 90.0
"""For all items together."""
_SIDE_BY_SIDE = 12
_RENDER_FIRST = "fix what is reported about secrets, charts, helm or the rendering, and run this again"

ITEMS: tuple[tuple[str, str, Check], ...] = (
    ("Cluster", "connection", server.connection),
    ("Cluster", "api-version", server.api_version),
    ("Cluster", "helm", server.helm),
    ("Cluster", "rendering", server.rendering),
    ("Cluster", "kinds-served", server.kinds_served),
    ("Cluster", "nodes", capacity.nodes),
    ("Cluster", "cluster-dns", server.cluster_dns),
    ("Cluster", "webhooks", admission.webhooks),
    ("Cluster", "clock", server.clock),
    ("Permissions", "permissions", permissions.permissions),
    ("Permissions", "grants", permissions.grants),
    ("Namespace", "namespace", namespace.namespace),
    ("Namespace", "releases", ownership.releases),
    ("Namespace", "owner", ownership.owner),
    ("Namespace", "finalizers", namespace.finalizers),
    ("Namespace", "quota", quota.quota),
    ("Namespace", "limit-range", quota.limit_range),
    ("Namespace", "pod-security", pod_security.pod_security),
    ("CRDs", "crds", crds.crds),
    ("Storage", "storage-class", storage.storage_class),
    ("Storage", "pvcs", storage.pvcs),
    ("Exposure", "ingress-class", exposure.ingress_class),
    ("Exposure", "ingress-address", exposure.ingress_address),
    ("Exposure", "ingress-host", exposure.ingress_host),
    ("Exposure", "gateway", exposure_gateway.gateway),
    ("Exposure", "load-balancer", exposure.load_balancer),
    ("Exposure", "issuer", issuing.issuer),
    ("Exposure", "tls-secret", issuing.tls_secret),
    ("Exposure", "dns", exposure.dns),
    ("Capacity", "users", capacity.users),
    ("Capacity", "fits", placing.fits),
    ("Images", "images", images.images),
    ("Login", "identity-provider", identity.provider),
    ("Login", "callback-url", identity.callback_url),
    ("Login", "provider-clock", identity.provider_clock),
    ("Login", "secrets", identity.secrets),
)
"""Group, item and its function, in the order of the report. An item may find several things, also of other names."""


def preflight(
    context: Context, *, seconds: float = SECONDS, tell: Callable[[str], None] | None = None
) -> list[Finding]:
    """The findings of all items that arise, in the order of `ITEMS`. Raises nothing: what fails is a finding.

    `seconds` is for all of them; what is not answered by then is `unknown`. `tell` gets each item's name as it ends.
    """
    pool = ThreadPoolExecutor(_SIDE_BY_SIDE, thread_name_prefix="preflight")
    deadline = time.monotonic() + seconds
    running = [(group, item, pool.submit(_asked, item, check, context, tell)) for group, item, check in ITEMS]
    try:
        findings = [
            replace(finding, group=group)
            for group, item, future in running
            for finding in _in_time(item, future, deadline, seconds)
        ]
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return _gathered(findings)


def _gathered(findings: list[Finding]) -> list[Finding]:
    """Without rendered objects a dozen items say the same: they say it once, where the rendering is told."""
    without = [one for one in findings if one.state == "unknown" and one.fix == _RENDER_FIRST]
    if not without:
        return findings
    rest = [one for one in findings if one not in without]
    told = Finding(
        "rendering",
        "unknown",
        f"{len(without)} items were left out: they need the objects that are to be deployed",
        _RENDER_FIRST,
        (", ".join(one.item for one in without),),
        "Cluster",
    )
    place = max((number + 1 for number, one in enumerate(rest) if one.group == "Cluster"), default=0)
    return [*rest[:place], told, *rest[place:]]


def _in_time(item: str, future: Future[list[Finding]], deadline: float, seconds: float) -> Iterator[Finding]:
    try:
        yield from future.result(timeout=max(deadline - time.monotonic(), 0))
    except TimeoutError:
        future.cancel()
        yield Finding(
            item, "unknown", f"no answer within {seconds:.0f} s", "run it again, or look at this by hand"
        )


def _asked(item: str, check: Check, context: Context, tell: Callable[[str], None] | None) -> list[Finding]:
    try:
        found = check(context)
    except Skip:
        return []
    except NotRendered as error:
        found = Finding(item, "unknown", str(error), _RENDER_FIRST)
    except NotKnown as error:
        found = Finding(item, "unknown", str(error), error.fix)
    except ClusterProblem as problem:
        found = (
            right_missing(problem, item)
            if problem.reason == "forbidden"
            else Finding(item, "unknown", problem.what, problem.fix or "")
        )
    except TidehubError as error:
        found = Finding(item, "unknown", error.what, error.fix or "")
    if tell is not None:
        tell(item)
    return found if isinstance(found, list) else [found]
