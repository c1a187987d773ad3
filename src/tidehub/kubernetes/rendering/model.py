"""What a platform is once Helm rendered it: every object that will be in the cluster. Pure types."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tidehub.kubernetes.objects import Object, ObjectId, identify
from tidehub.kubernetes.releases import Platform, Release

if TYPE_CHECKING:
    from tidehub.charts.fetch import ChartArchive


@dataclass(frozen=True)
class RenderedRelease:
    """One release as Helm would install it. The objects hold secrets in clear: never print them unredacted."""

    release: Release
    archive: ChartArchive
    objects: tuple[Object, ...] = field(repr=False)
    """What Helm creates and keeps account of, in the order of the manifest; no hooks, no CRDs."""
    hooks: tuple[Object, ...] = field(default=(), repr=False)
    """What Helm runs around an installation or upgrade."""
    crds: tuple[Object, ...] = field(default=(), repr=False)
    """CustomResourceDefinitions of the archive's `crds/`; tidehub applies them, since Helm never upgrades them."""


@dataclass(frozen=True)
class Rendered:
    """A whole platform, rendered."""

    platform: Platform
    releases: tuple[RenderedRelease, ...]
    """In the order of their installation: the hub first."""
    objects: tuple[Object, ...] = field(default=(), repr=False)
    """Objects of tidehub's own beside the charts, applied before the releases."""
    kube_version: str = ""
    """The Kubernetes version that was rendered for, for example `v1.34.4`."""

    @property
    def crds(self) -> tuple[Object, ...]:
        """CRDs of all releases, each name once, in order; the charts of one platform carry the same ones."""
        by_name = {str(crd["metadata"]["name"]): crd for one in self.releases for crd in one.crds}
        return tuple(by_name.values())

    def release(self, name: str) -> RenderedRelease:
        """The release of this name. Raises `KeyError`."""
        for one in self.releases:
            if one.release.name == name:
                return one
        raise KeyError(name)

    def everything(self) -> Iterator[tuple[str, Object]]:
        """Every object but hooks, with what brings it: a release's name, or `tidehub`. CRDs and our own first."""
        for one in self.releases:
            yield from ((one.release.name, crd) for crd in one.crds)
        yield from (("tidehub", obj) for obj in self.objects)
        for one in self.releases:
            yield from ((one.release.name, obj) for obj in one.objects)

    def ids(self) -> list[ObjectId]:
        """Ids of `everything`, in its order."""
        return [identify(obj, self.platform.namespace) for _, obj in self.everything()]
