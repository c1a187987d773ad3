"""Notebook servers in the site: what each gets, and the profiles to choose from."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints, model_validator

from tidehub.site.model.group_rules import ProfileAllow
from tidehub.site.model.quantities import CoreCount, Size, Timeout
from tidehub.site.model.section import Flag, Line, Lines, Section

GIB = 2**30


class Cores(Section):
    """Processor time of one notebook server."""

    guarantee: CoreCount = Field(description="Cores a server always gets when it wants them.")
    limit: CoreCount = Field(description="Cores a server never exceeds.")


class Bytes(Section):
    """An amount of one notebook server, in bytes."""

    guarantee: Size = Field(description="What a server always has; guarantees are never promised twice.")
    limit: Size = Field(description="What a server never exceeds.")


class Home(Section):
    """A user's home directory."""

    size: Size | None = Field(
        default=None,
        description="What a user's files may take: the volume's size, on one machine a limit. None: no limit.",
    )
    storage_class: Line | None = Field(default=None, description="Kubernetes storage class of the volume.")


class Profile(Section):
    """One choice on the spawn page."""

    name: Line = Field(description="Name on the spawn page.")
    slug: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")] = Field(
        default="",
        description="Short name for addresses and directories; made from the name when absent.",
        validate_default=False,
    )
    default: Flag = Field(default=False, description="Whether it is preselected; exactly one profile is.")
    description: str = Field(default="", description="What it is for, shown below the name.", max_length=2000)
    image: Line | None = Field(
        default=None,
        description="Container image, with a tag, on Kubernetes. On one machine images are not used: without "
        "packages or lock the profile uses the release set's default environment.",
    )
    packages: Lines = Field(
        default=(),
        description="On one machine: Python requirements of the profile's own environment.",
    )
    lock: Line | None = Field(
        default=None,
        description="On one machine: lock file (uv or requirements with hashes), relative to the site file.",
    )
    cpu: Cores | None = Field(
        default=None, description="Processor time, where it differs from notebooks.cpu."
    )
    memory: Bytes | None = Field(default=None, description="Memory, where it differs from notebooks.memory.")
    allow: ProfileAllow | None = Field(
        default=None, description="Who sees it and may start it; none means everybody who may enter."
    )

    @model_validator(mode="before")
    @classmethod
    def _slug_from_name(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("name"), str) and data.get("slug") in (None, ""):
            return {**data, "slug": slug_of(data["name"])}
        return data


class Notebooks(Section):
    """Notebook servers: what each gets, and the choices on the spawn page."""

    cpu: Cores = Field(default=Cores(guarantee=0.5, limit=2), description="Processor time of a server.")
    memory: Bytes = Field(default=Bytes(guarantee=GIB // 2, limit=2 * GIB), description="Memory of a server.")
    ephemeral_storage: Bytes | None = Field(
        default=None, description="Scratch space of a server (its /tmp) on Kubernetes."
    )
    home: Home = Field(default=Home(), description="A user's home directory.")
    idle_timeout: Timeout = Field(
        default=3600.0,
        description="A server idle for this long is stopped, or never. A server whose kernel runs a cell is not idle.",
    )
    max_age: Timeout = Field(
        default=0.0, description="A server that has run for this long is stopped, even at work, or never."
    )
    max_processes: int = Field(
        default=1024,
        ge=64,
        le=4_000_000,
        strict=True,
        description="Processes and threads that a server may have at once.",
    )
    profiles: tuple[Profile, ...] = Field(min_length=1, description="The choices on the spawn page.")

    def cpu_of(self, profile: Profile) -> Cores:
        """Processor time of a server of this profile."""
        return profile.cpu or self.cpu

    def memory_of(self, profile: Profile) -> Bytes:
        """Memory of a server of this profile."""
        return profile.memory or self.memory

    @property
    def default_profile(self) -> Profile:
        """The preselected profile."""
        return next((profile for profile in self.profiles if profile.default), self.profiles[0])


def slug_of(name: str) -> str:
    """A short name for addresses and directories: `ProtoCoast - main` gives `protocoast-main`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "profile"
