"""No secret leaves a plan, wherever it was written."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from plan_world import World, config_map, deployment, helms, hub_values, secret

from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.conceal import Concealer
from tidehub.kubernetes.planning.diff import FieldChange, compare
from tidehub.kubernetes.planning.paths import Entry
from tidehub.kubernetes.planning.words import lines, to_json
from tidehub.secrets.secret import REDACTED, Secret

TOKEN = "s3cr3t-t0ken/with+signs"


def everything(plan: Any) -> str:
    return "\n".join(lines(plan)) + json.dumps(to_json(plan)) + repr(plan)


def forms(text: str) -> list[str]:
    return [text, base64.b64encode(text.encode()).decode(), json.dumps(text)[1:-1]]


def test_of_a_secret_only_its_keys_are_told() -> None:
    world = World()
    world.deployed(secret("s", token="old-" + TOKEN, same="unchanged-value", gone="gone-value"))
    plan = world.plan(secret("s", token=TOKEN, same="unchanged-value", new="new-value-here"))
    told = {
        field.change.where: (field.change.kind, field.change.old, field.change.new)
        for field in plan.changes[0].fields
    }
    assert told == {
        "data.token": ("changed", REDACTED, REDACTED),
        "data.new": ("added", None, REDACTED),
        "data.gone": ("removed", REDACTED, None),
    }
    text = everything(plan)
    for value in (TOKEN, "unchanged-value", "gone-value", "new-value-here"):
        assert not [form for form in forms(value) if form in text]
    assert "data.token: changes [secret]" in text


def test_a_whole_secret_that_is_new_or_gone_tells_nothing() -> None:
    world = World()
    world.deployed({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}})
    text = everything(world.plan(secret("s", token=TOKEN)))
    assert not [form for form in forms(TOKEN) if form in text]


@pytest.mark.parametrize("where", ["plain", "base64", "json", "url", "inside"])
def test_a_secret_of_this_deployment_is_hidden_wherever_it_stands(where: str) -> None:
    from urllib.parse import quote

    written = {
        "plain": TOKEN,
        "base64": base64.b64encode(TOKEN.encode()).decode(),
        "json": json.dumps({"a": TOKEN}),
        "url": f"postgresql://hub:{quote(TOKEN, safe='')}@db/hub",
        "inside": f"c.X.y = '{TOKEN}'\nc.X.z = 1",
    }[where]
    world = World(secrets={"hub": {"config": {"x": Secret(TOKEN)}, "keys": [Secret(TOKEN + "2")]}})
    world.deployed(config_map("c", a="1", b=TOKEN + "2"))
    made = config_map("c", a=written, b="2")
    made["metadata"]["annotations"] = {"note": written}
    text = everything(world.plan(made))
    assert TOKEN not in text and quote(TOKEN, safe="") not in text
    assert base64.b64encode(TOKEN.encode()).decode() not in text
    assert REDACTED in text


def test_a_secret_of_an_earlier_deployment_is_hidden_too() -> None:
    """The new site has another token; the cluster still tells the old one, in a Secret and where it does not belong."""
    values = hub_values(
        hub={
            "services": {"x": {"apiToken": "old-api-token-1"}},
            "config": {"CryptKeeper": {"keys": ["old-crypt-1234"]}},
        }
    )
    world = World()
    world.deployed(values, config_map("c", a="old-api-token-1 old-crypt-1234"))
    text = everything(world.plan(hub_values(), config_map("c", a="none")))
    assert "old-api-token-1" not in text and "old-crypt-1234" not in text


def test_a_password_that_a_chart_put_into_a_config_map() -> None:
    """dask-gateway does so with its simple login."""
    values = json.dumps({"auth": {"simple": {"password": "hunter-of-2"}, "type": "simple"}})
    code = f"properties = json.loads({json.dumps(values)})"
    world = World()
    world.deployed(config_map("c", code=code))
    text = everything(world.plan(config_map("c", code="properties = {}")))
    assert "hunter-of-2" not in text and "simple" in text


def test_variables_with_secret_names() -> None:
    old, new = deployment(), deployment()
    old["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "DB_PASSWORD", "value": "first-one"}]
    new["spec"]["template"]["spec"]["containers"][0]["env"] = [
        {"name": "DB_PASSWORD", "value": "second-one"},
        {"name": "API_TOKEN", "value": "third-one"},
        {"name": "COLOUR", "value": "blue"},
    ]
    world = World()
    world.deployed(old)
    text = everything(world.plan(new))
    assert not [value for value in ("first-one", "second-one", "third-one") if value in text]
    assert "blue" in text and "DB_PASSWORD" in text


def test_what_is_refused_repeats_no_secret() -> None:
    world = World(secrets={"a": Secret(TOKEN)})
    world.deployed(secret("s", a=TOKEN))
    world.cluster.refuse("patch", "s", f"Secret is invalid: {TOKEN}", "invalid")
    text = everything(world.plan(secret("s", a="b")))
    assert TOKEN not in text and "Secret is invalid" in text


def test_drift_repeats_no_secret() -> None:
    world = World(secrets={"a": Secret(TOKEN)})
    made = config_map("c", a="fine")
    world.deployed(made)
    live = helms(made)
    live["data"]["a"] = TOKEN
    world.cluster.put(live)
    plan = world.plan(made)
    assert plan.drift and TOKEN not in everything(plan)


def test_names_stay_readable_though_a_secret_holds_one() -> None:
    world = World()
    world.deployed(secret("hub-users", admin="jupyterhub"), config_map("c", a="1"))
    text = everything(world.plan(secret("hub-users", admin="jupyterhub"), config_map("c", a="2")))
    assert "jupyterhub: jupyterhub 4.4.0" in text


def test_what_only_sounds_like_a_secret_is_shown() -> None:
    hide = Concealer()
    id = ObjectId("v1", "ServiceAccount", "hub", "x")
    for path, old, new in (
        (("automountServiceAccountToken",), True, False),
        (("spec", "tls", 0, "secretName"), "one", "two"),
        (("metadata", "annotations", "username_key"), "one", "two"),
        (("data", "existingSecret"), "one", "two"),
    ):
        change = FieldChange(path, "changed", old, new)
        assert hide.change(id, change) == change


def test_keys_of_lists_are_cleaned_too() -> None:
    hide = Concealer([Secret(TOKEN)])
    id = ObjectId("v1", "ConfigMap", "hub", "x")
    change = hide.change(id, FieldChange(("env", Entry((TOKEN,))), "added", None, {"name": TOKEN}))
    assert TOKEN not in repr(change)
    orders = compare({"env": [{"name": TOKEN}, {"name": "b"}]}, {"env": [{"name": "b"}, {"name": TOKEN}]})
    assert TOKEN not in repr([hide.change(id, one) for one in orders])
