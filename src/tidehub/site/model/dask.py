"""Dask clusters in the site: what users may choose, and the limits."""

from __future__ import annotations

from typing import Generic, Literal, TypeVar

from pydantic import Field

from tidehub.site.model.quantities import CoreCount, Seconds, Size, Timeout, WholeCores
from tidehub.site.model.section import Line, Section

GIB = 2**30
Quantity = TypeVar("Quantity")


class Choice(Section, Generic[Quantity]):
    """A range that users choose from."""

    min: Quantity = Field(description="The smallest choice.")
    max: Quantity = Field(description="The largest choice.")
    default: Quantity = Field(description="What a cluster gets when nothing is chosen.")

    def as_tuple(self) -> tuple[Quantity, Quantity, Quantity]:
        """Smallest, largest, default."""
        return self.min, self.max, self.default


class Worker(Section):
    """One Dask worker."""

    cores: Choice[WholeCores] = Field(
        default=Choice[WholeCores](min=1, max=2, default=1), description="Cores of a worker, one thread each."
    )
    memory: Choice[Size] = Field(
        default=Choice[Size](min=GIB // 2, max=2 * GIB, default=GIB), description="Memory of a worker."
    )


class Scheduler(Section):
    """The Dask scheduler. It counts against the cluster's limits too."""

    cores: WholeCores = Field(default=1.0, description="Cores of the scheduler.")
    memory: Size = Field(default=GIB, description="Memory of the scheduler.")


class Cluster(Section):
    """The limits of one cluster, the scheduler included."""

    max_workers: int = Field(
        ge=1, le=100_000, strict=True, description="Maximum number of workers of one cluster."
    )
    max_cores: CoreCount = Field(description="Maximum cores of one cluster, the scheduler's included.")
    max_memory: Size = Field(description="Maximum memory of one cluster, the scheduler's included.")
    idle_timeout: Timeout = Field(
        default=1200.0, description="A cluster idle for this long is ended, or never."
    )
    orphan_grace: Seconds = Field(
        default=600.0,
        description="A cluster whose owner has no running server is ended after this long without client or work.",
    )


class PerUser(Section):
    """The limits of one user, over all their clusters."""

    max_clusters: int = Field(
        default=2,
        ge=1,
        le=100_000,
        strict=True,
        description="Maximum number of clusters of one user at once.",
    )
    max_cores: CoreCount | None = Field(
        default=None, description="Maximum cores of one user's clusters together."
    )
    max_memory: Size | None = Field(
        default=None, description="Maximum memory of one user's clusters together."
    )


class Image(Section):
    """The container image of schedulers and workers on Kubernetes. One machine uses the profile's."""

    default: Line = Field(
        default="profile", description="`profile` follows the notebook server; or an image with a tag."
    )
    choice: Literal["fixed", "tagged", "any"] = Field(
        default="fixed", description="Whether users may name another image: no, any with a tag, or any."
    )


class Dask(Section):
    """Dask clusters."""

    engine: Literal["gateway", "operator", "none"] = Field(
        default="gateway",
        description="Dask Gateway, the Dask operator (Kubernetes only), or no clusters at all.",
    )
    access: Literal["everyone", "groups"] = Field(
        default="everyone",
        description="Who may start clusters: everyone who may enter, or only groups that login.groups enables.",
    )
    worker: Worker = Field(default=Worker(), description="One worker: what users may choose.")
    scheduler: Scheduler = Field(default=Scheduler(), description="The scheduler of a cluster.")
    cluster: Cluster = Field(
        default=Cluster(max_workers=4, max_cores=6, max_memory=9 * GIB),
        description="The limits of one cluster.",
    )
    per_user: PerUser = Field(default=PerUser(), description="The limits of one user.")
    image: Image = Field(default=Image(), description="The container image on Kubernetes.")
