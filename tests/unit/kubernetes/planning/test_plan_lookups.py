"""What a chart makes up is not a change where it would find it in the cluster."""

from __future__ import annotations

from plan_world import World, config_map, secret

from tidehub.helm.problems import HelmProblem
from tidehub.secrets.secret import Secret

OLD, NEW = "made-up-before", "made-up-now"


def test_what_the_chart_looks_up_does_not_change() -> None:
    world = World()
    world.deployed(secret("hub", cookie=OLD), config_map(a="1"))
    assert world.plan(
        secret("hub", cookie=NEW), config_map(a="1"), looked_up=[secret("hub", cookie=OLD), config_map(a="1")]
    ).empty
    assert world.helm.asked_server == ["jupyterhub"]


def test_what_was_given_is_a_change_and_helm_is_not_asked() -> None:
    world = World(secrets={"hub": {"cookie": Secret(NEW), "keys": [Secret("one-key"), Secret("two-key")]}})
    world.deployed(secret("hub", cookie=OLD, keys="one-key"))
    plan = world.plan(secret("hub", cookie=NEW, keys="one-key;two-key"))
    assert [field.change.where for field in plan.changes[0].fields] == ["data.cookie", "data.keys"]
    assert world.helm.asked_server == []


def test_a_secret_that_is_new_or_a_file_of_settings_is_not_made_up() -> None:
    world = World()
    world.deployed(secret("hub", **{"values.yaml": "a: 1\nb: 2\n"}))
    plan = world.plan(secret("hub", **{"values.yaml": "a: 1\nb: 3\n", "more": "new"}), secret("other", a=NEW))
    assert len(plan.changes) == 2 and world.helm.asked_server == []


def test_where_helm_cannot_be_asked_the_old_value_counts() -> None:
    world = World()
    world.deployed(secret("hub", cookie=OLD), config_map(a="1"))
    world.helm.problem = HelmProblem("another operation is in progress")
    plan = world.plan(secret("hub", cookie=NEW), config_map(a="2"))
    assert [str(change.id) for change in plan.changes] == ["ConfigMap hub"]
