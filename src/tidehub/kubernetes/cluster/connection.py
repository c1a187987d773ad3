"""A cluster through the official client, imported only when something connects."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tidehub.kubernetes.cluster import discovery, kubeconfig, streams
from tidehub.kubernetes.cluster.port import (
    FIELD_MANAGER,
    Access,
    Cluster,
    ClusterProblem,
    ExecResult,
    ServedKind,
    WatchEvent,
)
from tidehub.kubernetes.cluster.problems import Server, not_served
from tidehub.kubernetes.cluster.transport import Transport
from tidehub.kubernetes.objects import Object

_PAGE = 500
"""Objects asked for at once, as kubectl does."""
_SIDE_BY_SIDE = 8


def connect(kubeconfig: str | None = None, context: str | None = None, *, seconds: float = 30) -> Connection:
    """The cluster of a kubeconfig's context, after one answer of its API server.

    Without a kubeconfig: KUBECONFIG, then `~/.kube/config`, then the service account of the pod this runs in.
    `seconds` is the deadline of every call. Raises `ClusterProblem`.
    """
    connection = Connection(
        *_target(kubeconfig, context), kubeconfig=kubeconfig, context=context, seconds=seconds
    )
    try:
        connection.version()
    except ClusterProblem as problem:
        # Whoever may not even ask for the version may still do the rest.
        if problem.reason != "forbidden":
            connection.close()
            raise
    return connection


class Connection(Cluster):
    """`Cluster` over HTTPS. Threads may share it."""

    def __init__(
        self,
        server: Server,
        chosen: kubeconfig.Chosen | None,
        *,
        kubeconfig: str | None,
        context: str | None,
        seconds: float,
    ) -> None:
        self._server = server
        self._kubeconfig = kubeconfig
        self._context = context
        self._transport = Transport(server, chosen, seconds=seconds)
        self._discovery = discovery.Discovery(self._transport)
        self._version: str | None = None
        self.default_namespace = chosen.namespace if chosen is not None else None
        """The context's namespace, where it names one."""

    @property
    def name(self) -> str:
        """See `Cluster`."""
        return self._server.name

    @property
    def kubeconfig(self) -> str | None:
        """See `Cluster`."""
        return self._kubeconfig

    @property
    def context(self) -> str | None:
        """See `Cluster`."""
        return self._context

    @property
    def address(self) -> str:
        """The API server's URL."""
        return self._server.address

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is allowed but unwise about the way there, one line each."""
        return self._server.warnings

    def clock_offset(self) -> float | None:
        """Seconds that the server's clock is ahead of ours; None where it has not said."""
        return self._transport.clock_offset

    def close(self) -> None:
        """Closes the connections; the next call opens new ones."""
        self._transport.close()

    def version(self) -> str:
        """See `Cluster`."""
        if self._version is None:
            answer = self._transport.request("GET", "/version", doing="ask for the version", repeat="always")
            self._version = str(answer.get("gitVersion") or "")
            if not self._version:
                raise ClusterProblem(
                    f"what answers at {self._server.address} is not Kubernetes API server",
                    reason="unreachable",
                    fix="check the server's address in the kubeconfig",
                )
        return self._version

    def served(self) -> tuple[ServedKind, ...]:
        """See `Cluster`. Read anew after a CustomResourceDefinition was applied or deleted by this connection."""
        return self._discovery.served()

    def api_versions(self) -> tuple[str, ...]:
        """See `Cluster`."""
        return discovery.api_versions(self.served())

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """See `Cluster`."""
        served = self._discovery.kind(api_version, kind)
        if served is None:
            return None
        try:
            return self._request(
                "GET", _path(served, namespace, name), doing=f"read {kind} {name}", repeat="always"
            )
        except ClusterProblem as problem:
            if problem.reason == "not-found":
                return None
            raise

    def find(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | str = "",
        fields: str = "",
    ) -> list[Object]:
        """See `Cluster`. Read in pages; of all namespaces where none is given."""
        return self._list(api_version, kind, namespace, labels=_selector(labels), fields=fields)[0]

    def apply(
        self, obj: Object, namespace: str | None = None, *, dry_run: bool = False, force: bool = False
    ) -> Object:
        """See `Cluster`."""
        query = [("fieldManager", FIELD_MANAGER), ("force", "true" if force else "false"), *_dry(dry_run)]
        return self._write(
            "PATCH", obj, namespace, "apply", query, content_type="application/apply-patch+yaml", named=True
        )

    def create(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """See `Cluster`."""
        query = [("fieldManager", FIELD_MANAGER), *_dry(dry_run)]
        return self._write("POST", obj, namespace, "create", query, named=False)

    def replace(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """See `Cluster`."""
        query = [("fieldManager", FIELD_MANAGER), *_dry(dry_run)]
        return self._write("PUT", obj, namespace, "replace", query, named=True)

    def patch(
        self,
        api_version: str,
        kind: str,
        name: str,
        patch: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
    ) -> Object:
        """See `Cluster`."""
        return self._request(
            "PATCH",
            _path(self._known(api_version, kind), namespace, name),
            doing=f"change {kind} {name}",
            query=[("fieldManager", FIELD_MANAGER), *_dry(dry_run)],
            body=patch,
            content_type="application/merge-patch+json",
        )

    def delete(
        self,
        api_version: str,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
        foreground: bool = False,
    ) -> bool:
        """See `Cluster`."""
        served = self._discovery.kind(api_version, kind)
        if served is None:
            return False
        policy = "Foreground" if foreground else "Background"
        try:
            self._request(
                "DELETE",
                _path(served, namespace, name),
                doing=f"delete {kind} {name}",
                query=[("propagationPolicy", policy), *_dry(dry_run)],
            )
        except ClusterProblem as problem:
            if problem.reason == "not-found":
                return False
            raise
        self._forget_kinds(kind, dry_run)
        return True

    def allowed(self, access: Sequence[Access]) -> list[bool]:
        """See `Cluster`."""
        with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
            return list(pool.map(self._may, access))

    def watch(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        seconds: float,
        fields: str = "",
        labels: str = "",
    ) -> Iterator[WatchEvent]:
        """See `Cluster`. Ends at most a few seconds late where the server does not keep the time."""
        served = self._known(api_version, kind)
        path = _path(served, namespace)
        query = [("labelSelector", labels)] * bool(labels) + [("fieldSelector", fields)] * bool(fields)

        def listed() -> tuple[list[Object], str]:
            return self._list(api_version, kind, namespace, labels=labels, fields=fields)

        return streams.watch(self._transport, path, query, listed, kind=kind, seconds=seconds)

    def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        tail: int | None = None,
        seconds: float | None = None,
        follow: bool = False,
        previous: bool = False,
    ) -> Iterator[str]:
        """See `Cluster`. A followed log goes on over lost connections without losing or repeating lines."""
        query = [("container", container)] if container else []
        query += [("previous", "true")] if previous else []
        path = _path(_POD, namespace, pod, "log")
        return streams.logs(self._transport, path, query, pod=pod, tail=tail, seconds=seconds, follow=follow)

    def execute(
        self,
        pod: str,
        namespace: str,
        argv: Sequence[str],
        *,
        container: str | None = None,
        stdin: bytes = b"",
        seconds: float = 60,
    ) -> ExecResult:
        """See `Cluster`."""
        path = _path(_POD, namespace, pod, "exec")
        return streams.execute(
            self._transport, path, argv, pod=pod, container=container, stdin=stdin, seconds=seconds
        )

    def _list(
        self, api_version: str, kind: str, namespace: str | None, *, labels: str, fields: str
    ) -> tuple[list[Object], str]:
        """All objects, and the resource version that a watch goes on from."""
        served = self._discovery.kind(api_version, kind)
        if served is None:
            return [], ""
        base = [("labelSelector", labels)] * bool(labels) + [("fieldSelector", fields)] * bool(fields)
        paged = True
        found: list[Object] = []
        token = ""
        while True:
            query = base + [("limit", str(_PAGE))] * paged + [("continue", token)] * bool(token)
            try:
                answer = self._request(
                    "GET", _path(served, namespace), doing=f"list {kind}", query=query, repeat="always"
                )
            except ClusterProblem as problem:
                if problem.reason == "not-found":
                    return [], ""
                if problem.reason != "expired" or not token:
                    raise
                # The page is too old to go on from: once more, in one go.
                paged, found, token = False, [], ""
                continue
            found += [{**item, "apiVersion": api_version, "kind": kind} for item in answer.get("items") or []]
            meta = answer.get("metadata") or {}
            token = str(meta.get("continue") or "")
            if not token:
                return found, str(meta.get("resourceVersion") or "")

    def _write(
        self,
        method: str,
        obj: Object,
        namespace: str | None,
        verb: str,
        query: list[tuple[str, str]],
        *,
        named: bool,
        content_type: str = "application/json",
    ) -> Object:
        kind, meta = str(obj["kind"]), obj.get("metadata") or {}
        served = self._known(str(obj["apiVersion"]), kind)
        name = str(meta.get("name") or "")
        where = str(meta.get("namespace") or namespace or "") or None
        answer = self._request(
            method,
            _path(served, where, name if named else None, must=True),
            doing=f"{verb} {kind} {name or meta.get('generateName', '')}",
            query=query,
            body=obj,
            content_type=content_type,
            # The same apply twice has the effect of one.
            repeat="always" if verb == "apply" else "refused",
        )
        self._forget_kinds(kind, ("dryRun", "All") in query)
        return answer

    def _may(self, access: Access) -> bool:
        resource, _, subresource = access.resource.partition("/")
        attributes = {
            "verb": access.verb, "resource": resource, "subresource": subresource, "group": access.group,
            "namespace": access.namespace, "name": access.name,
        }  # fmt: skip
        answer = self._request(
            "POST",
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            doing="ask what you may do",
            body={
                "apiVersion": "authorization.k8s.io/v1",
                "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": {key: value for key, value in attributes.items() if value}},
            },
            repeat="always",
        )
        return bool((answer.get("status") or {}).get("allowed"))

    def _known(self, api_version: str, kind: str) -> ServedKind:
        served = self._discovery.kind(api_version, kind)
        if served is None:
            raise not_served(api_version, kind, self._server)
        return served

    def _forget_kinds(self, kind: str, dry_run: bool) -> None:
        if kind in ("CustomResourceDefinition", "APIService") and not dry_run:
            self._discovery.forget()

    def _request(self, method: str, path: str, **rest: Any) -> Object:
        answer = self._transport.request(method, path, **rest)
        return answer if isinstance(answer, dict) else {}


_POD = ServedKind("v1", "Pod", "pods", True)


def _target(path: str | None, context: str | None) -> tuple[Server, kubeconfig.Chosen | None]:
    found = kubeconfig.search(path)
    if found:
        chosen = kubeconfig.choose(found, context)
        return chosen.server(), chosen
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if host and port and not context:
        return Server("this pod's cluster", f"https://{host}:{port}", "in-cluster"), None
    raise ClusterProblem(
        "no kubeconfig was found",
        reason="other",
        expected="--kubeconfig, KUBECONFIG or ~/.kube/config, or a service account where this runs in a pod",
        fix="get one from the cluster's administrators or its provider's command line",
    )


def _path(
    kind: ServedKind,
    namespace: str | None,
    name: str | None = None,
    subresource: str | None = None,
    *,
    must: bool = False,
) -> str:
    if kind.namespaced and not namespace and (name or must):
        raise ValueError(f"{kind.kind} {name} needs a namespace")
    return discovery.path_of(kind, namespace, name, subresource)


def _selector(labels: Mapping[str, str] | str) -> str:
    return labels if isinstance(labels, str) else ",".join(f"{key}={value}" for key, value in labels.items())


def _dry(dry_run: bool) -> list[tuple[str, str]]:
    return [("dryRun", "All")] if dry_run else []
