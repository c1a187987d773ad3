"""The hub's configuration on one machine: a fixed module, fed by the JSON file that `platform.py` renders.

JupyterHub executes this file (`jupyterhub -f`). Nothing here decides policy: the site, the ledger and the isolation
do. `TIDEHUB_HUB_SETTINGS` names the settings file.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from tidehub import hub_pages
from tidehub.capacity.admission import Admission
from tidehub.capacity.ledger import Ledger
from tidehub.local.databases import ledger_damage
from tidehub.local.hub import http_unix
from tidehub.local.hub.context import HubContext
from tidehub.local.hub.disk_watch import DiskWatch
from tidehub.local.hub.http_unix import socket_url
from tidehub.local.hub.roles import roles, server_scopes, services
from tidehub.local.hub.server_command import activity_interval
from tidehub.local.hub.settings import HubSettings
from tidehub.local.hub.spawner import TidehubSpawner
from tidehub.local.isolation import choose_isolation
from tidehub.local.places import Places
from tidehub.local.room import notice
from tidehub.local.secrets import load_secrets
from tidehub.login import log_scrub
from tidehub.login.authenticator import SiteAuthenticator
from tidehub.login.hub_traits import traits_of
from tidehub.secrets import redaction
from tidehub.secrets.secret import Secret
from tidehub.site.end_words import end_words

c: Any = get_config()  # type: ignore[name-defined]  # noqa: F821  # given by traitlets

settings = HubSettings.model_validate_json(Path(os.environ["TIDEHUB_HUB_SETTINGS"]).read_bytes())
places = Places.of(settings.state_dir)
secrets = load_secrets(places.secrets)
site = settings.site

http_unix.install()
log_scrub.install()
redaction.known.add([*secrets, Secret(os.environ["TIDEHUB_OIDC_CLIENT_SECRET"])])
redaction.install()

# --- addresses --------------------------------------------------------------------------
c.JupyterHub.bind_url = settings.public_url
c.JupyterHub.hub_bind_url = f"http://127.0.0.1:{settings.hub_port}{settings.base_path}"
c.JupyterHub.proxy_class = "jupyterhub.proxy.ConfigurableHTTPProxy"
c.ConfigurableHTTPProxy.should_start = False
c.ConfigurableHTTPProxy.api_url = socket_url(settings.proxy_api_socket)
c.ConfigurableHTTPProxy.auth_token = secrets.proxy_auth_token.reveal()
c.ConfigurableHTTPProxy.check_running_interval = 10
if settings.identity_url:
    c.Proxy.extra_routes = {f"{settings.base_path}services/identity/": settings.identity_url}

# --- state ------------------------------------------------------------------------------
c.JupyterHub.db_url = settings.database_url
c.JupyterHub.upgrade_db = True
c.JupyterHub.cookie_secret = bytes.fromhex(secrets.hub_cookie_secret.reveal())
c.CryptKeeper.keys = [key.reveal() for key in secrets.ring("hub_crypt_key")]
c.JupyterHub.cleanup_servers = False
c.JupyterHub.cleanup_proxy = False

# --- login ------------------------------------------------------------------------------
login = settings.login
c.JupyterHub.authenticator_class = SiteAuthenticator
for name, value in traits_of(
    site, login, with_offline=bool(settings.identity_url), gateway_url=settings.gateway_address
).items():
    c.SiteAuthenticator[name] = value
c.SiteAuthenticator.client_secret = os.environ["TIDEHUB_OIDC_CLIENT_SECRET"]
c.SiteAuthenticator.oauth_callback_url = f"{settings.public_url}hub/oauth_callback"
c.SiteAuthenticator.signed_out_url = f"{settings.public_url}hub/login"

# --- servers ----------------------------------------------------------------------------
log = logging.getLogger("tidehub")
ledger = Ledger(places.ledger, settings.capacity, on_damage=ledger_damage(places, log.warning))
isolation = choose_isolation(places, require=settings.isolation)
TidehubSpawner.context = HubContext(
    settings=settings,
    places=places,
    isolation=isolation,
    ledger=ledger,
    admission=Admission(ledger, log),
    disk_watch=DiskWatch(places, isolation, site.notebooks.home.size, log),
)
c.JupyterHub.spawner_class = TidehubSpawner
c.Spawner.server_token_scopes = lambda spawner: server_scopes(with_dask=spawner.entitled().dask is not None)
c.Spawner.default_url = "/lab"
# Our own queue is fair and says what it waits for; the hub's limits would answer 429.
c.JupyterHub.concurrent_spawn_limit = 0
c.JupyterHub.last_activity_interval = activity_interval(site.notebooks.idle_timeout, 60)

# --- services and pages -----------------------------------------------------------------
c.JupyterHub.load_roles = roles(site)
c.JupyterHub.services = services(settings, secrets)
# Ours extend the pages of both targets, as `site/NAME.html`.
own_pages = Path(__file__).with_name("templates")
c.JupyterHub.template_paths = [str(path) for path in (own_pages, hub_pages.SITE, hub_pages.TEMPLATES)]
c.JupyterHub.template_vars = {
    "site_name": site.site.name,
    "site_contact": site.site.contact,
    "end_words": end_words(site.notebooks.idle_timeout, site.notebooks.max_age),
    "disk_full": lambda user: notice(places),
}
c.JupyterHub.load_groups = {}

# --- the site's own words ---------------------------------------------------------------
if site.overrides is not None and site.overrides.hub_config is not None:
    # The operator's own code, last, as in a jupyterhub_config.py of their own; its names are its own too.
    exec(
        compile(site.overrides.hub_config, "overrides.hub_config", "exec"),
        {"c": c, "__name__": "overrides.hub_config"},
    )
