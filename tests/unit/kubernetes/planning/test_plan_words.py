"""A plan as users read it, to the letter."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from plan_world import World, config_map, deployment, helms, pvc, secret

from tidehub.kubernetes.objects import ObjectId
from tidehub.kubernetes.planning.diff import FieldChange
from tidehub.kubernetes.planning.model import ObjectChange, Plan, PlannedField
from tidehub.kubernetes.planning.words import lines, summary, to_json

RECLAIM = "With a StorageClass that reclaims by Delete, the volume goes with the PVC."


def test_nothing_would_change() -> None:
    world = World()
    world.deployed(config_map())
    assert lines(world.plan(config_map())) == [
        "ProtoCoast in the namespace hub of memory (split releases)",
        "Nothing would change.",
    ]


def test_a_plan_in_full() -> None:
    world = World(version="4.4.0")
    world.deployed(
        config_map("conf", config="a = 1\nb = 2\nc = 3"),
        deployment(image="hub:1"),
        pvc(),
        secret("s", token="first"),
        version="4.3.0",
    )
    changed = helms(config_map("conf", config="a = 1\nb = 2\nc = 3"))
    changed["data"]["mine"] = "x"
    changed["metadata"]["managedFields"] = [
        {"manager": "kubectl-edit", "fieldsV1": {"f:data": {"f:mine": {}}}}
    ]
    world.cluster.put(changed)
    world.hooks = [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "puller"}}]
    plan = world.plan(
        config_map("conf", config="a = 1\nb = 5\nc = 3"),
        deployment(image="hub:2"),
        secret("s", token="second"),
        config_map("new"),
    )
    assert lines(plan) == [
        "ProtoCoast in the namespace hub of memory (split releases)",
        "1 object added, 3 changed, 1 removed; 0 objects stay as they are.",
        "",
        "DANGER The PVC hub-db-dir would be deleted: what is on its volume is lost.",
        f"       It holds the hub's database: users, tokens and running servers. {RECLAIM}",
        "       to do: keep it: kubectl -n hub annotate pvc hub-db-dir helm.sh/resource-policy=keep; and back up",
        "note   The hub restarts because its image changes from hub:1 to hub:2.",
        "       Running servers and Dask clusters go on. For about a minute nobody can sign in or start a server.",
        "",
        "jupyterhub: jupyterhub 4.3.0 would become jupyterhub 4.4.0 (revision 1 now)",
        "  ~ ConfigMap conf",
        "      data.config: 1 of its lines removed, 1 added",
        "        -b = 2",
        "        +b = 5",
        "  ~ Deployment hub: the hub restarts because its image changes from hub:1 to hub:2",
        "      spec.template.spec.containers[hub].image: hub:1 -> hub:2",
        "  ~ Secret s",
        "      data.token: changes [secret]",
        "  + ConfigMap new",
        "  - PersistentVolumeClaim hub-db-dir",
        "  Helm runs around it: Job puller",
        "",
        "Changed in the cluster since the last deployment",
        "  ConfigMap conf: data.mine was added (x), by kubectl-edit; a deployment leaves it so",
    ]


def _change(*changes: FieldChange, cause: str = "site") -> Plan:
    id = ObjectId("v1", "ConfigMap", "hub", "c")
    fields = tuple(PlannedField(change, cause) for change in changes)  # type: ignore[arg-type]
    return Plan("S", "c", "hub", "split", changes=(ObjectChange(id, "own", "change", None, fields),))


def test_how_fields_are_told() -> None:
    plan = _change(
        FieldChange(("a",), "added", None, {"x": [1]}),
        FieldChange(("b",), "removed", "y" * 200),
        FieldChange(("c",), "changed", "", 3),
        FieldChange(("d",), "changed", False, None),
    )
    assert lines(plan)[4:] == [
        "  ~ ConfigMap c",
        '      a: added, {"x": [1]}',
        f"      b: removed, was {'y' * 89}…",
        '      c: "" -> 3',
        "      d: false -> null",
    ]
    assert lines(_change(FieldChange(("a",), "added", None, 1), cause="server"))[5] == (
        "      a: added, 1  (filled in by the server)"
    )
    assert lines(_change(FieldChange(("a",), "added", None, 1), cause="drift"))[5] == (
        "      a: added, 1  (changed in the cluster)"
    )


def test_what_is_long_is_cut_and_says_so() -> None:
    many = lines(_change(*(FieldChange((f"f{n:02}",), "added", None, n) for n in range(25))))
    assert many[-1] == "      and 5 more fields (--json shows all)"
    text = lines(_change(FieldChange(("t",), "changed", "\n".join("a" * 30), "\n".join("b" * 30))))
    assert text[5] == "      t: 30 of its lines removed, 30 added"
    assert text[-1] == "        and 48 more lines (--json shows all)"


def test_two_long_values_are_shown_from_where_they_differ() -> None:
    rules = [{"ports": [{"port": port}]} for port in range(30)]
    change = FieldChange(("spec", "egress"), "changed", rules, [*rules, {"ports": [{"port": 8000}]}])
    [told] = [line for line in lines(_change(change)) if "spec.egress" in line]
    old, _, new = told.partition(" -> ")
    assert "8000" in new and "8000" not in old
    assert old.strip().startswith("spec.egress: …")


def test_counts() -> None:
    plan = _change(FieldChange(("a",), "added", None, 1))
    assert summary(plan) == "1 object changed; 0 objects stay as they are."
    one = plan.changes[0]
    more = replace(
        plan,
        same=1,
        changes=(replace(one, action="add"), replace(one, action="add"), replace(one, action="keep")),
    )
    assert summary(more) == "2 objects added, 1 left behind; 1 object stays as it is."
    assert summary(replace(plan, changes=(), same=3)) == "Nothing would change: 3 objects stay as they are."


def test_json_holds_all_of_it() -> None:
    world = World()
    world.deployed(config_map("c", a="1"), pvc())
    told = json.loads(json.dumps(to_json(world.plan(config_map("c", a="2"), deployment()))))
    assert told["counts"] == {"add": 1, "change": 1, "remove": 1, "keep": 0, "same": 0}
    assert told["empty"] is False
    assert {one["kind"] for one in told["findings"]} == {"data-loss"}
    change = next(one for one in told["changes"] if one["action"] == "change")
    assert change["fields"] == [
        {"path": "data.a", "kind": "changed", "old": "1", "new": "2", "cause": "site"}
    ]
    assert (change["kind"], change["name"], change["release"]) == ("ConfigMap", "c", "jupyterhub")
    assert told["releases"][0]["action"] == "upgrade"


def test_labels_that_a_chart_puts_on_everything_are_told_once() -> None:
    def labelled(name: str, version: str, **data: str) -> dict[str, Any]:
        obj = config_map(name, **data)
        obj["metadata"]["labels"] = {"helm.sh/chart": f"jupyterhub-{version}", "app.kubernetes.io/name": "x"}
        return obj

    world = World(version="4.4.0")
    world.deployed(
        labelled("a", "4.3.0"), labelled("b", "4.3.0"), labelled("c", "4.3.0", x="1"), version="4.3.0"
    )
    told = lines(world.plan(labelled("a", "4.4.0"), labelled("b", "4.4.0"), labelled("c", "4.4.0", x="2")))
    assert told[1] == "3 objects changed; 0 objects stay as they are."
    assert told[4:] == [
        "  ~ ConfigMap c",
        "      data.x: 1 -> 2",
        "  ~ only the chart's own labels: ConfigMap a, ConfigMap b",
    ]
