"""What an item is, what it finds, and what it is given."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import Cluster, ClusterProblem
from tidehub.kubernetes.objects import Object

if TYPE_CHECKING:
    from tidehub.kubernetes.preflight.edges.network import Network
    from tidehub.kubernetes.rendering.model import Rendered
    from tidehub.site.model import Site

State = Literal["ok", "warning", "problem", "unknown"]
"""`warning` would not stop a deployment, `problem` would stop it or leave a platform that does not work."""
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Finding:
    """The answer to one item."""

    item: str
    """Which question, for example `storage-class`: a name that stays."""
    state: State
    what: str
    """One sentence: what was found."""
    fix: str = ""
    """What to do about it; may have several lines."""
    evidence: tuple[str, ...] = ()
    """What it was concluded from, in the cluster's own words."""
    group: str = ""
    """Family of the item, filled in by `run`."""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "group": self.group,
            "item": self.item,
            "state": self.state,
            "what": self.what,
            "fix": self.fix,
            "evidence": list(self.evidence),
        }


class NotKnown(Exception):
    """An item cannot be answered. `str(error)` says why, `fix` what would change that."""

    def __init__(self, why: str, fix: str = "") -> None:
        self.fix = fix
        super().__init__(why)


class NotRendered(NotKnown):
    """An item needs the objects that are to be deployed, and there are none."""


class Skip(Exception):
    """An item does not arise, or another one has already said why nothing can be said."""


class Look:
    """What the cluster says: every question is asked once, however many items want to know. Threads share it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, ...], Future[Any]] = {}

    def all(self, api_version: str, kind: str, namespace: str | None = None) -> list[Object]:
        """Every object of a kind, in one namespace or all. Raises `ClusterProblem`."""
        return self._once(
            ("all", api_version, kind, namespace or ""),
            lambda: self.cluster.find(api_version, kind, namespace),
        )

    def one(self, api_version: str, kind: str, name: str, namespace: str | None = None) -> Object | None:
        """One object, or None. Raises `ClusterProblem`."""
        return self._once(
            ("one", api_version, kind, name, namespace or ""),
            lambda: self.cluster.get(api_version, kind, name, namespace),
        )

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the server has such a kind."""
        return (api_version, kind) in self.plurals()

    def plurals(self) -> Mapping[tuple[str, str], tuple[str, bool]]:
        """Plural and whether namespaced, by API version and kind."""
        return self._once(
            ("served",),
            lambda: {
                (one.api_version, one.kind): (one.plural, one.namespaced) for one in self.cluster.served()
            },
        )

    def once(self, key: str, ask: Callable[[], Answer]) -> Answer:
        """The answer to a question of another kind."""
        return self._once((key,), ask)

    def _once(self, key: tuple[str, ...], ask: Callable[[], Answer]) -> Answer:
        with self._lock:
            waiting = self._answers.get(key)
            mine = waiting is None
            if waiting is None:
                waiting = self._answers[key] = Future()
        if mine:
            try:
                waiting.set_result(ask())
            except BaseException as error:
                waiting.set_exception(error)
        return waiting.result()  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Context:
    """Everything that items may ask about."""

    site: Site
    network: Network
    look: Look | None = None
    """None where no cluster was reached; the items about it then say nothing."""
    rendered: Rendered | None = None
    troubles: Mapping[str, TidehubError] = field(default_factory=dict)
    """What went wrong on the way here: of `connection`, `secrets`, `charts`, `helm` and `rendering`."""
    site_file: Path | None = None
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    adopt: frozenset[str] = frozenset()
    """What a deployment would be told to take over."""

    @property
    def namespace(self) -> str:
        """Where the platform is, or will be."""
        if self.rendered is not None:
            return self.rendered.platform.namespace
        assert self.site.kubernetes is not None
        return self.site.kubernetes.namespace

    @property
    def there(self) -> Look:
        """What the cluster says. Raises `Skip` without one."""
        if self.look is None:
            raise Skip
        return self.look

    @property
    def objects(self) -> Rendered:
        """What is to be deployed. Raises `NotRendered` where it could not be rendered."""
        if self.rendered is None:
            raise NotRendered(
                "this needs the objects that are to be deployed, and they could not be rendered"
            )
        return self.rendered


Check = Callable[[Context], Finding | list[Finding]]


def right_missing(problem: ClusterProblem, item: str) -> Finding:
    """What is said where the operator may not look."""
    return Finding(
        item,
        "unknown",
        "your credentials may not read this",
        "ask for the permission to read it, or have an administrator run this command",
        (problem.what,),
    )
