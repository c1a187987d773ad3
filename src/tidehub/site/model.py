"""The site: one frozen, typed statement of what a community wants.

Sizes are `int` bytes, times `float` seconds, cores `float`. Attribute names are those of the file, except
`class`, which is `class_name` here. The dask half stands in `dask.py`, the cluster half in `deployment.py`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from tidehub.site.dask import Choice, Cluster, Dask, Image, PerUser, Scheduler, Worker
from tidehub.site.deployment import Cloud, Dns, Exposure, Flag, Infrastructure, Kubernetes
from tidehub.site.group_rules import GroupRule, ProfileAllow
from tidehub.site.overrides import Overrides
from tidehub.site.quantities import AnySize, CoreCount, Seconds, Size, Timeout
from tidehub.site.section import Line, Lines, Section
from tidehub.site.units import QuantityError

__all__ = [
    "Admins",
    "Allow",
    "Bytes",
    "Choice",
    "Cloud",
    "Cluster",
    "Cores",
    "Dask",
    "Database",
    "Dns",
    "Endpoints",
    "Exposure",
    "GroupRule",
    "Home",
    "Hub",
    "Image",
    "Infrastructure",
    "Kubernetes",
    "Login",
    "Machine",
    "Notebooks",
    "Overrides",
    "PerUser",
    "Profile",
    "ProfileAllow",
    "Scheduler",
    "Site",
    "SiteSection",
    "Tls",
    "Worker",
]

GIB = 2**30
EGI_HOSTS = {"production": "aai.egi.eu", "demo": "aai-demo.egi.eu", "development": "aai-dev.egi.eu"}
"""Hosts of the EGI Check-In instances (EGI documentation, providers/check-in/sp)."""


def _url(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = value.strip()
    expected = "an address such as https://hub.example.org or https://hub.example.org/jupyterhub/"
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError as error:
        raise QuantityError(f"{text!r} is not an address ({error})", expected=expected) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_fine:
        raise QuantityError(f"{text!r} is not a web address", expected=expected)
    if parts.username or parts.password:
        raise QuantityError("the address carries a user name or password", expected=expected)
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise QuantityError(f"{text!r} has a query or a fragment", expected=expected)
    if not re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc):
        raise QuantityError(f"{text!r} has a host that is not plain ASCII", expected=expected)
    return text


Url = Annotated[str, BeforeValidator(_url), StringConstraints(max_length=2000)]


class SiteSection(Section):
    """The community and its address."""

    name: Line = Field(description="Name of the site, as people see it on the login and spawn pages.")
    url: Url | None = Field(
        default=None,
        description="Public address, with the base path; none means this machine's own loopback address.",
    )
    contact: Line | None = Field(
        default=None, description="Where people get help: a mail or web address, shown on error pages."
    )
    people: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        strict=True,
        description="How many people the platform is for; storage is checked against it.",
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


class Allow(Section):
    """Who may enter: an explicit choice, never an accident."""

    users: Lines = Field(default=(), description="User names that may enter.")
    groups: Lines = Field(
        default=(),
        description="Entitlements whose holders may enter, as URNs; the part after # is never compared.",
    )
    everyone: Flag = Field(
        default=False, description="Whether everyone whom the identity provider knows may enter."
    )
    assurance: Lines = Field(
        default=(),
        description="Values of eduperson_assurance, one of which everybody needs beside that, administrators too.",
    )


class Admins(Section):
    """Who administers the hub. Administrators may enter without being named under allow."""

    users: Lines = Field(default=(), description="User names of administrators.")
    groups: Lines = Field(default=(), description="Entitlements whose holders are administrators, as URNs.")


class Endpoints(Section):
    """Addresses of an identity provider that has no discovery document, or a wrong one."""

    authorize: Url = Field(description="Where people are sent to sign in.")
    token: Url = Field(description="Where the hub exchanges the code for a token.")
    userinfo: Url = Field(description="Where the hub asks who a person is.")
    jwks: Url | None = Field(
        default=None,
        description="Where the provider's public keys are; needed where discovery does not say.",
    )
    end_session: Url | None = Field(default=None, description="Where people are sent to sign out.")

    def by_name(self) -> dict[str, str]:
        """The addresses that are stated."""
        stated = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: url for name, url in stated.items() if url is not None}


class Login(Section):
    """Who people are, and who may enter."""

    provider: Literal["demo", "egi-check-in", "oidc"] = Field(
        description="The embedded provider for trying out, EGI Check-In, or another OpenID Connect provider."
    )
    instance: Literal["production", "demo", "development"] | None = Field(
        default=None,
        description="EGI Check-In instance; they share neither users nor clients. None means production.",
    )
    issuer: Url | None = Field(
        default=None, description="Issuer address of the provider oidc; its discovery document is read."
    )
    client_id: Line | None = Field(
        default=None,
        description="Client id of the registration. The client secret lives in the secrets file.",
    )
    callback_url: Url | None = Field(
        default=None,
        description="Redirect address as it was registered with the identity provider. It follows from site.url; "
        "stated here, it is compared with that.",
    )
    endpoints: Endpoints | None = Field(
        default=None,
        description="Addresses of the provider, where its discovery document is missing or wrong.",
    )
    scopes: Lines = Field(
        ("openid", "profile", "email", "entitlements"), description="Scopes that are asked for at login."
    )
    username_claim: Line = Field(
        default="preferred_username", description="Claim that becomes the user name."
    )
    allow: Allow = Field(description="Who may enter: users, groups or everyone.")
    admins: Admins = Field(default=Admins(), description="Who administers the hub.")
    groups: tuple[GroupRule, ...] = Field(
        default=(), description="What holders of single memberships have beyond everybody who may enter."
    )
    enrolment_url: Url | None = Field(
        default=None,
        description="Where a person asks for the membership that is missing; shown on the refusal page.",
    )
    refresh: Seconds = Field(
        default=300.0,
        description="How often the provider is asked about everybody with a server or a token: a lost membership "
        "ends sessions, tokens, servers and clusters within this time.",
    )
    grace: Seconds = Field(
        default=86400.0,
        description="How long people go on while the provider does not answer, or cannot without a new sign-in.",
    )
    block: Lines = Field(
        default=(),
        description="User names or subjects (the claim sub) that may not enter, whatever the rule says.",
    )
    names: dict[Line, Line] = Field(
        default={},
        description="Subject (the claim sub) to user name, where the operator decides: another name for the second "
        "of two people who claim one, or an old name for a person with a new account.",
    )

    @property
    def issuer_url(self) -> str | None:
        """Issuer of the identity provider; none for the embedded one, whose address the platform knows."""
        return self.issuer_url_of_instance if self.provider == "egi-check-in" else self.issuer

    @property
    def issuer_url_of_instance(self) -> str:
        """Issuer of the EGI Check-In instance (a Keycloak realm)."""
        return f"https://{EGI_HOSTS[self.instance or 'production']}/auth/realms/egi"

    @property
    def title(self) -> str:
        """What the login button calls the provider."""
        if self.provider == "egi-check-in":
            return "EGI Check-In"
        return (
            "demo accounts"
            if self.provider == "demo"
            else urlsplit(self.issuer or "").hostname or "OpenID Connect"
        )


class Cores(Section):
    """Processor time of one notebook server."""

    guarantee: CoreCount = Field(description="Cores a server always gets when it wants them.")
    limit: CoreCount = Field(description="Cores a server never exceeds.")


class Bytes(Section):
    """An amount of one notebook server, in bytes."""

    guarantee: Size = Field(description="What a server always has; guarantees are never promised twice.")
    limit: Size = Field(description="What a server never exceeds.")


class Home(Section):
    """A person's home directory."""

    size: Size | None = Field(default=None, description="Size of the volume; none means no limit of its own.")
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
        description="Container image, with a tag, on Kubernetes. On one machine nothing is one: without "
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
    home: Home = Field(default=Home(), description="A person's home directory.")
    idle_timeout: Timeout = Field(
        default=3600.0, description="A server idle for this long is stopped, or never."
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


class Tls(Section):
    """The operator's own certificate; picked up again when the files change."""

    certificate: Line = Field(description="File with the certificate chain, PEM, relative to the site file.")
    key: Line = Field(description="File with the private key, PEM, relative to the site file.")


class Machine(Section):
    """The platform on one machine."""

    address: Line = Field(
        default="127.0.0.1", description="Address to listen on; anything but loopback needs TLS."
    )
    port: int = Field(
        default=8000, ge=0, le=65535, strict=True, description="Port to listen on; 0 takes any free one."
    )
    tls: Tls | None = Field(
        default=None, description="Certificate and key files; none means plain HTTP, on loopback only."
    )
    scheduler_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        strict=True,
        description="Port for Dask clients outside this machine, on the machine's address; the connection is "
        "encrypted by certificates of each cluster. None: clients in notebooks only.",
    )
    trusted_proxies: Lines = Field(
        default=(),
        description="Addresses or networks of reverse proxies whose forwarded headers are believed.",
    )
    reserve_memory: AnySize = Field(
        default=GIB, description="Memory kept for the system and the platform's own processes."
    )
    storage: Size | None = Field(
        default=None, description="Disk space for people's homes; homes are checked against it."
    )
    database_url: Line | None = Field(
        default=None,
        description="PostgreSQL address of the hub's database; none means a file in the state directory.",
    )


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
    login: Login = Field(description="Who people are, and who may enter.")
    notebooks: Notebooks = Field(description="Notebook servers and their profiles.")
    dask: Dask = Field(default=Dask(), description="Dask clusters: what people may choose, and the limits.")
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


def slug_of(name: str) -> str:
    """A short name for addresses and directories: `ProtoCoast - main` gives `protocoast-main`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-") or "profile"
