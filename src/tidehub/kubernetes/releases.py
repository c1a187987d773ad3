"""What a site is on Kubernetes: releases of charts, their values, and the objects beside them. Pure types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tidehub.kubernetes.objects import Object
from tidehub.site.model import Site


@dataclass(frozen=True)
class Release:
    """One Helm release: a chart at a version with its values."""

    name: str
    """The release's name, which is also that of most of its objects."""
    chart: str
    version: str
    values: Mapping[str, Any]
    """What may be shown and kept: no secret is in it."""
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Values whose leaves are `Secret`s (or lists of them); merged over `values` on the way to Helm."""


@dataclass(frozen=True)
class Platform:
    """A site as it is installed in one namespace."""

    site: Site
    namespace: str
    release_set: str
    model: str
    """`split` or `daskhub`."""
    releases: tuple[Release, ...]
    """In the order of their installation: the hub first."""
    objects: tuple[Object, ...] = ()
    """Objects of tidehub's own beside the charts, applied before the releases."""
