"""The code for `hub.extraConfig`, executed as the chart does: what it sets, and that no value can undo the rule."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from traitlets.config import Config
from value_sites import PLAIN, RULES, VO, built, hub_values, site

from tidehub.kubernetes.values import hub_code
from tidehub.site.model import Site

OLDER = {
    "hub 1.5": "{model: daskhub, charts: {daskhub: 2022.6.0}}",
    "hub 3.0": "{charts: {jupyterhub: 2.0.0, dask-gateway: 2022.6.1}}",
    "hub 4.1": "{charts: {jupyterhub: 3.3.8}}",
}
EXECUTE = """
import json, sys


class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tidehub", "joserfc", "aarc_entitlement", "httpx"):
            raise ImportError(name + " is not in the hub's image")


sys.meta_path.insert(0, Nothing())
from traitlets.config import Config
c = Config(json.load(sys.stdin))
c.JupyterHub.services = []
for name, code in sorted(c.pop("codes").items()):
    exec(code)
"""


def executed(wanted: Site, given: dict[str, Any] | None = None) -> Config:
    """The configuration after the values' `hub.config`, `given` and the entries in their order, in this process.

    Modules of ours are replaced by their texts while that lasts.
    """
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "tidehub"}
    values = hub_values(wanted)
    c = Config(values["hub"]["config"])
    c.KubeSpawner.profile_list = values["singleuser"]["profileList"]
    c.JupyterHub.services = []
    for section, settings in (given or {}).items():
        c[section].update(settings)
    try:
        namespace = {"c": c}
        for _, code in sorted(values["hub"]["extraConfig"].items()):
            exec(code, namespace)
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "tidehub"]:
            del sys.modules[name]
        sys.modules.update(before)
        for name, module in before.items():
            parent, _, child = name.rpartition(".")
            if parent in before:
                setattr(before[parent], child, module)
    return c


def user(*held: str, name: str = "ann") -> dict[str, Any]:
    return {"sub": f"sub-of-{name}", "preferred_username": name, "entitlements": list(held)}


@pytest.mark.parametrize("kubernetes", OLDER.values(), ids=OLDER)
def test_an_older_hub_asks_the_rule(kubernetes: str) -> None:
    traits = executed(site(PLAIN, kubernetes)).GenericOAuthenticator
    admitted = set(traits.claim_groups_key(user(f"{VO}:role=member#aai.egi.eu")))
    assert admitted == set(traits.allowed_groups)
    assert not set(traits.claim_groups_key(user(f"{VO}x"))) & set(traits.allowed_groups)
    name = traits.username_key if kubernetes != OLDER["hub 4.1"] else traits.username_claim
    assert name(user(name="Ann")) == "ann"
    assert traits.allowed_users == traits.admin_users == set()


@pytest.mark.parametrize("kubernetes", OLDER.values(), ids=OLDER)
def test_without_the_code_an_older_hub_admits_nobody(kubernetes: str) -> None:
    login = hub_values(site(PLAIN, kubernetes))["hub"]["config"]["GenericOAuthenticator"]
    assert login["allowed_groups"] == ["tidehub: may enter"]
    assert login.get("allow_all", False) is False
    assert "claim_groups_key" not in login


@pytest.mark.parametrize("kubernetes", OLDER.values(), ids=OLDER)
def test_values_of_the_sites_own_words_open_no_other_door(kubernetes: str) -> None:
    wide = {"allow_all": True, "allow_existing_users": True, "allowed_users": {"eve"}, "admin_users": {"eve"}}
    traits = executed(
        site(PLAIN, kubernetes), {"GenericOAuthenticator": {**wide, "allowed_groups": ["everybody"]}}
    ).GenericOAuthenticator
    if kubernetes == OLDER["hub 4.1"]:
        assert (traits.allow_all, traits.allow_existing_users) == (False, False)
    assert traits.allowed_groups == ["tidehub: may enter"]
    assert traits.allowed_users == traits.admin_users == set()


def test_groups_are_kept_where_the_hub_can_be_told() -> None:
    kept = {name: executed(site(PLAIN, kubernetes)) for name, kubernetes in OLDER.items()}
    assert {name: c.GenericOAuthenticator.get("manage_groups") is True for name, c in kept.items()} == {
        "hub 1.5": False,
        "hub 3.0": True,
        "hub 4.1": True,
    }


def test_only_the_hub_that_keeps_no_groups_keeps_what_the_provider_said() -> None:
    states = {
        name: hub_values(site(RULES, kubernetes))["hub"]["config"]["GenericOAuthenticator"].get(
            "enable_auth_state"
        )
        for name, kubernetes in OLDER.items()
    }
    assert states == {"hub 1.5": True, "hub 3.0": None, "hub 4.1": None}


@pytest.mark.parametrize("kubernetes", [*OLDER.values(), "{}"], ids=[*OLDER, "current"])
def test_profiles_follow_the_user_in_every_hub(kubernetes: str) -> None:
    c = executed(site(RULES, kubernetes))

    async def auth_state() -> dict[str, Any]:
        return {"oauth_user": user(f"{VO}:role=power#aai.egi.eu")}

    groups = [SimpleNamespace(name=f"{VO}:role=power")] if kubernetes != OLDER["hub 1.5"] else []
    ann = SimpleNamespace(name="ann", groups=groups, get_auth_state=auth_state)

    async def ask() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = await c.KubeSpawner.profile_list(
            SimpleNamespace(user=ann, user_options={})
        )
        return found

    listed = asyncio.run(ask())
    assert [entry["slug"] for entry in listed] == ["small", "large"]
    assert {entry["kubespawner_override"]["mem_limit"] for entry in listed} == {16 * 2**30}
    assert callable(c.KubeSpawner.pre_spawn_hook)


def test_where_everybody_has_the_same_kubespawner_keeps_its_list() -> None:
    assert set(hub_values(site(PLAIN))["hub"]["extraConfig"]) == {
        "0-tidehub-dashboards",
        "0-tidehub-homes",
        "0-tidehub-login",
        "0-tidehub-proxy",
    }
    assert isinstance(executed(site(PLAIN)).KubeSpawner.profile_list, list)


def test_the_current_hub_has_the_authenticator_of_one_machine() -> None:
    c = executed(site(RULES))
    assert c.JupyterHub.authenticator_class.__name__ == "SiteAuthenticator"
    assert c.SiteAuthenticator.gateway_url == "http://traefik-dask-gateway.daskhub/x/services/dask-gateway"
    assert c.SiteAuthenticator.check_every == 300.0
    assert "GenericOAuthenticator" not in c


def test_scopes_of_servers_follow_the_user_where_clusters_are_for_groups() -> None:
    text = RULES.replace("      notebooks: {", "      dask: {enabled: true}\n      notebooks: {")
    c = executed(site(text, more="dask: {access: groups}\n"))
    spawner = SimpleNamespace(user=SimpleNamespace(name="ann", groups=[]))
    assert c.KubeSpawner.server_token_scopes(spawner) == ["users:activity!user", "access:servers!server"]
    assert "server_token_scopes" not in executed(site(RULES)).KubeSpawner


def test_the_sites_own_python_runs_last() -> None:
    more = (
        "overrides: {hub_config: 'c.GenericOAuthenticator.enable_pkce = c.JupyterHub.authenticator_class'}\n"
    )
    c = executed(site(RULES, OLDER["hub 4.1"], more))
    assert c.GenericOAuthenticator.enable_pkce == "generic-oauth"


@pytest.mark.parametrize("kubernetes", [*OLDER.values(), "{}"], ids=[*OLDER, "current"])
def test_it_runs_where_nothing_of_ours_is_installed(kubernetes: str) -> None:
    values = hub_values(site(RULES, kubernetes))
    entries = {
        **values["hub"]["config"],
        "KubeSpawner": {"profile_list": values["singleuser"]["profileList"]},
        "codes": values["hub"]["extraConfig"],
    }
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        input=json.dumps(entries),
        capture_output=True,
        text=True,
        timeout=120,
        cwd="/",
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_it_fits_into_a_secret() -> None:
    """A Secret holds 1 MiB, and so does Helm's record of a release, compressed and with the chart in it."""
    for kubernetes in [*OLDER.values(), "{}"]:
        for release in built(site(RULES, kubernetes)).releases:
            assert len(json.dumps(release.values)) < 256 * 1024


def test_entries_stand_before_what_others_write() -> None:
    order = [
        hub_code.ORDER_LOGIN,
        hub_code.ORDER_USERS,
        hub_code.ORDER_PROXY,
        "00-add-dask-gateway-values",
        "Mine",
        "mine",
    ]
    assert order == sorted(order)
    assert max(*order, hub_code.ORDER_OVERRIDES) == hub_code.ORDER_OVERRIDES
