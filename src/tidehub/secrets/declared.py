"""Every secret, declared once: what it is for, what it looks like, where it goes, what its rotation does.

Two places keep them. The site's own (`Kept.SITE`: the secrets file beside the site file, or another source of
`sources.py`) serve Kubernetes and the identity provider. A platform on one machine keeps what only its parts share
in its state (`Kept.STATE`), because the state's databases are encrypted with them.

Names of chart values: the charts' own values files; Secret keys: templates/hub/secret.yaml of the jupyterhub chart and
templates/gateway/secret.yaml of the dask-gateway chart.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from tidehub.errors import UsageError
from tidehub.secrets.shapes import CLIENT_SECRET, CRYPT_KEY, FERNET_KEY, HEX_32_BYTES, PASSWORD, TOKEN, Shape

Part = Literal["hub", "gateway", "gateway-proxy", "dashboards", "proxy", "identity", "culler", "operator"]
Release = Literal["jupyterhub", "dask-gateway"]


class Kept(Enum):
    """Who keeps a secret."""

    SITE = "site"
    STATE = "state"


@dataclass(frozen=True)
class ChartValue:
    """Where a secret goes on Kubernetes: a chart's value, and the key of the Secret that the chart makes of it."""

    release: Release
    path: tuple[str, ...]
    secret_key: str | None = None
    as_list: bool = False

    @property
    def dotted(self) -> str:
        return ".".join(self.path)


@dataclass(frozen=True)
class Rotation:
    """What a new value means for users. `cost` is the word that `--accept` takes where it takes something away."""

    effect: str
    cost: str | None = None
    keeps_old: bool = False
    """The old value stays behind the new one: it still decrypts, and encrypts nothing any more."""


@dataclass(frozen=True)
class Declared:
    """One secret."""

    name: str
    purpose: str
    """What it does, as the rest of a sentence that begins with "it"."""
    shape: Shape
    parts: tuple[Part, ...]
    kept: tuple[Kept, ...]
    rotation: Rotation
    machine: str | None = None
    """Where it goes on one machine, in words."""
    charts: tuple[ChartValue, ...] = ()
    hub_service: str | None = None
    """The service of the hub whose API token it is: the hub stores it, hashed."""

    @property
    def given(self) -> bool:
        """Whether somebody else issues it."""
        return self.shape.make is None

    def pieces(self, text: str) -> list[str]:
        """The values that one text states. Several keys are written as JupyterHub takes them (JUPYTERHUB_CRYPT_KEY):
        with ; between them, or one a line.
        """
        if not self.rotation.keeps_old:
            return [text]
        return [piece.strip() for piece in re.split(r"[;\n]", text) if piece.strip()]

    @property
    def variable(self) -> str:
        """The environment variable that gives it."""
        return f"TIDEHUB_SECRET_{self.name.upper()}"

    def machine_of(self, owner: Kept) -> str | None:
        """Where `owner`'s value goes on one machine: what the state keeps itself is not taken from the site."""
        return self.machine if owner is Kept.STATE or Kept.STATE not in self.kept else None

    def goes(self, owner: Kept) -> list[str]:
        """Where `owner`'s value goes, one line a place."""
        machine = self.machine_of(owner)
        places = [f"one machine: {machine}"] if machine else []
        charts = self.charts if owner is Kept.SITE else ()
        return places + [f"Kubernetes: {value.release}: {value.dotted}" for value in charts]


_BOTH = (Kept.SITE, Kept.STATE)
_LOGOUTS = "everyone logs in again; servers and clusters go on"
_UNNOTICED = "users notice only the restart"

SECRETS: tuple[Declared, ...] = (
    Declared(
        "client_secret",
        "proves to the identity provider that the hub is the client that was registered",
        CLIENT_SECRET,
        ("hub",),
        (Kept.SITE,),
        Rotation("no user can log in until the identity provider knows the same value"),
        machine="the hub's environment",
        charts=(ChartValue("jupyterhub", ("hub", "config", "GenericOAuthenticator", "client_secret")),),
    ),
    Declared(
        "hub_cookie_secret",
        "signs the hub's login cookies",
        HEX_32_BYTES,
        ("hub",),
        _BOTH,
        Rotation(_LOGOUTS, cost="logouts"),
        machine="JupyterHub.cookie_secret",
        charts=(
            ChartValue(
                "jupyterhub",
                ("hub", "config", "JupyterHub", "cookie_secret"),
                "hub.config.JupyterHub.cookie_secret",
            ),
        ),
    ),
    Declared(
        "hub_crypt_key",
        "encrypts what the identity provider said about a user, in the hub's database",
        CRYPT_KEY,
        ("hub",),
        _BOTH,
        Rotation(
            "users notice nothing: the old key stays second, and each login is encrypted anew",
            keeps_old=True,
        ),
        machine="CryptKeeper.keys",
        charts=(
            ChartValue(
                "jupyterhub",
                ("hub", "config", "CryptKeeper", "keys"),
                "hub.config.CryptKeeper.keys",
                as_list=True,
            ),
        ),
    ),
    Declared(
        "proxy_auth_token",
        "lets the hub change the routes of configurable-http-proxy",
        TOKEN,
        ("hub", "proxy"),
        _BOTH,
        Rotation(_UNNOTICED),
        machine="hub and proxy",
        charts=(
            ChartValue(
                "jupyterhub",
                ("hub", "config", "ConfigurableHTTPProxy", "auth_token"),
                "hub.config.ConfigurableHTTPProxy.auth_token",
            ),
        ),
    ),
    Declared(
        "gateway_token",
        "lets Dask Gateway ask the hub who a user is",
        TOKEN,
        ("hub", "gateway", "dashboards"),
        _BOTH,
        Rotation(_UNNOTICED),
        machine="hub, gateway and the gate before Dask dashboards",
        charts=(
            ChartValue(
                "jupyterhub",
                ("hub", "services", "dask-gateway", "apiToken"),
                "hub.services.dask-gateway.apiToken",
            ),
            ChartValue("dask-gateway", ("gateway", "auth", "jupyterhub", "apiToken"), "jupyterhub-api-token"),
        ),
        hub_service="dask-gateway",
    ),
    Declared(
        "database_password",
        "opens the hub's database, where that is a PostgreSQL or MySQL server",
        PASSWORD,
        ("hub",),
        (Kept.SITE,),
        Rotation("the hub does not start until the database server knows the same value"),
        charts=(ChartValue("jupyterhub", ("hub", "db", "password"), "hub.db.password"),),
    ),
    Declared(
        "gateway_proxy_token",
        "lets Dask Gateway change the routes of its own proxy",
        HEX_32_BYTES,
        ("gateway", "gateway-proxy"),
        (Kept.STATE,),
        Rotation(_UNNOTICED),
        machine="gateway and its proxy",
    ),
    Declared(
        "gateway_database_key",
        "encrypts clusters' TLS keys and tokens in the gateway's database",
        FERNET_KEY,
        ("gateway",),
        (Kept.STATE,),
        Rotation(
            "users notice nothing: the old key stays second, and new clusters are encrypted with the new one",
            keeps_old=True,
        ),
        machine="Backend.db_encrypt_keys",
    ),
    Declared(
        "culler_token",
        "lets the culler stop servers that are not in use",
        HEX_32_BYTES,
        ("hub", "culler"),
        (Kept.STATE,),
        Rotation(_UNNOTICED),
        machine="hub and culler",
        hub_service="culler",
    ),
    Declared(
        "reaper_token",
        "lets the gateway see who has a server, to end forgotten clusters",
        HEX_32_BYTES,
        ("hub", "gateway"),
        (Kept.STATE,),
        Rotation(_UNNOTICED),
        machine="hub and gateway",
        hub_service="reaper",
    ),
    Declared(
        "operator_token",
        "lets the supervisor ask the hub: status, check, the repair of routes",
        HEX_32_BYTES,
        ("hub", "operator"),
        (Kept.STATE,),
        Rotation(_UNNOTICED),
        machine="hub and supervisor",
        hub_service="operator",
    ),
    Declared(
        "gate_secret",
        "signs sessions at the gate before Dask dashboards, and derives each cluster's dashboard key",
        HEX_32_BYTES,
        ("gateway", "dashboards"),
        (Kept.STATE,),
        Rotation("open dashboards ask for a new login, which the hub gives without a question"),
        machine="gateway and the gate before Dask dashboards",
    ),
    Declared(
        "demo_client_secret",
        "proves to the embedded identity provider that the hub is its client",
        HEX_32_BYTES,
        ("hub", "identity"),
        (Kept.STATE,),
        Rotation(_UNNOTICED),
        machine="hub and embedded identity provider",
    ),
)

BY_NAME = {declared.name: declared for declared in SECRETS}


def kept_by(owner: Kept) -> tuple[Declared, ...]:
    """The secrets that the site, or a state, keeps."""
    return tuple(declared for declared in SECRETS if owner in declared.kept)


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant."""
    wanted = name.strip().lower().replace("-", "_").replace(".", "_")
    close = difflib.get_close_matches(wanted, list(known), n=1, cutoff=0.6)
    return close[0] if close else None


def find(name: str, owner: Kept) -> Declared:
    """The secret of that name. Raises `UsageError` with the nearest one."""
    known = {declared.name: declared for declared in kept_by(owner)}
    if name in known:
        return known[name]
    where = "in a state" if owner is Kept.STATE else "of a site"
    if name in BY_NAME:
        elsewhere = "leave --state out" if owner is Kept.STATE else "add --state DIR"
        raise UsageError(f"{name} is not kept {where}", fix=elsewhere)
    meant = nearest(name, known)
    raise UsageError(
        f"no secret {where} has that name",
        expected=", ".join(known),
        fix=f"did you mean {meant}?" if meant else None,
    )
