"""The site's admission rule for hubs whose oauthenticator is 14 to 16 (jupyterhub charts 1 to 3).

There the rule cannot come as an authenticator of ours. GenericOAuthenticator takes functions for the user name and
for the groups, so it is asked about one group that only the rule gives: users are admitted by the rule alone. What
that leaves out is said by `tidehub validate`: memberships count until the next sign-in, and a name is whoever
presents it.

The text travels into the hub's image, where Python may be 3.8.
"""

from __future__ import annotations

from typing import Any

from tornado import web
from traitlets.log import get_logger

from tidehub.login import rule as admission

ADMITTED = "tidehub: may enter"
ADMIN = "tidehub: is an administrator"
NOBODY = "tidehub: nobody"
"""Groups that no identity provider can send: memberships are URNs, and only this module names these."""


class SiteRule:
    """`rule` is the site's, as `tidehub.login.rule` takes it; `names` are subjects with their user names by the
    operator's word; `blocked` are user names and subjects that may not enter.
    """

    def __init__(self, rule: dict[str, Any], names: dict[str, str], blocked: list[str]) -> None:
        self.rule, self.names = rule, names
        self.blocked = set(blocked) | {entry.lower() for entry in blocked}

    def username(self, claims: dict[str, Any]) -> str:
        """The hub's user name of the user with these claims. Raises a 403 that says why there is none."""
        name, fault = self._name(claims)
        if not name:
            get_logger().warning("no usable user name for %s: %s", claims.get("sub"), fault)
            raise web.HTTPError(403, "%s", fault)
        return name

    def groups(self, claims: dict[str, Any]) -> list[str]:
        """The groups that say what the rule decided, and nothing that the provider sent."""
        name, _ = self._name(claims)
        decision = admission.decide({**claims, self.rule["username_claim"]: name}, self.rule)
        blocked = name in self.blocked or claims.get("sub") in self.blocked
        if blocked or not decision.admitted:
            why = "the administrators of this site blocked the account" if blocked else decision.reason
            get_logger().warning("refused %s (%s): %s", name, claims.get("sub"), why)
            # Something, because upstream writes all claims into the log where there is nothing.
            return [NOBODY]
        get_logger().info("admitted %s (%s) by %s", name, claims.get("sub"), decision.rule)
        return [ADMITTED, ADMIN] if decision.admin else [ADMITTED]

    def keep_groups(self, authenticator: Any, handler: Any, model: dict[str, Any]) -> dict[str, Any]:
        """The hub's hook after a sign-in: the user's memberships become their groups. JupyterHub 2.2 and newer."""
        claims = (model.get("auth_state") or {}).get("oauth_user") or {}
        model["groups"] = list(admission.decide(claims, self.rule).groups)
        return model

    def _name(self, claims: dict[str, Any]) -> tuple[str, str]:
        sub = claims.get("sub")
        if not isinstance(sub, str) or not sub:
            return "", "The identity provider did not say who you are (sub)."
        if sub in self.names:
            return self.names[sub].lower(), ""
        name, fault = admission.username_of(claims, self.rule["username_claim"])
        if name in (stated.lower() for stated in self.names.values()):
            return "", "Another account has this user name here, as the administrators of this site decided."
        return name, fault


async def memberships(spawner: Any) -> list[str]:
    """The memberships of a server's owner at their last sign-in, for hubs that cannot be told groups.

    None where the hub kept nothing of it.
    """
    state = await spawner.user.get_auth_state()
    claims = (state or {}).get("oauth_user")
    return [held.canonical for held in admission.read(claims).understood]
