"""What a plan calls out, each shown by the cluster in which it happens."""

from __future__ import annotations

from typing import Any

import pytest
from plan_world import (
    NAMESPACE,
    World,
    config_map,
    crd,
    deployment,
    helms,
    hub_values,
    pvc,
    secret,
)

from tidehub.kubernetes.planning.hub_schema import head, migration
from tidehub.kubernetes.planning.model import Finding, Plan
from tidehub.kubernetes.planning.words import lines


def only(plan: Plan, kind: str) -> Finding:
    (finding,) = [one for one in plan.findings if one.kind == kind]
    return finding


def kinds(plan: Plan) -> list[tuple[str, str]]:
    return [(one.kind, one.weight) for one in plan.findings]


# -- PVCs


def test_a_pvc_that_would_be_deleted() -> None:
    world = World()
    world.deployed(pvc(), config_map())
    finding = only(world.plan(config_map()), "data-loss")
    assert finding.what == "The PVC hub-db-dir would be deleted: what is on its volume is lost."
    assert "hub's database" in finding.means and "resource-policy=keep" in finding.fix


def test_a_pvc_that_would_get_another_name() -> None:
    world = World()
    world.deployed(pvc())
    finding = only(world.plan(pvc("hub-database")), "data-loss")
    assert finding.what.startswith("The PVC hub-db-dir would be deleted and hub-database made in its place")
    assert [id.name for id in finding.objects] == ["hub-db-dir", "hub-database"]


def test_a_pvc_cannot_shrink() -> None:
    world = World()
    world.deployed(pvc(size="10Gi"))
    finding = only(world.plan(pvc(size="5G")), "data-loss")
    assert finding.what == "The PVC hub-db-dir would shrink from 10Gi to 5G."


@pytest.mark.parametrize("size", ["10Gi", "20Gi", "10240Mi"])
def test_a_pvc_that_stays_or_grows_is_no_danger(size: str) -> None:
    world = World()
    world.deployed(pvc(size="10Gi"))
    assert not world.plan(pvc(size=size)).findings


def test_a_pvc_keeps_its_storage_class() -> None:
    world = World()
    world.deployed(pvc(storage_class="fast"))
    finding = only(world.plan(pvc(storage_class="slow")), "data-loss")
    assert "from the StorageClass fast to slow" in finding.what
    assert not world.plan(pvc(storage_class=None)).dangers


def test_pvcs_of_a_stateful_set() -> None:
    def made(size: str) -> dict[str, Any]:
        template = {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": size}}}}
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": {"name": "db"},
            "spec": {"volumeClaimTemplates": [template]},
        }

    world = World()
    world.deployed(made("1Gi"))
    assert only(world.plan(made("2Gi")), "data-loss").what == (
        "The PVCs that StatefulSet db makes for its pods would change."
    )


# -- homes, names, the database


def upgrade(old: Any, new: Any) -> Plan:
    world = World()
    world.deployed(old)
    return world.plan(new)


def storage(**dynamic: Any) -> dict[str, Any]:
    return {"singleuser": {"storage": {"type": "dynamic", **dynamic}}}


def test_homes_that_nobody_mounts_any_more() -> None:
    plan = upgrade(hub_values(), hub_values(singleuser={"storage": {"type": "none"}}))
    assert only(plan, "data-loss").what == "Users' homes would change from dynamic to none storage."


def test_homes_that_are_mounted_elsewhere() -> None:
    plan = upgrade(
        hub_values(**storage(homeMountPath="/home/jovyan")), hub_values(**storage(homeMountPath="/work"))
    )
    assert "mounted elsewhere: /home/jovyan before, /work after" in only(plan, "data-loss").what


CLASSIC = "claim-{username}{servername}"


@pytest.mark.parametrize(
    ("old_chart", "old_template", "new_chart", "new_template", "scheme", "weight"),
    [
        ("3.3.8", CLASSIC, "4.4.0", None, None, "danger"),
        ("3.3.8", CLASSIC, "4.4.0", None, "escape", None),
        ("3.3.8", CLASSIC, "4.4.0", CLASSIC, None, "danger"),
        ("3.3.8", CLASSIC, "4.4.0", CLASSIC, "escape", None),
        ("3.3.8", "home-{username}", "4.4.0", "home-{username}", None, "danger"),
        ("3.3.8", CLASSIC, "3.3.8", "home-{username}", None, "danger"),
        ("3.3.8", CLASSIC, "3.3.8", CLASSIC, None, None),
        ("4.3.0", None, "4.4.0", None, None, None),
        ("4.3.0", "home-{user_server}", "4.4.0", "home-{user_server}", None, None),
    ],
)
def test_names_of_pvcs(
    old_chart: str, old_template: Any, new_chart: str, new_template: Any, scheme: Any, weight: Any
) -> None:
    config = {"hub": {"config": {"KubeSpawner": {"slug_scheme": scheme}}}} if scheme else {}
    plan = upgrade(
        hub_values(old_chart, **storage(dynamic={"pvcNameTemplate": old_template})),
        hub_values(new_chart, **storage(dynamic={"pvcNameTemplate": new_template}), **config),
    )
    assert [one.weight for one in plan.findings if one.kind == "pvc-names"] == ([weight] if weight else [])


def test_names_of_pvcs_of_a_hub_that_finds_homes() -> None:
    for old, new in ((CLASSIC, None), (CLASSIC, CLASSIC), ("home-{username}", "mine-{username}")):
        for own, weight in (({}, "notice"), ({"spawner_class": "mine"}, "danger")):
            hub = {"extraConfig": {"0-tidehub-homes": "x"}, "config": {"JupyterHub": own}}
            plan = upgrade(
                hub_values("3.3.8", **storage(dynamic={"pvcNameTemplate": old})),
                hub_values("4.4.0", **storage(dynamic={"pvcNameTemplate": new}), hub=hub),
            )
            assert only(plan, "pvc-names").weight == weight


def test_names_of_users() -> None:
    def login(pvc: str) -> dict[str, Any]:
        return {"hub": {"config": {"GenericOAuthenticator": {"username_claim": pvc}}}}

    plan = upgrade(hub_values(**login("preferred_username")), hub_values(**login("sub")))
    assert (
        only(plan, "pvc-names").what
        == "User names would come from the claim sub instead of preferred_username."
    )
    plan = upgrade(
        hub_values(hub={"config": {"JupyterHub": {"authenticator_class": "dummy"}}}),
        hub_values(hub={"config": {"JupyterHub": {"authenticator_class": "generic-oauth"}}}),
    )
    assert only(plan, "pvc-names").what == "Users sign in by generic-oauth instead of dummy."


def test_another_database() -> None:
    plan = upgrade(
        hub_values(hub={"db": {"type": "sqlite-pvc"}}),
        hub_values(hub={"db": {"type": "postgres", "url": "postgresql://hub:verysecret@db/hub"}}),
    )
    told = [one.what for one in plan.findings if one.kind == "database"]
    assert told == [
        "The hub would use another database: its kind changes (sqlite-pvc before, postgres after).",
        "The hub would use another database: its address changes.",
    ]


@pytest.mark.parametrize(
    ("old", "new", "kind", "words"),
    [
        ("1.2.0", "4.4.0", "database", "JupyterHub 5.5.0 changes the database of JupyterHub 1.5.0."),
        ("3.3.8", "4.4.0", "database", "JupyterHub 5.5.0 changes the database of JupyterHub 4.1.6."),
        ("4.4.0", "3.3.8", "downgrade", "JupyterHub 4.1.6 cannot read the database of JupyterHub 5.5.0."),
    ],
)
def test_the_schema_of_the_database(old: str, new: str, kind: str, words: str) -> None:
    assert only(upgrade(hub_values(old), hub_values(new)), kind).what == words


def test_versions_whose_schema_nobody_knows() -> None:
    plan = upgrade(
        hub_values("4.4.0"), hub_values("9.0.0", hub={}, Chart={"Version": "9.0.0", "AppVersion": "9.1.0"})
    )
    assert only(plan, "database").weight == "notice"


@pytest.mark.parametrize(
    ("version", "revision"),
    [
        ("0.9.6", "896818069c98"),
        ("1.5.1", "4dc2d5a8c53c"),
        ("2.3.1", "833da8570507"),
        ("3.1.1", "651f5419b74d"),
        ("4.0.2", "0eee8c825d24"),
        ("5.5.4", "4621fec11365"),
        ("6.1.1", "f460b0348206"),
        ("7.0.0", None),
        ("0.8.1", None),
        ("", None),
    ],
)
def test_schema_revisions(version: str, revision: str | None) -> None:
    assert head(version) == revision


def test_migrations() -> None:
    assert migration("1.5.0", "5.5.0") == "forward"
    assert migration("5.0.0", "5.5.4") == "same"
    assert migration("6.0.0", "5.5.4") == "backward"
    assert migration("5.5.4", "8.0") == "unknown"


# -- keys


@pytest.mark.parametrize(
    ("key", "old", "new", "what"),
    [
        ("hub.config.JupyterHub.cookie_secret", "a", "b", "The hub's cookie secret changes."),
        (
            "hub.config.CryptKeeper.keys",
            "one;two",
            "three;one",
            "The hub can no longer read the login state that it has stored.",
        ),
        ("hub.config.CryptKeeper.keys", "one", "three;one", None),
        ("hub.config.ConfigurableHTTPProxy.auth_token", "a", "b", None),
    ],
)
def test_keys_that_change(key: str, old: str, new: str, what: str | None) -> None:
    world = World()
    world.deployed(secret("hub", **{key: old}))
    assert [one.what for one in world.plan(secret("hub", **{key: new})).findings] == ([what] if what else [])


# -- restarts


@pytest.mark.parametrize(
    ("component", "app", "words", "means"),
    [
        ("hub", "jupyterhub", "The hub restarts", "nobody can sign in"),
        ("proxy", "jupyterhub", "The proxy restarts", "Open pages"),
        ("gateway", "dask-gateway", "The gateway's server restarts", "Dask clusters go on"),
        ("controller", "dask-gateway", "The gateway's controller restarts", "Dask clusters go on"),
        ("traefik", "dask-gateway", "The gateway's proxy restarts", "Notebooks lose their connection"),
        ("mine", "other", "Deployment x restarts", "replaced"),
    ],
)
def test_who_restarts(component: str, app: str, words: str, means: str) -> None:
    world = World()
    world.deployed(deployment("x", component, app=app))
    finding = only(world.plan(deployment("x", component, app=app, checksum="b")), "restart")
    assert finding.what == f"{words} because its configuration changed." and means in finding.means
    assert finding.weight == "notice"


def test_why_it_restarts() -> None:
    world = World()
    world.deployed(deployment())
    image = only(world.plan(deployment(image="hub:2", checksum="b")), "restart")
    assert image.what == "The hub restarts because its image changes from hub:1 to hub:2."
    two = deployment(image="hub:2")
    two["spec"]["template"]["spec"]["initContainers"] = [{"name": "wait", "image": "wait:2"}]
    other = deployment()
    other["spec"]["template"]["spec"]["initContainers"] = [{"name": "wait", "image": "wait:1"}]
    both = World()
    both.deployed(other)
    assert (
        only(both.plan(two), "restart").what
        == "The hub restarts because its images change to hub:2 and wait:2."
    )
    more = deployment()
    container = more["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "A", "value": "1"}]
    container["resources"] = {"limits": {"memory": "1Gi"}}
    more["spec"]["template"]["spec"]["nodeSelector"] = {"a": "b"}
    assert only(world.plan(more), "restart").what == (
        "The hub restarts because env of hub, resources of hub, nodeSelector change."
    )


def test_what_leaves_the_pods_alone_restarts_nothing() -> None:
    world = World()
    world.deployed(deployment())
    more = deployment()
    more["spec"]["replicas"] = 2
    plan = world.plan(more)
    assert plan.changes and not plan.findings


# -- when servers are stopped


def test_a_busy_server_that_stays_from_now_on() -> None:
    busy = {"extraFiles": {"tidehub-notebook-busy_kernels.py": {}}}
    cull = {"enabled": True, "timeout": 3600, "maxAge": 172800}
    before, after = (hub_values(cull=cull, singleuser=one) for one in ({}, busy))
    world = World()
    world.deployed(before)
    finding = only(world.plan(after), "servers")
    assert finding.weight == "notice"
    assert finding.what == (
        "Notebook servers are stopped by another rule: A server that is idle for 1 h is stopped. A running cell keeps"
        " it alive, even while the browser is closed. After 2 d a server is stopped in any case."
    )
    assert "A cell that prints nothing does not keep its server." in finding.means
    assert "until they start again" in finding.means


@pytest.mark.parametrize("cull", [{}, {"enabled": True, "timeout": 3600}, {"enabled": True, "timeout": "x"}])
def test_a_rule_that_stays_is_not_told(cull: dict[str, Any]) -> None:
    world = World()
    world.deployed(hub_values(cull=cull))
    assert not world.plan(hub_values(cull=cull, debug={"enabled": True})).findings


def test_servers_that_may_stay_for_ever() -> None:
    by_age = {"enabled": True, "timeout": 172800, "maxAge": 86400}
    world = World()
    world.deployed(hub_values(cull={"enabled": False}))
    finding = only(world.plan(hub_values(cull=by_age)), "servers")
    assert "rule: After 1 d a server is stopped in any case." in finding.what
    assert finding.means.startswith("Until now: They go on for ever.")


# -- owners


def test_objects_of_another_release() -> None:
    world = World()
    world.cluster.put(helms(config_map("a"), "daskhub"), helms(config_map("b"), "daskhub"))
    world.helm.has("daskhub", [], chart="daskhub", version="2024.1.1")
    plan = world.plan(config_map("a"), config_map("b"))
    finding = only(plan, "conflict")
    assert finding.weight == "refusal"
    assert finding.what == (
        f"ConfigMap a, ConfigMap b exist already and belong to the release daskhub in the namespace {NAMESPACE}."
    )
    assert "uninstall daskhub" in finding.fix
    model = only(plan, "model")
    assert model.weight == "refusal" and "the release daskhub (daskhub 2024.1.1)" in model.what.lower()
    assert not plan.changes and not plan.empty
    assert plan.findings[0] is finding


def test_objects_of_the_other_model_the_other_way_round() -> None:
    world = World(model="daskhub")
    world.helm.has("hub", [], chart="jupyterhub")
    assert only(world.plan(), "model").weight == "refusal"


def test_objects_that_somebody_made_by_hand() -> None:
    world = World()
    world.cluster.put(config_map("a"))
    finding = only(world.plan(config_map("a")), "conflict")
    assert finding.what == (
        "ConfigMap a exists already and belongs to no release: somebody created it by hand."
    )
    assert "tidehub deploy --adopt ConfigMap/a" in finding.fix


@pytest.mark.parametrize(
    ("release", "namespace", "conflict"),
    [("jupyterhub", NAMESPACE, False), ("jupyterhub", "other", True), ("hub", NAMESPACE, True)],
)
def test_what_a_failed_installation_left_behind_is_ours(release: str, namespace: str, conflict: bool) -> None:
    world = World()
    world.cluster.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "other"}})
    world.cluster.put(helms(config_map("a"), release, namespace))
    plan = world.plan(config_map("a"))
    assert [kind for kind, _ in kinds(plan)] == (["conflict"] if conflict else [])


def test_own_objects_that_others_made() -> None:
    world = World()
    world.own = [config_map("policy")]
    world.cluster.put(config_map("policy"))
    assert only(world.plan(), "conflict").weight == "refusal"


def test_a_release_that_the_site_does_not_have() -> None:
    world = World()
    world.deployed(config_map())
    world.helm.has("dask-gateway", [], version="2026.3.0")
    world.helm.has("monitoring", [], chart="grafana")
    plan = world.plan(config_map())
    assert kinds(plan) == [("leftover", "notice")] and plan.empty
    assert plan.findings[0].what.startswith("The release dask-gateway (dask-gateway 2026.3.0)")


def test_a_downgrade() -> None:
    world = World(version="4.3.0")
    world.deployed(config_map(), version="4.4.0")
    assert only(world.plan(config_map()), "downgrade").what == (
        "jupyterhub goes back from jupyterhub 4.4.0 to 4.3.0."
    )


def test_another_chart_under_the_same_name() -> None:
    world = World()
    world.deployed(config_map(), chart="daskhub", version="2024.1.1")
    finding = only(world.plan(config_map()), "adoption")
    assert finding.weight == "refusal" and "is of the chart daskhub, not of jupyterhub" in finding.what


def test_the_address_is_served_from_another_namespace() -> None:
    world = World()
    ingress = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "jupyterhub", "namespace": "old"},
        "spec": {"rules": [{"host": "hub.example.org"}, {"host": "x"}]},
    }
    world.cluster.put(ingress)
    finding = only(world.plan(config_map()), "namespace")
    assert "namespace old serves the site's address" in finding.what and finding.weight == "danger"
    world.deployed(config_map())
    assert not world.plan(config_map()).findings


def test_who_may_not_look_elsewhere_plans_all_the_same() -> None:
    world = World()
    world.cluster.refuse("find", "Ingress", "forbidden", "forbidden")
    assert kinds(world.plan(config_map())) == []


# -- CRDs


def test_missing_crds() -> None:
    world = World()
    world.crds = [crd("a", "x.org", "v1"), crd("b", "x.org", "v1")]
    finding = only(world.plan(), "crd")
    assert finding.what == "2 CustomResourceDefinitions are not in the cluster yet."


def test_which_of_the_hubs_settings_change_is_named_and_their_values_are_not() -> None:
    def values(secret: str, timeout: int, **more: Any) -> dict[str, Any]:
        config = {"Mine": {"client_secret": secret}, "KubeSpawner": {"start_timeout": timeout}, **more}
        return hub_values(hub={"config": config})

    plan = upgrade(values("old-and-secret", 60), values("new-and-secret", 90, Other={"x": 1}))
    (change,) = [one for one in plan.changes if str(one.id) == "Secret hub"]
    keys = "hub.config.Mine.client_secret, hub.config.KubeSpawner.start_timeout, hub.config.Other"
    assert change.summary == (f"changes {keys}",)
    told = "\n".join(lines(plan))
    assert f"~ Secret hub: changes {keys}" in told and "and-secret" not in told
    assert upgrade(values("a" * 9, 60), values("a" * 9, 60)).changes == ()


def ours(one: dict[str, Any]) -> dict[str, Any]:
    one["metadata"]["managedFields"] = [{"manager": "tidehub"}]
    one["status"] = {"conditions": [{"type": "Established", "status": "True"}]}
    return one


def test_a_version_that_would_no_longer_be_served() -> None:
    world = World()
    world.cluster.put(ours(crd("a", "x.org", "v1alpha1")))
    world.crds = [crd("a", "x.org", "v1")]
    told = [one.what for one in world.plan().dangers]
    assert told == ["a.x.org would no longer be served as v1alpha1."]


def test_a_crd_of_somebody_else_is_left_or_refused() -> None:
    world = World()
    live = crd("a", "traefik.io", "v1")
    live["metadata"]["managedFields"] = [{"manager": "k3s"}]
    live["spec"]["names"]["shortNames"] = ["aa"]
    world.cluster.put(live)
    world.crds = [crd("a", "traefik.io", "v1")]
    world.crds[0]["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {}}
    plan = world.plan()
    assert not plan.findings and plan.same == 1
    world.crds = [crd("a", "traefik.io", "v1", "v2")]
    (finding,) = world.plan().refusals
    assert finding.what == "The CRD a.traefik.io exists already and belongs to who made it with k3s."
    assert "tidehub deploy --adopt a.traefik.io" in finding.fix


def test_crds_that_would_go_back() -> None:
    mark = "controller-gen.kubebuilder.io/version"
    world = World()
    world.cluster.put(ours(crd("a", "traefik.io", "v1", **{mark: "v0.16.1"})))
    world.crds = [crd("a", "traefik.io", "v1", **{mark: "v0.13.0"})]
    assert not world.plan().dangers
    world.crds[0]["spec"]["versions"][0]["schema"] = {"openAPIV3Schema": {"type": "object"}}
    assert [one.what for one in world.plan().dangers] == [
        "1 CustomResourceDefinition is in the cluster in a newer version, and would go back."
    ]
    world.crds[0]["metadata"]["annotations"] = {mark: "v0.17.0"}
    assert not world.plan().dangers


def test_routes_that_move_to_another_group() -> None:
    def route(group: str) -> dict[str, Any]:
        return {"apiVersion": f"{group}/v1alpha1", "kind": "IngressRoute", "metadata": {"name": "api"}}

    world = World()
    kinds = dict(world.cluster.kinds)
    world.cluster.kinds = {
        **kinds,
        "traefik.containo.us/v1alpha1": ("IngressRoute",),
        "traefik.io/v1alpha1": ("IngressRoute",),
    }
    world.cluster.put(
        {"apiVersion": "gateway.dask.org/v1alpha1", "kind": "DaskCluster", "metadata": {"name": "c"}}
    )
    world.deployed(route("traefik.containo.us"))
    finding = only(world.plan(route("traefik.io")), "crd")
    assert finding.what == (
        "The routes of the gateway (IngressRoute) move from the group traefik.containo.us to traefik.io."
    )
    assert finding.means.startswith("1 Dask cluster is there now.")


def test_the_gravest_come_first() -> None:
    world = World()
    world.deployed(pvc(), deployment(), secret("s", a="b"))
    world.cluster.refuse("patch", "s", "no", "forbidden")
    plan = world.plan(deployment(checksum="b"), secret("s", a="c"))
    assert kinds(plan) == [("refused", "refusal"), ("data-loss", "danger"), ("restart", "notice")]


def test_a_release_that_tidehub_did_not_make() -> None:
    world = World()
    world.helm.has("jupyterhub", [config_map()])
    world.cluster.put(helms(config_map()))
    plan = world.plan(config_map())
    finding = only(plan, "adoption")
    assert finding.weight == "refusal" and "--adopt jupyterhub" in finding.fix
    taken = world.plan(config_map(), adopt=["jupyterhub"])
    assert kinds(taken) == [("adoption", "notice")] and taken.empty
