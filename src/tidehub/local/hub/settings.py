"""What the hub process on one machine is told: one JSON file, rendered from the site, read by `jupyterhub_config.py`.

Secrets are not in it: the hub reads them from the secrets file beside it.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from tidehub.capacity.queue import Capacity
from tidehub.site.model import Site


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LoginEndpoints(_Frozen):
    """Where the identity provider is. Browser addresses and the hub's own may differ for the embedded one."""

    service_name: str
    issuer: str
    realm: str = ""
    """Stands for the issuer in the table of users; empty for the issuer itself."""
    issuer_in_answers: bool = False
    jwks_url: str
    authorize_url: str
    token_url: str
    userinfo_url: str
    end_session_url: str | None = None
    client_id: str


class ProfileEnvironment(_Frozen):
    """The environment that a profile runs in on this machine."""

    python: Path
    bin: Path
    version: str


class HubSettings(_Frozen):
    """Everything `jupyterhub_config.py` needs. Addresses are complete URLs; `base_path` begins and ends with `/`."""

    site: Site
    state_dir: Path
    public_url: str
    base_path: str
    hub_port: int
    proxy_api_socket: str
    gateway_address: str
    gateway_scheduler_address: str
    dashboards_url: str | None
    identity_url: str | None
    login: LoginEndpoints
    environments: dict[str, ProfileEnvironment]
    notebook_side: Path
    readable: tuple[Path, ...]
    database_url: str
    isolation: str
    capacity: Capacity
    ready_timeout: float = 120.0
    """Seconds a notebook server may take from its start to its first answer, and longer while it makes progress;
    waiting in the queue is not counted."""
