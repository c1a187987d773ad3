"""What is printed beside a demo account is what the site's own rule says."""

from __future__ import annotations

from typing import Any

import pytest

from tidehub.identity.demo_accounts import USERS
from tidehub.local.trial_roles import trial_roles
from tidehub.site.model import Site
from tidehub.site.presets import NAMES
from tidehub.site.reading.load import load_preset


def may(**login: Any) -> dict[str, str]:
    overrides = [("login", {"provider": "demo", "scopes": ["openid", "profile", "entitlements"], **login})]
    site: Site = load_preset("laptop", overrides=overrides).site
    return {name: said.rpartition(": ")[2] for name, said in trial_roles(site).items()}


GROUP = "urn:mace:egi.eu:group:vo.coast.eu"


@pytest.mark.parametrize("preset", NAMES)
def test_the_presets(preset: str) -> None:
    said = trial_roles(load_preset(preset).site)
    assert list(said) == [user.username for user in USERS]
    # The communities' guides name no administrators, and neither do their presets.
    administrators = [name for name, words in said.items() if words.endswith("administrator")]
    assert administrators == (["ada"] if preset == "laptop" else [])
    assert [name for name, words in said.items() if words.endswith("is refused")] == ["rita", "nora"]


def test_without_a_rule_for_administrators_nobody_is_one() -> None:
    said = may(allow={"groups": [f"{GROUP}:role=member"]})
    assert said["ada"] == "may enter" and "administrator" not in said.values()


def test_where_everybody_may_enter_nobody_is_refused() -> None:
    assert set(may(allow={"everyone": True}).values()) == {"may enter"}


def test_a_rule_without_a_role_and_one_for_operators() -> None:
    said = may(allow={"groups": [GROUP]}, admins={"groups": [f"{GROUP}:role=vm_operator"]})
    assert (said["olga"], said["alice"], said["nora"]) == ("administrator", "may enter", "is refused")
    assert said["rita"] == "administrator"


def test_users_by_name_and_those_who_are_blocked() -> None:
    said = may(allow={"users": ["nora"]}, admins={"users": ["bob"]})
    assert (said["nora"], said["bob"], said["alice"]) == ("may enter", "administrator", "is refused")
