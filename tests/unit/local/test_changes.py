"""The decision table of a changed site: every key has its rule, and a plan says what it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jupyterhub import orm
from sqlalchemy import text

from tidehub.errors import TidehubError
from tidehub.local.changes import RULES, Plan, Reach, Served, differences, plan, rule_of, server_name
from tidehub.local.hub.fixed_at_start import Started
from tidehub.local.hub.started import started_servers
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
    assert "Every part restarts" in "\n".join(found.lines())


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


PROFILES: list[dict[str, Any]] = [
    {"name": "Minimal", "default": True},
    {"name": "GPU", "memory": {"guarantee": "1 GiB", "limit": "2 GiB"}},
    {"name": "Staff", "allow": {"users": ["bob"], "groups": ["urn:x:y:group:staff"]}},
]
GROUP = "urn:x:y:group:big"
STARTED = {
    ("alice", ""): Started("alice", None),
    ("bob", "gpu"): Started("bob", "gpu"),
    ("carol", ""): Started("carol", "minimal", (f"{GROUP}:role=member",)),
    ("dan", ""): Started("dan", "staff", ("urn:x:y:group:staff",)),
}


def profiles(**changed: Any) -> tuple[str, Any]:
    """The three, with the keys of some changed by slug."""
    return "notebooks.profiles", [
        {**one, **changed.get(str(one["name"]).lower(), {})} for one in PROFILES if one
    ]


@pytest.mark.parametrize(
    ("settings", "concerned"),
    [
        # A profile: those that were started from it, also without a word of the user's.
        ([profiles(gpu={"memory": {"guarantee": "1 GiB", "limit": "3 GiB"}})], "bob/gpu"),
        ([profiles(minimal={"cpu": {"guarantee": 0.25, "limit": 1}})], "alice carol"),
        ([profiles(minimal={"default": False}, gpu={"default": True})], "alice"),
        ([profiles(gpu={"description": "for models"})], ""),
        ([profiles(gpu={"slug": "models"})], "bob/gpu"),
        # Who may start one.
        ([profiles(staff={"allow": {"users": ["bob"]}})], "dan"),
        ([profiles(gpu={"allow": {"users": ["alice"]}})], "bob/gpu"),
        ([profiles(gpu={"allow": {"users": ["bob"]}})], ""),
        # Sizes of all, where a profile has none of its own.
        ([profiles(), ("notebooks.memory.limit", "3 GiB")], "alice carol dan"),
        ([profiles(), ("notebooks.cpu.guarantee", 0.25)], "alice bob/gpu carol dan"),
        ([profiles(), ("notebooks.max_processes", 512)], "alice bob/gpu carol dan"),
        # What only holders of a membership have, and where it is no more than what they have already.
        ([profiles(), ("login.groups", [{"group": GROUP, "notebooks": {"cpu": {"limit": 8}}}])], "carol"),
        ([profiles(), ("login.groups", [{"group": GROUP, "notebooks": {"cpu": {"limit": 1}}}])], ""),
        # Time: only what asks for more reports of activity than a server makes.
        ([profiles(), ("notebooks.idle_timeout", "2h")], ""),
        ([profiles(), ("notebooks.idle_timeout", "2 min")], "alice bob/gpu carol dan"),
        # Dask: whether there is any, and where; its sizes are the gateway's.
        ([profiles(), ("dask.cluster.max_workers", 3)], ""),
        (
            [
                profiles(),
                ("dask.access", "groups"),
                ("login.groups", [{"group": GROUP, "dask": {"enabled": True}}]),
            ],
            "alice bob/gpu dan",
        ),
        ([profiles(), ("machine.scheduler_port", 8786)], "alice bob/gpu carol dan"),
        # What other parts read.
        ([profiles(), ("site.name", "Another")], ""),
        ([profiles(), ("notebooks.home.size", "5 GiB")], ""),
        ([profiles(), ("login.admins.users", ["zoe"])], ""),
    ],
)
def test_only_servers_that_would_start_otherwise_now_are_named(
    settings: list[tuple[str, Any]], concerned: str
) -> None:
    running = [f"server:{user}:{name}" for user, name in STARTED]
    found = plan(served(profiles()), served(*settings), running, started=STARTED)
    assert found.changes
    assert list(found.restart) == concerned.split()


def test_an_environment_concerns_the_servers_that_run_from_it() -> None:
    before = served(profiles())
    after = served(profiles(), environments={**before.environments, "gpu": "bbbb-py311"})
    running = [f"server:{user}:{name}" for user, name in STARTED]
    assert plan(before, after, running, started=STARTED).restart == ("bob/gpu",)


def test_a_server_of_which_nothing_is_known_is_named_by_every_change_for_new_servers() -> None:
    before, after = served(profiles()), served(profiles(gpu={"cpu": {"guarantee": 0.25, "limit": 1}}))
    assert plan(before, after, ["server:eve:"], started=STARTED).restart == ("eve",)
    assert (
        plan(before, served(profiles(), ("site.name", "B")), ["server:eve:"], started=STARTED).restart == ()
    )
    earlier = Served.from_json({**before.to_json(), "site": {**before.site, "of_an_earlier_tidehub": 1}})
    assert plan(earlier, after, ["server:alice:"], started=STARTED).restart == ("alice",)


def test_what_is_known_of_servers_is_read_from_the_hubs_database(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path}/hub.sqlite"
    assert started_servers(address) == {} and not list(tmp_path.iterdir())
    session = orm.new_session_factory(address)()
    alice, group = orm.User(name="alice"), orm.Group(name=GROUP)
    alice.groups.append(group)
    for name, options in (("", {"profile": "gpu"}), ("b", None), ("c", [1, 2]), ("off", {"profile": "gpu"})):
        server = None if name == "off" else orm.Server(base_url=f"/user/alice/{name}/")
        session.add(orm.Spawner(user=alice, name=name, user_options=options, server=server))
    session.add(alice)
    session.commit()
    assert started_servers(address) == {
        ("alice", name): Started("alice", chosen, (GROUP,))
        for name, chosen in (("", "gpu"), ("b", None), ("c", None))
    }
    session.execute(text("UPDATE spawners SET user_options = '{garbled' WHERE name = 'b'"))
    session.commit()
    session.close()
    with pytest.raises(TidehubError, match="cannot be read"):
        started_servers(address)
