"""The embedded identity provider as a part: its configuration, its accounts, and the hub as its client."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tidehub.local.hub.settings import LoginEndpoints
from tidehub.local.identity_files import make_trial_accounts
from tidehub.local.parts import Setting
from tidehub.local.service_files import own_directory, write_for_part
from tidehub.local.trial_roles import asked, trial_roles

CLIENT_ID = "tidehub-hub"


@dataclass(frozen=True)
class DemoLogin:
    """The embedded provider for this start. `passwords` and `parts` (one line each) by user name."""

    endpoints: LoginEndpoints
    passwords: Mapping[str, str]
    parts: Mapping[str, str]


def prepare_identity(setting: Setting, *, allow_public: bool) -> DemoLogin:
    """Writes the provider's configuration and makes the demo accounts that the site's admission rule decides on."""
    places, front, service = setting.places, setting.front, setting.service
    own_directory(places.identity, uid=service.uid, gid=service.gid)
    issuer = f"{front.public_url}services/identity"
    config = {
        "issuer": issuer,
        "listen": {"host": "127.0.0.1", "port": setting.ports["identity"]},
        "state_dir": str(places.identity),
        "site_name": setting.site.site.name[:100],
        "contact": setting.site.site.contact,
        "client": {
            "client_id": CLIENT_ID,
            "client_secret": setting.secrets.demo_client_secret.reveal(),
            "redirect_uri": f"{front.public_url}hub/oauth_callback",
            "post_logout_redirect_uris": [front.public_url, f"{front.public_url}hub/login"],
        },
        "allow_public": allow_public,
        # Addresses of the operator's own proxies are not users: throttling looks behind them.
        "trusted_proxies": list(setting.site.machine.trusted_proxies),
    }
    write_for_part(places.identity_config, json.dumps(config, indent=2) + "\n", service.gid)
    made = asked(setting.site.login)
    passwords = make_trial_accounts(
        places, made.group, admin_group=made.admin_group, assurance=made.assurance
    )
    inside = f"{setting.identity_url}{front.base_path}services/identity"
    return DemoLogin(
        endpoints=LoginEndpoints(
            service_name="a demo account of this machine",
            issuer=issuer,
            # Its address changes with the port, its users do not.
            realm="the embedded identity provider",
            issuer_in_answers=True,
            jwks_url=f"{inside}/jwks",
            authorize_url=f"{issuer}/authorize",
            token_url=f"{inside}/token",
            userinfo_url=f"{inside}/userinfo",
            end_session_url=f"{issuer}/logout",
            client_id=CLIENT_ID,
        ),
        passwords=passwords,
        parts=trial_roles(setting.site),
    )
