"""The whole site, its address and its hub."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from tidehub.site.model.dask import Dask
from tidehub.site.model.deployment import Infrastructure, Kubernetes
from tidehub.site.model.login import Login
from tidehub.site.model.machine import Machine
from tidehub.site.model.notebooks import Notebooks
from tidehub.site.model.overrides import Overrides
from tidehub.site.model.quantities import Size
from tidehub.site.model.section import Line, Section, Url

GIB = 2**30


class SiteSection(Section):
    """The community and its address."""

    name: Line = Field(description="Name of the site, as users see it on the login and spawn pages.")
    url: Url | None = Field(
        default=None,
        description="Public address, with the base path; none means this machine's own loopback address.",
    )
    contact: Line | None = Field(
        default=None,
        description=(
            "Where users get help: a mail or web address, shown on error pages. On Kubernetes these are pages of ours "
            "for charts with JupyterHub 4 or newer (jupyterhub 3.0.0, daskhub 2024.1.0), below those that "
            "`hub.templatePaths` of `overrides.helm` names; older hubs keep their own pages, without it."
        ),
    )
    people: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        strict=True,
        description="How many users the platform is for; storage is checked against it.",
    )

    @property
    def base_path(self) -> str:
        """The path below which everything is served: `/`, or `/x/`, always with both slashes."""
        path = urlsplit(self.url).path.strip("/") if self.url else ""
        return f"/{path}/" if path else "/"

    @property
    def callback_url(self) -> str | None:
        """The redirect URI to register with the identity provider, byte for byte; none without an address."""
        if self.url is None:
            return None
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{self.base_path}hub/oauth_callback"


class Database(Section):
    """The hub's database on Kubernetes."""

    size: Size = Field(default=GIB, description="Size of its volume.")
    storage_class: Line | None = Field(default=None, description="Kubernetes storage class of its volume.")


class Hub(Section):
    """The hub itself."""

    database: Database = Field(default=Database(), description="The hub's database.")


class Site(Section):
    """Everything a community states about its platform."""

    preset: Literal["laptop", "egi-pangeo", "protocoast"] | None = Field(
        default=None,
        description="Start from this complete site; what the file states replaces the preset's. "
        "A `login` section or a list replaces the preset's as a whole.",
    )
    site: SiteSection = Field(description="The community and its address.")
    login: Login = Field(description="Who users are, and who may enter.")
    notebooks: Notebooks = Field(description="Notebook servers and their profiles.")
    dask: Dask = Field(default=Dask(), description="Dask clusters: what users may choose, and the limits.")
    machine: Machine = Field(default=Machine(), description="The platform on one machine.")
    hub: Hub = Field(default=Hub(), description="The hub itself.")
    kubernetes: Kubernetes | None = Field(default=None, description="The platform on a Kubernetes cluster.")
    infrastructure: Infrastructure | None = Field(
        default=None, description="What has to exist before the platform."
    )
    overrides: Overrides | None = Field(
        default=None, description="What the site adds in its own words where no key exists; it counts last."
    )

    @property
    def base_path(self) -> str:
        """`site.site.base_path`."""
        return self.site.base_path
