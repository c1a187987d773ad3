"""What tidehub asks of Helm. Types only: nothing here starts a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

DryRun = Literal["none", "server"]
PENDING = frozenset({"pending-install", "pending-upgrade", "pending-rollback"})
"""States in which Helm refuses every further operation until somebody clears them (`records.marked_failed`)."""


@dataclass(frozen=True)
class Revision:
    """One entry of a release's history."""

    number: int
    status: str
    """`deployed`, `superseded`, `failed`, `uninstalling`, `uninstalled`, or one of `PENDING`."""
    chart: str
    """Name and version, for example `jupyterhub-4.4.0`."""
    app_version: str
    description: str
    updated: str
    """RFC 3339; empty where Helm did not say."""

    @property
    def pending(self) -> bool:
        """Whether it was begun and its end is not written down."""
        return self.status in PENDING


@dataclass(frozen=True)
class ReleaseRecord:
    """A release as it stands: its newest revision."""

    name: str
    namespace: str
    revision: int
    status: str
    """As in `Revision`."""
    chart: str
    """The chart's name alone."""
    chart_version: str
    app_version: str
    updated: str = ""
    """RFC 3339; empty where Helm did not say."""
    description: str = ""

    @property
    def pending(self) -> bool:
        """Whether its last operation was begun and its end is not written down."""
        return self.status in PENDING


@dataclass(frozen=True)
class Applied:
    """What an installation or upgrade did, or with `dry_run` would do."""

    record: ReleaseRecord
    manifest: str
    """Objects and hooks as `render` gives them, but rendered against the cluster: what the charts look up is there.

    It holds the release's Secrets in clear.
    """


class Helm(Protocol):
    """One Helm for one cluster. Every call has a deadline and raises a `problems.HelmProblem`; none hangs.

    Values are mappings whose leaves may be `Secret`s. They reach Helm in a file that only its owner can read.
    Times are in seconds.
    """

    def version(self) -> str:
        """The engine's version, for example `4.2.4`."""

    def render(
        self,
        chart: Path,
        values: Mapping[str, Any],
        *,
        release: str,
        namespace: str,
        kube_version: str | None = None,
        api_versions: Sequence[str] = (),
        include_crds: bool = False,
        is_upgrade: bool = False,
    ) -> str:
        """The manifest with its hooks, without a cluster: what charts look up there is empty.

        `chart` is a packaged chart or its directory. `kube_version` is checked against the chart's range; without
        one, that which this Helm was built with. `api_versions` are what the cluster serves beside Helm's built-in
        list, such as `networking.k8s.io/v1/Ingress`.
        """

    def upgrade_install(
        self,
        chart: Path,
        values: Mapping[str, Any],
        *,
        release: str,
        namespace: str,
        timeout: float,
        dry_run: DryRun = "none",
        take_ownership: bool = False,
        wait: bool = False,
        description: str = "",
        skip_crds: bool = True,
    ) -> Applied:
        """Installs the release, or upgrades it to exactly these values: nothing of earlier values is kept.

        `timeout` is Helm's own, for hooks and with `wait` for the objects to be ready. The namespace must be there.
        With `dry_run="server"` the release is rendered against the cluster and nothing is written.
        """

    def status(self, release: str, namespace: str) -> ReleaseRecord | None:
        """The release as it stands; None where it does not exist."""

    def history(self, release: str, namespace: str) -> tuple[Revision, ...]:
        """All kept revisions, oldest first; empty where there is no such release."""

    def values(
        self, release: str, namespace: str, revision: int | None = None, *, all: bool = False
    ) -> dict[str, Any]:
        """Values given to a revision (the newest without one), `all` of them with the chart's; secrets in clear."""

    def manifest(self, release: str, namespace: str, revision: int | None = None) -> str:
        """Objects of a revision as Helm stored them, without hooks; secrets in clear."""

    def hooks(self, release: str, namespace: str, revision: int | None = None) -> str:
        """Hooks of a revision as Helm stored them."""

    def rollback(
        self, release: str, namespace: str, revision: int, *, timeout: float, wait: bool = False
    ) -> ReleaseRecord:
        """Makes a new revision that is what `revision` was. Goes on from a failed or a pending one too."""

    def uninstall(self, release: str, namespace: str, *, timeout: float, keep_history: bool = False) -> bool:
        """Removes the release's objects and waits until they are gone; False where there is no such release.

        Objects with the annotation `helm.sh/resource-policy: keep` and CRDs stay.
        """

    def list(self, namespace: str) -> tuple[ReleaseRecord, ...]:
        """Every release in the namespace in whatever state, by name."""

    def stop(self) -> None:
        """Asks what runs in other threads to end; their calls raise a `problems.HelmProblem`."""
