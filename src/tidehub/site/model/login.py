"""Login in the site: the identity provider, who may enter, and what single groups have."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field

from tidehub.site.model.group_rules import GroupRule
from tidehub.site.model.quantities import Seconds
from tidehub.site.model.section import Flag, Line, Lines, Section, Url

EGI_HOSTS = {"production": "aai.egi.eu", "demo": "aai-demo.egi.eu", "development": "aai-dev.egi.eu"}
"""Hosts of the EGI Check-In instances (EGI documentation, providers/check-in/sp)."""


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

    authorize: Url = Field(description="Where users are sent to sign in.")
    token: Url = Field(description="Where the hub exchanges the code for a token.")
    userinfo: Url = Field(description="Where the hub asks who a user is.")
    jwks: Url | None = Field(
        default=None,
        description="Where the provider's public keys are; needed where discovery does not say.",
    )
    end_session: Url | None = Field(default=None, description="Where users are sent to sign out.")

    def by_name(self) -> dict[str, str]:
        """The addresses that are stated."""
        stated = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: url for name, url in stated.items() if url is not None}


class Login(Section):
    """Who users are, and who may enter."""

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
        description="Where a user asks for the membership that is missing; shown on the refusal page.",
    )
    refresh: Seconds = Field(
        default=300.0,
        description="How often the provider is asked about everybody with a server or a token: a lost membership "
        "ends sessions, tokens, servers and clusters within this time.",
    )
    grace: Seconds = Field(
        default=86400.0,
        description="How long users go on while the provider does not answer, or cannot without a new sign-in.",
    )
    block: Lines = Field(
        default=(),
        description="User names or subjects (the claim sub) that may not enter, whatever the rule says.",
    )
    names: dict[Line, Line] = Field(
        default={},
        description="Subject (the claim sub) to user name, where the operator decides: another name for the second "
        "of two users who have the same one, or an old name for a user with a new account.",
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
