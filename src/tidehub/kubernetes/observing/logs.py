"""Logs of a deployed platform by the names that operators use: `hub`, `proxy`, `servers/NAME`, `clusters/ID`."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tidehub import program
from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.deploying.observed import name_of, spec_of, status_of
from tidehub.kubernetes.objects import SERVER, USERNAME, Object
from tidehub.kubernetes.observing.people import CLUSTER, OPERATED, OPERATED_ROLE, ROLE

MOST_FOLLOWED = 16
"""Logs followed at the same time; each holds a connection."""
MOST_WAITING = 1000
"""Lines read and not yet shown."""


@dataclass(frozen=True)
class Source:
    """One container's log."""

    name: str
    pod: str
    container: str
    also: frozenset[str] = frozenset()
    """What `status` and people call it: the Deployment, the user, the cluster with its namespace."""


def sources(cluster: Cluster, namespace: str) -> list[Source]:
    """Every log there is, sorted by name. Raises `TidehubError` where nothing runs."""
    pods = cluster.find("v1", "Pod", namespace)
    found = sorted(
        (
            Source(name, name_of(pod), container, _also(pod, namespace))
            for pod in pods
            for name, container in _names(pod)
        ),
        key=lambda one: (one.name.count("/"), one.name, one.pod),
    )
    if not found:
        raise TidehubError(
            f"nothing runs in the namespace {namespace} of {cluster.name}",
            fix=f"`{program.command('status')}` shows what is installed",
        )
    return found


def choose(found: Sequence[Source], part: str | None) -> list[Source]:
    """The logs of `part`, of all below it (`servers`), or of every part of the platform. Raises `UsageError`."""
    if part is None:
        return [one for one in found if "/" not in one.name]
    wanted = part.strip("/")
    chosen = [
        one
        for one in found
        if one.name == wanted or one.name.startswith(f"{wanted}/") or wanted in (one.pod, *one.also)
    ]
    if not chosen:
        raise UsageError(
            f"no log of {part!r} was found", expected=", ".join(dict.fromkeys(one.name for one in found))
        )
    return chosen


def last_lines(
    cluster: Cluster,
    namespace: str,
    source: Source,
    lines: int | None,
    *,
    seconds: float | None = None,
    keep: Callable[[str], bool] = lambda line: True,
) -> list[str]:
    """The last `lines` of a log (None: all of them) that `keep` lets pass, of the last `seconds`; why there are none
    where a container has not started."""
    asked = None if lines is None else max(lines, 1) * 4
    try:
        while True:
            found = list(
                cluster.logs(source.pod, namespace, container=source.container, tail=asked, seconds=seconds)
            )
            kept = [line for line in found if keep(line)]
            if lines is None or asked is None:
                return kept
            if len(kept) >= lines or len(found) < asked:
                return kept[len(kept) - lines :] if lines < len(kept) else kept
            asked *= 4
    except ClusterProblem as problem:
        if problem.reason in ("invalid", "not-found", "other"):
            return [f"(no log: {problem.what})"]
        raise


def follow(cluster: Cluster, namespace: str, chosen: Sequence[Source]) -> Iterator[tuple[Source, str]]:
    """Lines of these logs as they are written, until the last of them ends. Raises `UsageError` for too many."""
    if len(chosen) > MOST_FOLLOWED:
        raise UsageError(
            f"these are {len(chosen)} logs",
            expected=f"at most {MOST_FOLLOWED} at a time",
            fix="name one part",
        )
    # Bounded: who reads slowly makes the readers wait, and the cluster keeps what is not read yet.
    lines: queue.Queue[tuple[Source, str] | Source] = queue.Queue(MOST_WAITING)

    def read(source: Source) -> None:
        try:
            for line in cluster.logs(source.pod, namespace, container=source.container, tail=0, follow=True):
                lines.put((source, line))
        except ClusterProblem as problem:
            lines.put((source, f"(the log ended: {problem.what})"))
        finally:
            lines.put(source)

    for source in chosen:
        threading.Thread(target=read, args=(source,), daemon=True).start()
    open_ = len(chosen)
    while open_:
        item = lines.get()
        if isinstance(item, Source):
            open_ -= 1
        else:
            yield item


def redactor(secrets: Sequence[str]) -> Callable[[str], str]:
    """Hides these secrets, and what looks like one in an address."""
    from tidehub.login.log_scrub import scrub

    known = sorted((secret for secret in secrets if len(secret) > 5), key=len, reverse=True)

    def hide(line: str) -> str:
        for secret in known:
            line = line.replace(secret, "[hidden]")
        return scrub(line)

    return hide


def _names(pod: Object) -> Iterator[tuple[str, str]]:
    """The logs of one pod: a name and its container. Several containers are told apart by the container's name."""
    labels: Mapping[str, str] = pod["metadata"].get("labels") or {}
    if labels.get("component") == SERVER:
        who = (pod["metadata"].get("annotations") or {}).get(USERNAME) or name_of(pod)
        base = f"servers/{who}"
    elif cluster := labels.get(CLUSTER) or labels.get(OPERATED):
        roles = f"{labels.get(ROLE, '')}{labels.get(OPERATED_ROLE, '')}"
        base = f"clusters/{cluster}/{'scheduler' if 'scheduler' in roles else name_of(pod)}"
    else:
        base = _part(labels, pod)
    containers = [one["name"] for one in spec_of(pod).get("containers") or ()]
    started = {one["name"] for one in status_of(pod).get("containerStatuses") or ()} or set(containers)
    for container in containers:
        if container in started:
            yield (base if len(containers) == 1 else f"{base}/{container}"), container


def _also(pod: Object, namespace: str) -> frozenset[str]:
    meta = pod["metadata"]
    labels: Mapping[str, str] = meta.get("labels") or {}
    found = {str(one.get("name")) for one in meta.get("ownerReferences") or ()}
    # A ReplicaSet is its Deployment with the digest of the template.
    found |= {name.removesuffix(f"-{labels.get('pod-template-hash')}") for name in found}
    if labels.get("component") == SERVER:
        found.add(str((meta.get("annotations") or {}).get(USERNAME)))
    if cluster := labels.get(CLUSTER) or labels.get(OPERATED):
        # Dask Gateway calls it so to its users.
        found |= {cluster, f"{namespace}.{cluster}", f"clusters/{namespace}.{cluster}"}
    return frozenset(found)


def _part(labels: Mapping[str, str], pod: Object) -> str:
    """`hub`, `proxy`, ... as the charts label them; the owner's name for what they do not."""
    component = labels.get("app.kubernetes.io/component") or labels.get("component")
    if labels.get("app.kubernetes.io/name") == "dask-gateway" or "gateway" in str(
        labels.get("app.kubernetes.io/name")
    ):
        return {"gateway": "gateway", "controller": "gateway-controller", "traefik": "gateway-proxy"}.get(
            str(component), f"gateway-{component}"
        )
    return str(component or name_of(pod))
