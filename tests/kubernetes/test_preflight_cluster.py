"""Preflight against a real API server: the cluster as a whole, and what a user may do. Each test makes one defect."""

from __future__ import annotations

import signal

from preflight_fixtures import provider, ready, ready_cluster, registry  # noqa: F401
from preflight_site import ReadySite, made, unique

from tidehub.kubernetes.preflight.model import Context, Look
from tidehub.kubernetes.preflight.report import ready as is_ready


def test_a_ready_cluster_has_nothing_to_complain_about(ready: ReadySite) -> None:  # noqa: F811
    findings = ready.findings()
    assert [(one.item, one.what) for one in findings if one.state != "ok"] == []
    assert is_ready(findings)
    groups = {one.group for one in findings}
    assert groups == {
        "Cluster", "Permissions", "Namespace", "Storage", "Exposure", "Capacity", "Images", "Login",
    }  # fmt: skip


def test_preflight_writes_nothing(ready: ReadySite) -> None:  # noqa: F811
    import time

    context = ready.context()
    before = time.time()
    ready.findings()
    assert context.look is not None
    ours = [
        event
        for event in ready.cluster.writes(since=before)
        if event["user"]["username"] == "kubernetes-admin"
    ]
    assert [event["requestURI"] for event in ours if ready.namespace in event["requestURI"]] == []


def test_a_server_too_old_for_the_chart(ready: ReadySite) -> None:  # noqa: F811
    ready.kubernetes = ">=1.99.0-0"
    ready.only("api-version", "problem", "v1.34", ">=1.99.0-0", "upgrade the cluster")


def test_a_kind_that_the_server_does_not_have(ready: ReadySite) -> None:  # noqa: F811
    ready.objects.append(made("networking.k8s.io/v1beta1", "Ingress", "old", spec={}))
    ready.only("kinds-served", "problem", "no Ingress of networking.k8s.io/v1beta1", "chart version")


def test_no_helm_program(ready: ReadySite) -> None:  # noqa: F811
    ready.only("helm", "problem", "no helm", environ={"PATH": "/nowhere", **_secrets(ready)})


def test_an_admission_webhook_that_is_down(ready: ReadySite) -> None:  # noqa: F811
    ready.create(_webhook(ready.namespace, "Fail"))
    ready.only("webhooks", "problem", "guard.example.org", "the Service gone was not found", "repaired")


def test_an_admission_webhook_that_is_down_and_optional(ready: ReadySite) -> None:  # noqa: F811
    ready.create(_webhook(ready.namespace, "Ignore"))
    ready.only("webhooks", "warning", "let through without it")


def test_a_webhook_for_other_namespaces_does_not_matter(ready: ReadySite) -> None:  # noqa: F811
    ready.create(_webhook("another-namespace", "Fail"))
    assert ready.troubles() == {}


def test_a_node_that_is_not_ready(ready: ReadySite) -> None:  # noqa: F811
    kwok = ready.cluster._processes["kwok"]
    kwok.send(signal.SIGSTOP)  # it would make every node ready
    try:
        name = unique("node")
        ready.create(made("v1", "Node", name, meta={"labels": {"kubernetes.io/arch": "amd64"}}))
        ready.only("nodes", "warning", "1 of 3 nodes is not ready", name)
    finally:
        ready.clean()
        kwok.send(signal.SIGCONT)


def test_every_node_tainted(ready: ReadySite) -> None:  # noqa: F811
    nodes = [one["metadata"]["name"] for one in ready.api.list("Node")]
    taint = {"spec": {"taints": [{"key": "gpu", "value": "only", "effect": "NoSchedule"}]}}
    try:
        for name in nodes:
            ready.api.patch("Node", name, taint)
        troubles = ready.troubles()
    finally:
        for name in nodes:
            ready.api.patch("Node", name, {"spec": {"taints": None}})
    assert set(troubles) == {"taints", "users", "fits"}
    assert "gpu=only:NoSchedule" in "".join(troubles["taints"].evidence)
    assert troubles["taints"].state == "problem"


def test_no_name_service(ready: ReadySite) -> None:  # noqa: F811
    slices, version = "EndpointSlice", "discovery.k8s.io/v1"
    kept = ready.api.get(slices, "kube-dns-1", "kube-system", version=version)
    assert kept is not None
    ready.api.delete(slices, "kube-dns-1", "kube-system", version=version)
    try:
        ready.only("cluster-dns", "problem", "kube-dns", "no pod that is ready")
    finally:
        kept["metadata"] = {key: kept["metadata"][key] for key in ("name", "namespace", "labels")}
        ready.api.create(kept)


def test_a_profile_larger_than_any_node(ready: ReadySite) -> None:  # noqa: F811
    big = {"name": "Huge", "image": ready.values["notebooks"]["profiles"][0]["image"]}
    big |= {"memory": {"guarantee": "500 GiB", "limit": "500 GiB"}}
    ready.values["notebooks"]["profiles"].append(big)
    ready.only(
        "fits", "problem", "a server of profile Huge never fits", "500 GiB", "holds 8 cores, 32 GiB memory"
    )


def test_a_worker_larger_than_any_node(ready: ReadySite) -> None:  # noqa: F811
    ready.values["dask"] = {
        "worker": {"cores": {"min": 1, "max": 64, "default": 1}},
        "cluster": {"max_workers": 2, "max_cores": 130, "max_memory": "20 GiB"},
    }
    ready.only("fits", "problem", "the largest Dask worker", "64 cores")


def test_a_full_cluster_has_room_for_nobody(ready: ReadySite) -> None:  # noqa: F811
    big = {"requests": {"cpu": "7900m", "memory": "31Gi"}}
    for number, node in enumerate(ready.api.list("Node")):
        container = {"name": "main", "image": "busy", "resources": big}
        spec = {
            "containers": [container],
            "nodeName": node["metadata"]["name"],
            "terminationGracePeriodSeconds": 0,
        }
        ready.create(made("v1", "Pod", f"busy-{number}", spec=spec))
    found = ready.only("users", "problem", "beside it", "0.5 cores")
    assert any("left beside the platform" in line for line in found.evidence)


def test_rights_that_are_missing(ready: ReadySite) -> None:  # noqa: F811
    user = unique("deployer")
    rbac = "rbac.authorization.k8s.io"
    everything = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    space = [{"apiGroups": ["", "apps", "networking.k8s.io"], "resources": ["*"], "verbs": ["*"]}]
    ready.create(
        made(f"{rbac}/v1", "ClusterRole", user, rules=everything),
        made(
            f"{rbac}/v1",
            "ClusterRoleBinding",
            user,
            roleRef=_role("ClusterRole", user),
            subjects=[_user(user)],
        ),
        made(f"{rbac}/v1", "Role", user, rules=space),
        made(f"{rbac}/v1", "RoleBinding", user, roleRef=_role("Role", user), subjects=[_user(user)]),
    )
    ready.kubeconfig = ready.cluster.kubeconfig_for(user)
    found = ready.only("permissions", "problem", "permissions that a deployment needs are missing")
    assert "kind: Role\n" in found.fix
    assert f"namespace: {ready.namespace}" in found.fix
    assert '- apiGroups: ["rbac.authorization.k8s.io"]' in found.fix
    assert "leases.coordination.k8s.io: create, update, patch, delete" in found.evidence


def test_the_roles_that_are_asked_for_are_enough(ready: ReadySite) -> None:  # noqa: F811
    """The snippet, applied by an administrator and bound, leaves nothing missing."""
    user = unique("deployer")
    rbac = "rbac.authorization.k8s.io"
    looking = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    ready.create(
        made(f"{rbac}/v1", "ClusterRole", user, rules=looking),
        made(
            f"{rbac}/v1",
            "ClusterRoleBinding",
            user,
            roleRef=_role("ClusterRole", user),
            subjects=[_user(user)],
        ),
    )
    ready.kubeconfig = ready.cluster.kubeconfig_for(user)
    for item, role in (("permissions", "tidehub-deploy"), ("grants", "tidehub-grants")):
        ready.api.apply(ready.troubles()[item].fix.partition("\n")[2])
        binding = made(f"{rbac}/v1", "RoleBinding", role, roleRef=_role("Role", role), subjects=[_user(user)])
        ready.create(binding)
    assert ready.troubles() == {}


def test_roles_that_one_may_not_hand_out(ready: ReadySite) -> None:  # noqa: F811
    user = unique("deployer")
    rbac = "rbac.authorization.k8s.io"
    looking = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list", "watch"]}]
    space = [
        {"apiGroups": ["apps", "networking.k8s.io", "coordination.k8s.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [rbac], "resources": ["roles", "rolebindings"], "verbs": ["create", "patch", "delete"]},
        {
            "apiGroups": [""],
            "resources": [
                "secrets", "configmaps", "services", "serviceaccounts", "persistentvolumeclaims", "pods/exec",
                "pods/log",
                "pods",
            ],
            "verbs": ["*"],
        },
    ]  # fmt: skip
    ready.create(
        made(f"{rbac}/v1", "ClusterRole", user, rules=looking),
        made(
            f"{rbac}/v1",
            "ClusterRoleBinding",
            user,
            roleRef=_role("ClusterRole", user),
            subjects=[_user(user)],
        ),
        made(f"{rbac}/v1", "Role", user, rules=space),
        made(f"{rbac}/v1", "RoleBinding", user, roleRef=_role("Role", user), subjects=[_user(user)]),
    )
    ready.kubeconfig = ready.cluster.kubeconfig_for(user)
    ready.only(
        "grants", "problem", "grant permissions that you do not have", "endpoints: create, delete", "escalate"
    )


def test_without_rights_to_look_it_says_which_are_missing(ready: ReadySite) -> None:  # noqa: F811
    ready.kubeconfig = ready.cluster.kubeconfig_for(unique("nobody"))
    troubles = ready.troubles()
    assert troubles["nodes"].state == "unknown"
    assert 'cannot list resource "nodes"' in "".join(troubles["nodes"].evidence)
    assert "ask for the permission" in troubles["nodes"].fix
    assert {one.state for one in troubles.values()} == {"unknown", "problem"}
    assert {item for item, one in troubles.items() if one.state == "problem"} == {"permissions", "grants"}


def test_a_clock_that_is_wrong(ready: ReadySite) -> None:  # noqa: F811
    context = ready.context()
    assert context.look is not None
    context.look.cluster._transport.clock_offset = -400.0  # type: ignore[attr-defined]
    context.look.cluster.clock_offset = lambda: -400.0  # type: ignore[attr-defined]
    ready.only("clock", "problem", "400 s behind this machine's", "NTP", look=context.look)


def test_no_cluster_is_one_problem(ready: ReadySite) -> None:  # noqa: F811
    from tidehub.kubernetes.cluster.connection import connect
    from tidehub.kubernetes.cluster.port import ClusterProblem

    ready.cluster.freeze()
    try:
        try:
            connect(str(ready.kubeconfig), seconds=1)
            raise AssertionError("a frozen server answered")
        except ClusterProblem as problem:
            trouble = problem
    finally:
        ready.cluster.thaw()
    found = ready.only(
        "connection", "problem", "did not answer within 1 s", look=None, troubles={"connection": trouble}
    )
    assert found.group == "Cluster"


def test_what_is_answered_too_late_is_unknown(ready: ReadySite) -> None:  # noqa: F811
    from tidehub.kubernetes.preflight.run import preflight

    context: Context = ready.context()
    assert isinstance(context.look, Look)
    ready.cluster.freeze()
    try:
        findings = preflight(context, seconds=1)
    finally:
        ready.cluster.thaw()
    late = {one.item for one in findings if one.state == "unknown" and "no answer within 1 s" in one.what}
    assert {"nodes", "quota", "storage-class"} <= late


def _webhook(namespace: str, policy: str) -> dict:  # type: ignore[type-arg]
    rule = {"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"]}
    webhook = {
        "name": "guard.example.org",
        "failurePolicy": policy,
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        "rules": [rule],
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "clientConfig": {"service": {"name": "gone", "namespace": "default"}, "caBundle": ""},
    }
    return made(
        "admissionregistration.k8s.io/v1",
        "ValidatingWebhookConfiguration",
        unique("guard"),
        webhooks=[webhook],
    )


def _role(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


def _user(name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}


def _secrets(ready: ReadySite) -> dict[str, str]:  # noqa: F811
    return {key: value for key, value in ready.context().environ.items() if key != "TIDEHUB_HELM"}
