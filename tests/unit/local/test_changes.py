"""The decision table of a changed site: every key has its rule, and a plan says what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from tidehub.local.changes import RULES, Plan, Reach, Served, differences, plan, rule_of, server_name
from tidehub.site.describe import all_keys
from tidehub.site.destinations.machine import RULES as ON_ONE_MACHINE
from tidehub.site.reading.load import load_preset

RUNNING = ("server:alice:", "server:bob:gpu", "scheduler:1", "worker:1:1")
PARTS = {"logs", "proxy", "gateway", "gateway-proxy", "dashboards", "identity", "hub", "culler"}


def served(*settings: tuple[str, Any], **more: Any) -> Served:
    site = load_preset("laptop", overrides=settings, environ={}).site
    found: dict[str, Any] = {
        "site": site.model_dump(mode="json", by_alias=True),
        "options": {"port": None, "demo_login": False, "demo_login_on_public_address": False},
        "environments": {profile.slug: "aaaa-py311" for profile in site.notebooks.profiles},
        "program": "one",
        "version": "1.0",
    }
    return Served.from_json(found | more)


def changed(*settings: tuple[str, Any], running: tuple[str, ...] = RUNNING, **more: Any) -> Plan:
    return plan(served(), served(*settings, **more), running)


def test_every_key_of_the_site_has_a_rule() -> None:
    assert [key.name for key in all_keys() if key.section is None and rule_of(key.name) is None] == []


def test_every_rule_is_about_a_key_and_names_parts() -> None:
    keys = [key.name.replace("[]", "") for key in all_keys()]
    for name, rule in RULES.items():
        assert any(key == name or key.startswith(f"{name}.") for key in keys), name
        assert set(rule.parts) <= PARTS
        assert bool(rule.parts or rule.whole) != (rule.reach is Reach.NOBODY), name


def test_what_one_machine_uses_is_served_by_a_part() -> None:
    """`explain` names what a key becomes on one machine: a key with such a place reaches somebody, and one without it
    ("not used") nobody."""
    unused = {"notebooks.profiles[].image", "dask.image.default"}
    for key in ON_ONE_MACHINE:
        rule = rule_of(key)
        assert rule is not None
        if "ephemeral_storage" in key or key in unused - {"notebooks.profiles[].image"}:
            assert rule.reach is Reach.NOBODY, key
        else:
            assert rule.reach is not Reach.NOBODY, key


def test_the_same_is_an_empty_plan() -> None:
    found = changed()
    assert found.empty and found.lines() == []
    assert found == Plan()


@pytest.mark.parametrize(
    ("setting", "parts", "reach"),
    [
        (("notebooks.memory.limit", "3 GiB"), ("gateway", "hub"), Reach.SERVERS),
        (("notebooks.idle_timeout", "2h"), ("culler", "hub"), Reach.NOW),
        (("notebooks.max_age", "7d"), ("culler",), Reach.NOW),
        (("login.admins.users", ["zoe"]), ("gateway", "hub", "identity"), Reach.LOGIN),
        (("dask.cluster.max_workers", 3), ("gateway", "hub"), Reach.CLUSTERS),
        (("dask.cluster.orphan_grace", "5 min"), ("gateway",), Reach.NOW),
        (("site.name", "Another"), ("dashboards", "gateway", "hub", "identity"), Reach.NOW),
        (("machine.reserve_memory", "2 GiB"), ("gateway", "hub"), Reach.NOW),
    ],
)
def test_a_key_restarts_the_parts_that_read_it(
    setting: tuple[str, Any], parts: tuple[str, ...], reach: Reach
) -> None:
    found = changed(setting)
    assert [one.key for one in found.changes] == [setting[0]]
    assert found.changes[0].reach is reach
    assert (found.parts, found.whole, found.refused) == (parts, (), ())
    assert found.restart == (("alice", "bob/gpu") if reach is Reach.SERVERS else ())
    assert found.clusters == (("scheduler:1", "worker:1:1") if reach is Reach.CLUSTERS else ())


def test_parts_that_this_platform_does_not_have_are_not_named() -> None:
    after = served(("login.admins.users", ["zoe"]))
    assert plan(served(), after, present=["hub", "proxy"]).parts == ("hub",)


@pytest.mark.parametrize(
    "setting",
    [("machine.port", 8123), ("machine.scheduler_port", 8786), ("machine.trusted_proxies", ["127.0.0.1"])],
)
def test_an_address_starts_every_part_anew(setting: tuple[str, Any]) -> None:
    found = changed(setting)
    assert found.whole == (setting[0],)
    assert found.refused == ()
    assert "Every part starts anew" in "\n".join(found.lines())


def test_a_culler_that_comes_or_goes_is_another_set_of_parts() -> None:
    assert changed(("notebooks.idle_timeout", "never")).whole == ("notebooks.idle_timeout",)
    assert plan(served(("notebooks.idle_timeout", "never")), served()).whole == ("notebooks.idle_timeout",)
    # There is a culler for either of them.
    aged = served(("notebooks.idle_timeout", "never"), ("notebooks.max_age", "7d"))
    assert plan(served(), aged).whole == ()


def test_a_profile_that_comes_is_one_change() -> None:
    profiles = [{"name": "Minimal", "default": True}, {"name": "Second"}]
    before = served(("notebooks.profiles", profiles[:1]))
    found = plan(before, served(("notebooks.profiles", profiles)), RUNNING)
    assert [(one.key, one.before, one.after) for one in found.changes] == [
        ("notebooks.profiles[Second]", "none", "there")
    ]
    assert plan(served(("notebooks.profiles", profiles)), before).changes[0].after == "none"


def test_a_section_that_comes_is_the_keys_in_it() -> None:
    found = changed(("overrides.hub_config", "c.JupyterHub.log_level = 10"))
    assert [(one.key, one.after) for one in found.changes] == [("overrides.hub_config", "(not shown)")]
    assert (found.parts, found.whole) == (("hub",), ())


def test_an_environment_that_changed_is_for_new_servers() -> None:
    before = served()
    slug = next(iter(before.environments))
    found = changed(environments={**before.environments, slug: "bbbb-py311"})
    assert [one.key for one in found.changes] == [f"environment of profile {slug}"]
    assert (found.parts, found.restart) == (("gateway", "hub"), ("alice", "bob/gpu"))


def test_another_tidehub_or_option_starts_every_part_anew() -> None:
    assert changed(program="two").whole == ("another tidehub (its source)",)
    assert changed(program="two", version="1.1").whole == ("another tidehub 1.0 -> 1.1",)
    options = {**served().options, "port": 8001, "demo_login": True}
    assert changed(options=options).whole == ("--port", "--demo-login")


def test_what_running_work_cannot_survive_is_refused() -> None:
    moved = ("site.url", "http://127.0.0.1:8000/x/")
    assert "alice, bob/gpu" in changed(moved).refused[0]
    assert changed(moved, running=()).refused == ()
    without = ("dask.engine", "none")
    assert "scheduler:1" in changed(without).refused[0]
    assert changed(without, running=("server:alice:",)).refused == ()


def test_values_that_may_hold_secrets_are_not_shown() -> None:
    found = changed(("machine.database_url", "postgresql://hub:word@db/hub"))
    assert "word" not in "\n".join(found.lines()) + str(found.to_json())


def test_entries_without_names_of_their_own_are_one_value() -> None:
    twice = [{"group": "a"}, {"group": "a"}]
    assert list(differences({"x": twice}, {"x": twice[:1]})) == [("x", twice, twice[:1])]


def test_a_server_is_named_as_its_user_knows_it() -> None:
    assert server_name("server:alice:") == "alice"
    assert server_name("server:alice:a:b") == "alice/a:b"
