"""Who users are and who may enter: JupyterHub's authenticator configuration becomes `login`."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

from tidehub.importing.draft import Draft, is_line
from tidehub.importing.fates import ChartValues
from tidehub.login.entitlements import parse
from tidehub.secrets.placeholders import is_placeholder
from tidehub.site.model import EGI_HOSTS
from tidehub.site.problems import KeyPath

NOBODY = "urn:mace:egi.eu:group:nobody.invalid:role=member"
"""A rule that admits no user: names below .invalid are never registered (RFC 2606)."""

_GENERIC = re.compile(
    r"(?i)generic(-oauth)?|.*\bGenericOAuthenticator|.*EGICheckinAuthenticator|egi-?checkin"
)
_DUMMY = re.compile(
    r"(?i)dummy|tmp|.*(Dummy|Tmp|SharedPassword|FirstUse|Native)\w*|shared-password|native\w*"
)
_OIDC_SECTIONS = ("EGICheckinAuthenticator", "GenericOAuthenticator", "OAuthenticator", "Authenticator")
_KEYCLOAK = re.compile(r"(https?://[^/]+/.*realms/[^/]+)/protocol/openid-connect/\w+")
_OF_EGI = {host: instance for instance, host in EGI_HOSTS.items()}
_ENTITLEMENTS = ("eduperson_entitlement", "entitlements")
_ENTITLEMENT_SCOPES = {"eduperson_entitlement", "entitlements"}
_ENDPOINTS = {"authorize_url": "authorize", "token_url": "token", "userdata_url": "userinfo"}


def callback_path(url: str) -> str | None:
    """The base path in a redirect address, None where it is not the hub's."""
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    return path.removesuffix("hub/oauth_callback") if path.endswith("/hub/oauth_callback") else None


def import_login(hub: ChartValues, draft: Draft) -> None:
    """Set `login`, and the secrets that belong to it. Runs after `site.url` is known."""
    _Login(hub, draft).run()


class _Login:
    def __init__(self, hub: ChartValues, draft: Draft) -> None:
        self.hub, self.draft = hub, draft
        self.sections = [name for name in _OIDC_SECTIONS if hub.mapping("hub", "config", name)]

    def run(self) -> None:
        kind = self.kind()
        named = self.hub.get("hub", "config", "JupyterHub", "authenticator_class")
        self.keeps_another = kind != "oidc" and named is not None
        if kind == "oidc":
            self.provider()
            self.client()
            self.claims()
            self.always_on()
        else:
            self.foreign(kind)
        self.admission()

    def path(self, section: str, trait: str) -> KeyPath:
        return ("hub", "config", section, trait)

    def stated(self, *traits: str) -> list[KeyPath]:
        """Where traits stand, the section that counts first."""
        return [
            self.path(section, trait)
            for section in self.sections
            for trait in traits
            if self.hub.has(*self.path(section, trait))
        ]

    def kind(self) -> str:
        """`oidc`, `dummy`, or the name of an authenticator that tidehub does not have."""
        path: KeyPath = ("hub", "config", "JupyterHub", "authenticator_class")
        name = self.hub.get(*path)
        if isinstance(name, str) and _GENERIC.fullmatch(name.strip()):
            if name.strip() == "generic-oauth":
                self.hub.understood(path, "login.provider")
            else:
                remark = "tidehub's own class serves EGI Check-In and OpenID Connect alike (generic-oauth)"
                self.hub.translated(path, "login.provider", remark)
            return "oidc"
        if self.hub.has(*path) and name is not None:
            return "dummy" if isinstance(name, str) and _DUMMY.fullmatch(name.strip()) else str(name)[:80]
        if "authenticator_class" in str(self.hub.get("hub", "extraConfig")):
            return "what Python in hub.extraConfig sets"
        if any(section in self.sections for section in _OIDC_SECTIONS[:2]):
            return "oidc"
        return "dummy" if self.hub.data else "none"

    def foreign(self, kind: str) -> None:
        path: KeyPath = ("hub", "config", "JupyterHub", "authenticator_class")
        if kind == "none":
            why = "no values of jupyterhub are among these files; the demo provider is for trying out alone"
            self.draft.choose("login.provider", "demo", why)
            return
        if kind == "dummy":
            self.draft.choose(
                "login.provider",
                "demo",
                "the values log users in without an identity provider; the demo provider is the nearest, for trying "
                "out alone",
            )
            self.hub.passed(path, "kept for Kubernetes; everyone with the password enters under any name")
            return
        self.draft.choose(
            "login.provider",
            "oidc",
            f"tidehub has no provider for {kind}; state your OpenID Connect provider's issuer and client_id",
        )
        self.draft.put("login.client_id", "<CLIENT_ID>")
        self.hub.passed(
            path,
            f"tidehub knows EGI Check-In and OpenID Connect, not {kind}: kept for Kubernetes, where it replaces "
            "tidehub's login and its rules",
        )

    def provider(self) -> None:
        urls: dict[str, tuple[KeyPath, str]] = {}
        for trait in _ENDPOINTS:
            for path in self.stated(trait)[:1]:
                text = self.hub.text(*path)
                if text is not None and _is_url(text):
                    urls[trait] = (path, text)
        hosts = {urlsplit(url).hostname or "" for _, url in urls.values()}
        egi = [host for host in hosts if host in _OF_EGI]
        if not urls:
            self.no_endpoints()
        elif len(hosts) == 1 and egi:
            self.check_in(urls, egi[0])
        else:
            self.other(urls)

    def no_endpoints(self) -> None:
        if "EGICheckinAuthenticator" in self.sections:
            self.draft.put("login.provider", "egi-check-in")
            self.draft.choose("login.instance", "production", "the default of the EGI authenticator")
        else:
            self.draft.choose(
                "login.provider", "oidc", "the values state no address of the identity provider"
            )

    def check_in(self, urls: dict[str, tuple[KeyPath, str]], host: str) -> None:
        self.draft.put("login.provider", "egi-check-in")
        where = self.hub.place(next(iter(urls.values()))[0])
        self.draft.put("login.instance", _OF_EGI[host], where)
        for path, url in urls.values():
            if "/oidc/" in urlsplit(url).path:
                remark = "the addresses with /oidc/ were switched off in 2022; the instance has new ones"
                self.hub.translated(path, "login.instance", remark)
            else:
                self.hub.understood(path, "login.instance")

    def other(self, urls: dict[str, tuple[KeyPath, str]]) -> None:
        self.draft.put("login.provider", "oidc")
        realms = {found[1] for _, url in urls.values() if (found := _KEYCLOAK.fullmatch(url))}
        keycloak = len(realms) == 1 and all(_KEYCLOAK.fullmatch(url) for _, url in urls.values())
        first = next(iter(urls.values()))
        if keycloak:
            self.draft.put("login.issuer", realms.pop(), self.hub.place(first[0]))
        else:
            parts = urlsplit(first[1])
            issuer = f"{parts.scheme}://{parts.netloc}"
            why = "taken from the endpoints' host: compare it with what the provider calls its issuer"
            self.draft.choose("login.issuer", issuer, why)
        for trait, (path, url) in urls.items():
            if keycloak:
                self.hub.translated(path, "login.issuer", "the issuer's discovery document has this address")
            elif len(urls) == len(_ENDPOINTS):
                self.draft.put(f"login.endpoints.{_ENDPOINTS[trait]}", url, self.hub.place(path))
                self.hub.understood(path, f"login.endpoints.{_ENDPOINTS[trait]}")

    def client(self) -> None:
        for index, path in enumerate(self.stated("client_id")):
            value = self.hub.get(*path)
            if index == 0 and is_line(value):
                self.draft.put("login.client_id", value.strip(), self.hub.place(path))
                if is_placeholder(value):
                    self.draft.placeholders.append(("login.client_id", self.hub.place(path)))
                self.hub.understood(path, "login.client_id")
        for path in self.stated("client_secret"):
            self.draft.secret(self.hub, path, "client_secret")
        for path in self.stated("oauth_callback_url")[:1]:
            self.callback(path)

    def callback(self, path: KeyPath) -> None:
        url = self.hub.text(*path)
        site = self.draft.get("site.url")
        if url is None or not _is_url(url) or site is None:
            return
        if url == f"{site.rstrip('/')}/hub/oauth_callback":
            self.hub.understood(path, "site.url")
        else:
            self.draft.put("login.callback_url", url, self.hub.place(path))
            self.hub.translated(
                path,
                "login.callback_url",
                f"does not follow from the site's address {site}: the hub answers there, not here",
            )

    def claims(self) -> None:
        self.scopes()
        names = [*self.stated("username_key"), *self.stated("username_claim")]
        taken = [path for path in names if is_line(self.hub.get(*path))][:1]
        for path in taken:
            self.draft.put("login.username_claim", str(self.hub.get(*path)).strip(), self.hub.place(path))
            if path[-1] == "username_key":
                remark = "username_key is the old name of username_claim (oauthenticator 16)"
                self.hub.translated(path, "login.username_claim", remark)
            else:
                self.hub.understood(path, "login.username_claim")
        if not taken:
            egi = self.draft.get("login.provider") == "egi-check-in"
            claim = "preferred_username" if egi else "username"
            self.draft.choose("login.username_claim", claim, "the values name no claim")
        for path in self.stated("claim_groups_key", "auth_state_groups_key"):
            if str(self.hub.get(*path)).removeprefix("oauth_user.") in _ENTITLEMENTS:
                old = path[-1] == "claim_groups_key"
                since = "; the key itself is deprecated since oauthenticator 17" if old else ""
                self.hub.dropped(path, f"tidehub reads both {' and '.join(_ENTITLEMENTS)}{since}")
            else:
                self.hub.passed(path, "tidehub reads groups from entitlements alone")

    def scopes(self) -> None:
        for path in self.stated("scope")[:1]:
            value = self.hub.get(*path)
            scopes = value.split() if isinstance(value, str) else value
            if not (isinstance(scopes, list) and scopes and all(is_line(scope) for scope in scopes)):
                continue
            key = "login.scopes"
            if isinstance(value, str):
                self.hub.translated(path, key, "a text becomes a list; openid is added where it is missing")
            if "openid" not in scopes:
                scopes = ["openid", *scopes]
                self.hub.translated(path, key, "openid is added: OpenID Connect needs it")
            self.draft.put(key, list(dict.fromkeys(scopes)), self.hub.place(path))
            self.hub.understood(path, key)
        if self.draft.get("login.scopes") is None:
            scopes = ["openid", "profile", "email"]
            self.draft.choose("login.scopes", scopes, "the values ask for no scope", ", ".join(scopes))

    def always_on(self) -> None:
        """What tidehub's own login does by itself."""
        reasons = {
            "login_service": "the button is named after the provider",
            "manage_groups": "tidehub always does: groups come with every login",
            "enable_auth_state": "tidehub always does: memberships are asked for again while users work",
            "refresh_pre_spawn": "tidehub asks again anyway, every five minutes of use",
            "enable_pkce": "on in this oauthenticator without being asked",
            "basic_auth": "tidehub sends the client secret in the header",
            "userdata_token_method": "the access token goes in the header",
            "userdata_method": "no oauthenticator knows this key any more",
        }
        for trait, reason in reasons.items():
            for path in self.stated(trait):
                value = self.hub.get(*path)
                if trait in ("login_service", "manage_groups", "enable_auth_state", "userdata_method") or (
                    value in (True, "header", "GET")
                ):
                    self.hub.dropped(path, reason)
                else:
                    self.hub.passed(path, f"tidehub does otherwise: {reason}")
        for path in self.stated("allow_existing_users"):
            if self.hub.get(*path) is False:
                self.hub.dropped(path, "tidehub never admits users only because they were here before")
        for path in self.stated("userdata_params"):
            if self.hub.get(*path) in ({"state": "state"}, {}, None):
                self.hub.dropped(path, "a constant in the query of the userinfo request, which nothing reads")
        for path in self.stated("extra_params"):
            self.hub.moved(path, (*path[:-1], "token_params"), "extra_params is the old name of token_params")
        self.certificate()

    def certificate(self) -> None:
        for path in self.stated("tls_verify", "validate_server_cert"):
            if self.hub.get(*path) is True:
                self.hub.dropped(path, "the provider's certificate is always verified")
            else:
                remark = "the provider's certificate is not verified: anyone in between can log in as anybody"
                self.hub.moved(path, (*path[:-1], "validate_server_cert"), remark)

    def admission(self) -> None:
        for path in self.stated("allow_all"):
            if self.hub.get(*path) is True:
                self.draft.put("login.allow.everyone", True, self.hub.place(path))
                self.taken(path, "login.allow.everyone")
            elif self.hub.get(*path) is False:
                self.hub.dropped(path, "only users who are named may enter")
        for trait, key in {
            "allowed_users": "login.allow.users",
            "whitelist": "login.allow.users",
            "admin_users": "login.admins.users",
            "allowed_groups": "login.allow.groups",
            "admin_groups": "login.admins.groups",
        }.items():
            for path in self.stated(trait):
                self.names(path, key)
        allow = self.draft.get("login.allow")
        if allow:
            return
        self.draft.choose(
            "login.allow.groups",
            [NOBODY],
            "the values do not say who may enter. Hubs before oauthenticator 16 then admitted everybody, newer ones "
            "no user; this rule admits no user until you change it",
            NOBODY,
        )

    def names(self, path: KeyPath, key: str) -> None:
        value = self.hub.get(*path)
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list) or not all(is_line(item) for item in items):
            return
        if not items:
            self.hub.dropped(path, "no user is named")
            return
        if key.startswith("login.allow") and self.draft.get("login.allow.everyone"):
            self.hub.dropped(path, "everyone may enter anyway")
            return
        if key.endswith("groups"):
            groups = [item for item in items if _is_entitlement(item)]
            if len(groups) < len(items):
                remark = "tidehub compares entitlements (URNs) only, so the other groups are not under login"
                self.hub.passed(path, remark)
            items = groups
        if not items:
            return
        known = self.draft.get(key)
        if known is not None:
            self.hub.dropped(path, f"{key} is stated by a key that counts more")
            return
        self.draft.put(key, list(dict.fromkeys(item.strip() for item in items)), self.hub.place(path))
        if path[-1] == "whitelist":
            self.hub.translated(path, key, "whitelist is the old name of allowed_users")
        self.taken(path, key)

    def taken(self, path: KeyPath, key: str) -> None:
        """It stands under `key` now; beside an authenticator that is kept, whose own trait it is, also as it was."""
        if self.keeps_another:
            remark = f"understood as {key}, and kept: the authenticator that the values name reads it itself"
            self.hub.passed(path, remark)
        else:
            self.hub.understood(path, key)


def import_hub_secrets(hub: ChartValues, draft: Draft) -> None:
    """The hub's own secrets, whatever the login is."""
    config: KeyPath = ("hub", "config")
    for path, name in (
        ((*config, "JupyterHub", "cookie_secret"), "hub_cookie_secret"),
        (("hub", "cookieSecret"), "hub_cookie_secret"),
        ((*config, "CryptKeeper", "keys"), "hub_crypt_key"),
        ((*config, "ConfigurableHTTPProxy", "auth_token"), "proxy_auth_token"),
        (("proxy", "secretToken"), "proxy_auth_token"),
        (("hub", "services", "dask-gateway", "apiToken"), "gateway_token"),
        (("hub", "services", "dask-gateway", "api_token"), "gateway_token"),
        (("hub", "db", "password"), "database_password"),
    ):
        if hub.has(*path):
            draft.secret(hub, path, name)


def _is_entitlement(text: Any) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        port_is_fine = parts.port is None or parts.port > 0
    except ValueError:
        return False
    host = re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", parts.netloc)
    plain = not parts.query and not parts.fragment and not parts.username
    return bool(parts.scheme in ("http", "https") and host and port_is_fine and plain)
