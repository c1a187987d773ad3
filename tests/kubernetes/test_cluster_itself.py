"""The test cluster is what the other tests take it for: TLS, rights, audit, failures, controllers, nodes, helm."""

from __future__ import annotations

import base64
import json
import sqlite3
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import urllib3
from cluster_api import Api, Refused
from kubernetes.client.rest import ApiException
from standin_charts import RELEASES, StandinCharts

from kubernetes import client, config, stream

Object = dict[str, Any]
CONFIG_MAP: Object = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "note"},
    "data": {"a": "1"},
}
RBAC = "rbac.authorization.k8s.io"
ROLE: Object = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "Role",
    "metadata": {"name": "reader"},
    "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}],
}
BINDING: Object = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "RoleBinding",
    "metadata": {"name": "reader"},
    "subjects": [{"kind": "Group", "name": "readers", "apiGroup": RBAC}],
    "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "reader"},
}


def deployment(name: str, image: str, **spec: Any) -> Object:
    labels = {"app": name}
    pod = {"containers": [{"name": "main", "image": image, **spec}]}
    template = {"metadata": {"labels": labels}, "spec": pod}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def job(name: str, image: str) -> Object:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": image}]}}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name},
        "spec": {"backoffLimit": 0, "template": template},
    }


def pvc(name: str, storage_class: str) -> Object:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": storage_class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def rolled_out(api: Api, name: str, namespace: str) -> None:
    def ready() -> Any:
        found = api.get("Deployment", name, namespace, version="apps/v1")
        assert found is not None
        status = found.get("status", {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return (
            current
            and status.get("updatedReplicas") == status.get("readyReplicas") == status.get("replicas") == 1
        )

    api.wait(f"{name} is rolled out", ready)


def only_pod(api: Api, app: str, namespace: str) -> str:
    pods = api.wait(
        f"a running pod of {app}",
        lambda: [
            pod
            for pod in api.list("Pod", namespace, selector=f"app={app}")
            if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]
        ],
    )
    (pod,) = pods
    return str(pod["metadata"]["name"])


def waiting_reasons(api: Api, namespace: str) -> set[str]:
    return {
        container["state"]["waiting"]["reason"]
        for pod in api.list("Pod", namespace)
        for container in pod["status"].get("containerStatuses", [])
        if "waiting" in container["state"]
    }


def warnings(api: Api, namespace: str) -> set[str]:
    return {event["reason"] for event in api.list("Event", namespace) if event["type"] == "Warning"}


# -- the server


def test_versions_are_the_pinned_ones(cluster: Any) -> None:
    assert cluster.versions["kubernetes"].startswith("v1.34." if not cluster.given else "v1.")


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
def test_strangers_get_nothing(cluster: Any) -> None:
    trusting = urllib3.PoolManager(cert_reqs=ssl.CERT_NONE)
    answer = trusting.request("GET", f"{cluster.url}/api/v1/secrets", retries=False)
    assert answer.status in (401, 403)


def test_its_certificate_comes_from_its_own_authority(cluster: Any) -> None:
    if cluster.given:
        pytest.skip("a given cluster may have a certificate that everybody trusts")
    with pytest.raises(urllib3.exceptions.HTTPError, match=r"(?i)certificate verify failed"):
        urllib3.PoolManager().request("GET", f"{cluster.url}/version", retries=False)


def test_rights_come_from_roles(cluster: Any, namespace: str) -> None:
    user = Api(cluster.kubeconfig_for("maria", ["readers"]))
    with pytest.raises(Refused, match=r'403.*"maria" cannot list resource "configmaps"'):
        user.list("ConfigMap", namespace)
    cluster.apply([ROLE, BINDING], namespace)
    cluster.api.wait("the binding counts", lambda: _allowed(lambda: user.list("ConfigMap", namespace)))
    with pytest.raises(Refused, match="403"):
        user.list("ConfigMap", "default")
    with pytest.raises(Refused, match="403"):
        user.create(CONFIG_MAP, namespace)


def _allowed(read: Any) -> bool:
    try:
        read()
    except Refused:
        return False
    return True


def test_writes_are_audited_and_dry_runs_are_none(cluster: Any, namespace: str) -> None:
    before = time.time()
    cluster.api.list("Secret", namespace)
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    cluster.api.call("POST", path, CONFIG_MAP, query={"dryRun": "All"})
    assert _about(cluster.writes(before), namespace) == []
    assert [event["verb"] for event in _about(cluster.audit_events(before), namespace)] == ["list", "create"]
    cluster.apply(CONFIG_MAP, namespace)
    (event,) = _about(cluster.writes(before), namespace)
    assert (event["verb"], event["objectRef"]["name"], event["user"]["username"]) == (
        "patch",
        "note",
        "kubernetes-admin",
    )
    assert event["requestObject"]["data"] == {"a": "1"}


def _about(events: list[Object], namespace: str) -> list[Object]:
    return [event for event in events if event["objectRef"].get("namespace") == namespace]


def test_a_frozen_server_hangs_and_goes_on(cluster: Any) -> None:
    cluster.freeze()
    try:
        with pytest.raises(urllib3.exceptions.TimeoutError):
            Api(cluster.kubeconfig).call("GET", "/version", timeout=0.5)
    finally:
        cluster.thaw()
    assert cluster.api.call("GET", "/version")["major"] == "1"


def test_a_killed_server_refuses_and_returns_with_all_it_had(cluster: Any, namespace: str) -> None:
    cluster.apply(CONFIG_MAP, namespace)
    cluster.kill_api()
    try:
        with pytest.raises(urllib3.exceptions.HTTPError, match="refused"):
            Api(cluster.kubeconfig).call("GET", "/version")
    finally:
        cluster.start_api()
    found = cluster.api.get("ConfigMap", "note", namespace)
    assert found is not None and found["data"] == {"a": "1"}
    cluster.apply(deployment("after", "image.invalid/one"), namespace)
    rolled_out(cluster.api, "after", namespace)


# -- controllers, scheduler, nodes


def test_a_deployment_rolls_out_and_changes(cluster: Any, namespace: str) -> None:
    _needs_simulated_nodes(cluster)
    connection = client.AppsV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    connection.create_namespaced_deployment(namespace, deployment("web", "image.invalid/one"))
    rolled_out(cluster.api, "web", namespace)
    first = only_pod(cluster.api, "web", namespace)
    cluster.apply(deployment("web", "image.invalid/two"), namespace)
    rolled_out(cluster.api, "web", namespace)
    cluster.api.wait("the old pod is gone", lambda: cluster.api.get("Pod", first, namespace) is None)


def test_jobs_complete_and_fail(cluster: Any, namespace: str) -> None:
    _needs_simulated_nodes(cluster)
    cluster.apply([job("good", "image.invalid/one"), job("bad", "fails.invalid/one")], namespace)

    def ended(name: str) -> Any:
        found = cluster.api.get("Job", name, namespace, version="batch/v1")
        return [
            one["type"] for one in found.get("status", {}).get("conditions", []) if one["status"] == "True"
        ]

    cluster.api.wait("one job completes", lambda: "Complete" in ended("good"))
    cluster.api.wait("the other fails", lambda: "Failed" in ended("bad"))
    assert "Failed" not in ended("good")


def test_pvcs_bind_grow_and_leave(cluster: Any, namespace: str) -> None:
    cluster.storage_class("fast")
    cluster.apply(pvc("home", "fast"), namespace)

    def status() -> Object:
        found: Object = cluster.api.get("PersistentVolumeClaim", "home", namespace)
        return {"phase": found["status"]["phase"], "size": found["status"].get("capacity", {}).get("storage")}

    cluster.api.wait("the PVC binds", lambda: status() == {"phase": "Bound", "size": "1Gi"})
    volume = cluster.api.get("PersistentVolumeClaim", "home", namespace)["spec"]["volumeName"]
    larger = {"spec": {"resources": {"requests": {"storage": "2Gi"}}}}
    cluster.api.patch("PersistentVolumeClaim", "home", larger, namespace)
    cluster.api.wait("the PVC grows", lambda: status()["size"] == "2Gi")
    cluster.api.delete("PersistentVolumeClaim", "home", namespace)
    cluster.api.wait("the volume is gone", lambda: cluster.api.get("PersistentVolume", volume) is None)


def test_some_pvcs_wait_for_a_pod_and_some_for_ever(cluster: Any, namespace: str) -> None:
    cluster.storage_class("lazy", waits=True)
    cluster.storage_class("nobody", binds=False)
    cluster.apply([pvc("lazy", "lazy"), pvc("stuck", "nobody")], namespace)
    mounted = deployment("db", "image.invalid/one", volumeMounts=[{"name": "v", "mountPath": "/data"}])
    mounted["spec"]["template"]["spec"]["volumes"] = [
        {"name": "v", "persistentVolumeClaim": {"claimName": "lazy"}}
    ]
    assert cluster.api.get("PersistentVolumeClaim", "lazy", namespace)["status"]["phase"] == "Pending"
    cluster.apply(mounted, namespace)
    rolled_out(cluster.api, "db", namespace)
    assert cluster.api.get("PersistentVolumeClaim", "lazy", namespace)["status"]["phase"] == "Bound"
    assert cluster.api.get("PersistentVolumeClaim", "stuck", namespace)["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("image", "reason", "warning"),
    [
        ("missing.invalid/hub:1", "ImagePullBackOff", "Failed"),
        ("crash.invalid/hub:1", "CrashLoopBackOff", "BackOff"),
    ],
)
def test_pods_fail_as_on_real_nodes(
    cluster: Any, namespace: str, image: str, reason: str, warning: str
) -> None:
    _needs_simulated_nodes(cluster)
    cluster.apply(deployment("hub", image), namespace)
    cluster.api.wait(f"the pod shows {reason}", lambda: reason in waiting_reasons(cluster.api, namespace))
    cluster.api.wait("an event says so", lambda: warning in warnings(cluster.api, namespace))


def test_some_pods_never_become_ready_or_find_a_node(cluster: Any, namespace: str) -> None:
    _needs_simulated_nodes(cluster)
    huge = deployment("huge", "image.invalid/one", resources={"requests": {"memory": "900Gi"}})
    cluster.apply([deployment("slow", "unready.invalid/one"), huge], namespace)
    only_pod(cluster.api, "slow", namespace)
    wanted = {"Unhealthy", "FailedScheduling"}
    cluster.api.wait("events say why", lambda: wanted <= warnings(cluster.api, namespace))
    for name in ("slow", "huge"):
        found = cluster.api.get("Deployment", name, namespace, version="apps/v1")
        assert found["status"].get("readyReplicas", 0) == 0


def test_quotas_hold(cluster: Any, namespace: str) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"pods": "0"}},
    }
    cluster.apply(quota, namespace)
    cluster.api.wait(
        "the quota counts",
        lambda: cluster.api.get("ResourceQuota", "q", namespace).get("status", {}).get("hard"),
    )
    cluster.apply(deployment("web", "image.invalid/one"), namespace)
    cluster.api.wait("an event says so", lambda: "FailedCreate" in warnings(cluster.api, namespace))


def test_commands_run_in_pods(cluster: Any, namespace: str) -> None:
    _needs_simulated_nodes(cluster)
    cluster.apply(deployment("hub", "image.invalid/one"), namespace)
    rolled_out(cluster.api, "hub", namespace)
    pod = only_pod(cluster.api, "hub", namespace)
    with sqlite3.connect(cluster.hub_volume / "jupyterhub.sqlite") as database:
        database.execute("create table if not exists users (name text)")
        database.execute("insert into users values ('maria')")
    copy = (
        "import base64, pathlib, sqlite3, tempfile; out = pathlib.Path(tempfile.mkdtemp(), 'copy');"
        "sqlite3.connect('/srv/jupyterhub/jupyterhub.sqlite').execute(f\"vacuum into '{out}'\");"
        "print(base64.b64encode(out.read_bytes()).decode())"
    )
    said, ended = _exec(cluster.kubeconfig, pod, namespace, ["python3", "-c", copy])
    assert ended == "Success", said
    assert base64.b64decode(said).startswith(b"SQLite format 3") and b"maria" in base64.b64decode(said)
    said, ended = _exec(cluster.kubeconfig, pod, namespace, ["sh", "-c", "echo gone wrong >&2; exit 3"])
    assert "gone wrong" in said
    assert ended == "Failure"


def _exec(kubeconfig: Path, pod: str, namespace: str, command: list[str]) -> tuple[str, str]:
    core = client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))
    running = stream.stream(
        core.connect_get_namespaced_pod_exec,
        pod,
        namespace,
        command=command,
        stdin=False,
        stdout=True,
        stderr=True,
        tty=False,
        _preload_content=False,
    )
    running.run_forever(timeout=20)
    said = running.read_stdout(timeout=0) + running.read_stderr(timeout=0)
    # kwok tells that a command failed, not with which exit code.
    return said, json.loads(running.read_channel(stream.ws_client.ERROR_CHANNEL))["status"]


def test_pods_have_logs(cluster: Any, namespace: str) -> None:
    _needs_simulated_nodes(cluster)
    cluster.apply(deployment("hub", "image.invalid/one"), namespace)
    pod = only_pod(cluster.api, "hub", namespace)
    cluster.write_pod_log("[W hub] something to read")
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
    assert "[W hub] something to read" in cluster.api.call("GET", path, query={"container": "main"})
    assert cluster.api.call("GET", path, query={"tailLines": "1"}).strip() == "[W hub] something to read"


def test_a_finalizer_holds_a_namespace(cluster: Any, namespace: str) -> None:
    held = {**CONFIG_MAP, "metadata": {"name": "held", "finalizers": ["tidehub.test/stuck"]}}
    cluster.api.create(held, namespace)
    cluster.api.delete("Namespace", namespace)
    cluster.api.wait(
        "its contents are being deleted",
        lambda: "deletionTimestamp" in cluster.api.get("ConfigMap", "held", namespace)["metadata"],
    )
    assert cluster.api.get("Namespace", namespace)["status"]["phase"] == "Terminating"
    cluster.api.patch("ConfigMap", "held", {"metadata": {"finalizers": None}}, namespace)
    cluster.api.wait("the namespace is gone", lambda: cluster.api.get("Namespace", namespace) is None)


def _needs_simulated_nodes(cluster: Any) -> None:
    if not cluster.nodes_are_simulated:
        pytest.skip("needs simulated nodes: the project's own cluster")


def test_the_official_client_reads_refusals(cluster: Any, namespace: str) -> None:
    core = client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    with pytest.raises(ApiException) as refused:
        core.create_namespaced_config_map(namespace, {"metadata": {"name": "Bad_Name"}})
    assert json.loads(refused.value.body)["reason"] == "Invalid"


# -- helm


def helm(program: Path, cluster: Any, tmp_path: Path, *arguments: str) -> str:
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "KUBECONFIG": str(cluster.kubeconfig)}
    done = subprocess.run([program, *arguments], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_helm_installs_upgrades_and_rolls_back(
    cluster: Any, namespace: str, helm_program: Path, standin_charts: StandinCharts, tmp_path: Path
) -> None:
    _needs_simulated_nodes(cluster)
    cluster.storage_class("standard", default=True)
    old, new = (str(standin_charts.archive("jupyterhub", version)) for version in ("3.3.8", "4.4.0"))
    common = ("--namespace", namespace, "--wait", "--timeout", "60s")
    helm(helm_program, cluster, tmp_path, "install", "jupyterhub", old, *common)
    token = cluster.api.get("Secret", "hub", namespace)["data"]["hub.config.JupyterHub.cookie_secret"]
    rolled_out(cluster.api, "hub", namespace)
    helm(helm_program, cluster, tmp_path, "upgrade", "jupyterhub", new, *common, "--set", "hub.image.tag=two")
    hub = cluster.api.get("Deployment", "hub", namespace, version="apps/v1")
    assert hub["spec"]["template"]["spec"]["containers"][0]["image"].endswith(":two")
    kept = cluster.api.get("Secret", "hub", namespace)["data"]["hub.config.JupyterHub.cookie_secret"]
    assert kept == token, "generated secrets stay"
    helm(helm_program, cluster, tmp_path, "rollback", "jupyterhub", "1", *common)
    listed = json.loads(
        helm(helm_program, cluster, tmp_path, "history", "jupyterhub", "-n", namespace, "-o", "json")
    )
    assert [(entry["chart"], entry["status"]) for entry in listed] == [
        ("jupyterhub-3.3.8", "superseded"),
        ("jupyterhub-4.4.0", "superseded"),
        ("jupyterhub-3.3.8", "deployed"),
    ]
    helm(helm_program, cluster, tmp_path, "uninstall", "jupyterhub", *common)
    assert cluster.api.get("Deployment", "hub", namespace, version="apps/v1") is None


def test_helm_installs_the_gateway_and_daskhub(
    cluster: Any, helm_program: Path, standin_charts: StandinCharts, tmp_path: Path, namespace: str
) -> None:
    cluster.storage_class("standard", default=True)
    for name, version in (
        ("dask-gateway", "2022.6.1"),
        ("dask-gateway", "2026.3.0"),
        ("daskhub", "2024.1.1"),
    ):
        archive = str(standin_charts.archive(name, version))
        common = ("--namespace", namespace, "--wait", "--timeout", "60s")
        helm(helm_program, cluster, tmp_path, "install", name, archive, *common)
        helm(helm_program, cluster, tmp_path, "uninstall", name, *common)
    for group in ("traefik.containo.us", "traefik.io"):
        path = f"ingressroutes.{group}"
        kind = cluster.api.get("CustomResourceDefinition", path, version="apiextensions.k8s.io/v1")
        assert kind is not None, "helm leaves CRDs behind"
        cluster.api.delete("CustomResourceDefinition", path, version="apiextensions.k8s.io/v1")


def test_helm_renders_every_standin(
    helm_program: Path, standin_charts: StandinCharts, tmp_path: Path
) -> None:
    for name, version in RELEASES:
        archive = str(standin_charts.archive(name, version))
        command: list[str | Path] = [
            helm_program,
            "template",
            name,
            archive,
            "--include-crds",
            "--kube-version",
            "1.34.0",
        ]
        done = subprocess.run(
            command, env={"HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert ("crds/" in done.stdout) == (name != "jupyterhub")


def test_helm_waits_for_what_never_comes(
    cluster: Any, namespace: str, helm_program: Path, standin_charts: StandinCharts, tmp_path: Path
) -> None:
    _needs_simulated_nodes(cluster)
    cluster.storage_class("standard", default=True)
    archive = str(standin_charts.archive("jupyterhub", "4.4.0"))
    arguments = (
        "--namespace",
        namespace,
        "--wait",
        "--timeout",
        "5s",
        "--set",
        "hub.image.name=missing.invalid/hub",
    )
    with pytest.raises(AssertionError, match=r"(?i)deadline|timed out|not ready"):
        helm(helm_program, cluster, tmp_path, "install", "jupyterhub", archive, *arguments)


def test_standins_are_packed_alike(standin_charts: StandinCharts, tmp_path: Path) -> None:
    again = StandinCharts(Path(__file__).parent / "charts", tmp_path)
    for name, version in RELEASES:
        assert again.archive(name, version).read_bytes() == standin_charts.archive(name, version).read_bytes()
