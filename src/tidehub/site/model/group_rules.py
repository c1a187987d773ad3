"""What single groups have beyond everybody: profiles, larger limits, Dask. A rule gives, it never takes away."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import Field

from tidehub.site.model.quantities import CoreCount, Size, WholeCores
from tidehub.site.model.section import Flag, Line, Lines, Section

Quantity = TypeVar("Quantity")


class More(Section, Generic[Quantity]):
    """A larger amount of one notebook server."""

    guarantee: Quantity | None = Field(
        default=None,
        description="What a server always has; none leaves the guarantee as it is for everybody.",
    )
    limit: Quantity = Field(description="What a server never exceeds.")


class NotebooksFor(Section):
    """Larger notebook servers."""

    cpu: More[CoreCount] | None = Field(default=None, description="Processor time of a server.")
    memory: More[Size] | None = Field(default=None, description="Memory of a server.")


class Largest(Section, Generic[Quantity]):
    """A larger largest choice."""

    max: Quantity = Field(description="The largest choice.")


class WorkerFor(Section):
    """Larger Dask workers."""

    cores: Largest[WholeCores] | None = Field(default=None, description="Cores of a worker.")
    memory: Largest[Size] | None = Field(default=None, description="Memory of a worker.")


class ClusterFor(Section):
    """Larger clusters."""

    max_workers: int | None = Field(
        default=None, ge=1, le=100_000, strict=True, description="Maximum number of workers of one cluster."
    )
    max_cores: CoreCount | None = Field(
        default=None, description="Maximum cores of one cluster, the scheduler's included."
    )
    max_memory: Size | None = Field(
        default=None, description="Maximum memory of one cluster, the scheduler's included."
    )


class PerUserFor(Section):
    """More clusters."""

    max_clusters: int | None = Field(
        default=None,
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


class DaskFor(Section):
    """Dask clusters for the group."""

    enabled: Flag = Field(
        default=False, description="Whether the group may start clusters where dask.access is groups."
    )
    worker: WorkerFor | None = Field(default=None, description="Larger workers.")
    cluster: ClusterFor | None = Field(default=None, description="Larger clusters.")
    per_user: PerUserFor | None = Field(default=None, description="More for one user in all.")


class GroupRule(Section):
    """What holders of one membership have. Of several rules, the most generous value of each limit counts."""

    group: Line = Field(description="Entitlement whose holders are meant, as a URN.")
    profiles: Lines = Field(
        default=(),
        description="Profiles, by slug or name, that only holders of this membership see and may start.",
    )
    notebooks: NotebooksFor | None = Field(default=None, description="Larger notebook servers.")
    dask: DaskFor | None = Field(default=None, description="Dask clusters: access, and larger limits.")


class ProfileAllow(Section):
    """Who may start a profile."""

    users: Lines = Field(default=(), description="User names that may start it.")
    groups: Lines = Field(default=(), description="Entitlements whose holders may start it, as URNs.")
