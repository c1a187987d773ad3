"""What tidehub asks of a cluster. Types only: nothing here imports a Kubernetes client."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from tidehub.errors import Place, TidehubError
from tidehub.kubernetes.objects import Object

FIELD_MANAGER = "tidehub"
"""Who applies, in the books of server-side apply."""

Reason = Literal[
    "unreachable", "timeout", "unauthorized", "forbidden", "not-found", "conflict", "invalid", "quota", "expired",
    "other",
]  # fmt: skip


class ClusterProblem(TidehubError):
    """The API server refused, or was not reached. `reason` says which, for who handles some of them."""

    def __init__(
        self,
        what: str,
        *,
        reason: Reason,
        status: int = 0,
        where: Place | None = None,
        expected: str | None = None,
        fix: str | None = None,
    ) -> None:
        super().__init__(what, where=where, expected=expected, fix=fix)
        self.reason: Reason = reason
        self.status = status
        """HTTP status; 0 where there was no answer."""


@dataclass(frozen=True)
class Access:
    """One right: as in a self-subject access review."""

    verb: str
    resource: str
    """Plural name, for example `deployments`, or `pods/exec`."""
    group: str = ""
    namespace: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class ServedKind:
    """A kind that the server serves."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool
    verbs: tuple[str, ...] = ()


@dataclass(frozen=True)
class WatchEvent:
    """One change; `kind` is ADDED, MODIFIED or DELETED."""

    kind: str
    obj: Object


@dataclass(frozen=True)
class ExecResult:
    """What a command in a container did."""

    stdout: bytes
    stderr: bytes
    code: int


class Cluster(Protocol):
    """One cluster as one user. Every call has a deadline and raises `ClusterProblem`; none hangs."""

    @property
    def name(self) -> str:
        """What it is called: the kubeconfig's context, else the server's address."""

    @property
    def kubeconfig(self) -> str | None:
        """Path given to programs like helm; None for the default search."""

    @property
    def context(self) -> str | None:
        """Context of the kubeconfig; None for its current one."""

    def version(self) -> str:
        """The server's version, for example `v1.34.4`."""

    def served(self) -> tuple[ServedKind, ...]:
        """Every kind that the server serves, from discovery; read once."""

    def api_versions(self) -> tuple[str, ...]:
        """For Helm's `--api-versions`: `apps/v1` and `apps/v1/Deployment` of every kind, sorted."""

    def get(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None where there is none, nor such a kind."""

    def find(
        self,
        api_version: str,
        kind: str,
        namespace: str | None = None,
        *,
        labels: Mapping[str, str] | str = "",
        fields: str = "",
    ) -> list[Object]:
        """All objects of a kind, each with apiVersion and kind filled in; none where the kind is not served."""

    def apply(
        self, obj: Object, namespace: str | None = None, *, dry_run: bool = False, force: bool = False
    ) -> Object:
        """Server-side apply as `tidehub`; the object as the server has (or would have) it."""

    def create(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """Creates; `reason` of the problem is `conflict` where it is there already."""

    def replace(self, obj: Object, namespace: str | None = None, *, dry_run: bool = False) -> Object:
        """Replaces, guarded by `metadata.resourceVersion` where it is given."""

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
        """Merge patch (RFC 7386)."""

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
        """Deletes; False where there was nothing."""

    def allowed(self, access: Sequence[Access]) -> list[bool]:
        """Whether this user may, one answer for each (self-subject access reviews)."""

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
        """What is there and then what changes, until `seconds` are over; reconnects by itself."""

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
        """Lines of a container's log, without their line ends: the last `tail`, those of the last `seconds`."""

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
        """Runs a program in a container and waits for its end."""
