"""Values of the dask-gateway chart: both example sites word by word, and what the chart makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from upstream_charts import TOKEN, pod_templates, rendered
from value_sites import PLAIN, chart, example, site

from tidehub.charts.shape import check
from tidehub.kubernetes.values import gateway
from tidehub.kubernetes.values.build import platform
from tidehub.kubernetes.values.merge import merge
from tidehub.site.model import Site

COMMANDS = (
    'c.KubeClusterConfig.scheduler_cmd = ["dask", "scheduler"]\n'
    'c.KubeClusterConfig.worker_cmd = ["dask", "worker"]'
)
ROLE = {
    "description": "Knows who has a server running and their groups, to end Dask clusters without right",
    "scopes": ["list:users", "read:servers", "read:users:groups", "read:users"],
    "services": ["dask-gateway"],
}


def backend(memory: str, name: str, tag: str) -> dict[str, Any]:
    return {
        "scheduler": {"cores": {"request": 1, "limit": 1}, "memory": {"request": "2G", "limit": "2G"}},
        # No limit: it follows what a user chooses.
        "worker": {"cores": {"request": 1}, "memory": {"request": memory}},
        "image": {"name": name, "tag": tag},
    }


def limits(workers: int, cores: float, memory: int) -> str:
    return (
        f"c.KubeClusterConfig.cluster_max_workers = {workers}\n"
        f"c.KubeClusterConfig.cluster_max_cores = {cores}\n"
        f"c.KubeClusterConfig.cluster_max_memory = {memory}\n"
        "c.KubeClusterConfig.idle_timeout = 1200.0"
    )


WANTED = {
    "protocoast": {
        "gateway": {
            "prefix": "/services/dask-gateway",
            "auth": {
                "type": "jupyterhub",
                "jupyterhub": {
                    "apiUrl": "http://hub:8081/hub/api",
                    "jupyterhubServiceName": "dask-gateway",
                },
            },
            "extraConfig": {"00-commands": COMMANDS, "10-limits": limits(3, 4.0, 25_769_803_776)},
            "backend": backend("4G", "quay.io/globalcoast/protocoast-notebook", "main"),
        },
        "traefik": {"service": {"type": "ClusterIP"}},
    },
    "pangeo": {
        "gateway": {
            "prefix": "/jupyterhub/services/dask-gateway",
            "auth": {"type": "jupyterhub", "jupyterhub": {"apiUrl": "http://hub:8081/jupyterhub/hub/api"}},
            "extraConfig": {"00-commands": COMMANDS, "10-limits": limits(4, 9.0, 18 * 2**30)},
            "backend": backend("2G", "pangeo/ml-notebook", "latest"),
        },
        "traefik": {"service": {"type": "ClusterIP"}},
    },
}


def with_engine(wanted: Site, engine: str) -> Site:
    return wanted.model_copy(update={"dask": wanted.dask.model_copy(update={"engine": engine})})


@pytest.mark.parametrize("name", sorted(WANTED))
def test_the_values_of_the_examples(name: str) -> None:
    found = gateway.values(example(name))
    policy = found["gateway"]["extraConfig"].pop("30-policy")
    assert found == WANTED[name]
    url = WANTED[name]["gateway"]["auth"]["jupyterhub"]["apiUrl"]
    settings = [line for line in policy.splitlines() if line.startswith(("c.Hub", "c.SiteBackend.hub"))]
    assert settings == [
        f"c.HubAuthenticator.jupyterhub_api_url = '{url}'",
        "c.HubAuthenticator.jupyterhub_service_name = 'dask-gateway'",
        f"c.HubAuthenticator.hub_has_scopes = {name == 'protocoast'}",
        f"c.SiteBackend.hub_api_url = '{url}'",
    ]
    # A hub before 2.0 has no roles: asking it who has a server would take an administrator.
    assert ("reaper_token" in policy.rpartition("_SITE =")[2]) == (name == "protocoast")
    assert gateway.hub_values(example(name)) == (
        {"hub": {"loadRoles": {"dask-gateway": ROLE}}} if name == "protocoast" else {}
    )


@pytest.mark.parametrize("version", ["2022.6.1", "2024.1.0", "2025.4.0", "2026.3.0"])
def test_every_version_of_the_chart_accepts_them(version: str) -> None:
    wanted = site(PLAIN, f"{{charts: {{dask-gateway: {version}}}}}")
    values = merge(gateway.values(wanted), {"gateway": {"auth": {"jupyterhub": {"apiToken": "0" * 64}}}})
    assert check(chart("dask-gateway", version), values) == ()
    assert gateway.chart_version(wanted) == tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize("name", sorted(WANTED))
def test_the_token_is_in_a_secret_alone_and_the_pods_are_where_the_objects_say(
    name: str, tmp_path: Path
) -> None:
    wanted = example(name)
    objects = [one for release in rendered(wanted, tmp_path).values() for one in release]
    holding = {one["kind"] for one in objects if TOKEN in repr(one)}
    assert holding <= {"Secret"}
    templates = pod_templates(objects)
    server = templates[gateway.api_service(wanted)]
    role, binding = gateway.objects(wanted)
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": server["spec"]["serviceAccountName"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    services = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}
    assert services[gateway.traefik_service(wanted)]["type"] == "ClusterIP"
    labels = server["metadata"]["labels"]
    assert labels["gateway.dask.org/instance"] == gateway.instance(wanted)
    assert labels["hub.jupyter.org/network-access-hub"] == "true"


def test_the_carried_text_arrives_unchanged(tmp_path: Path) -> None:
    """Through YAML and the chart's indentation, into the file that the server executes."""
    wanted = example("protocoast")
    objects = rendered(wanted, tmp_path)["dask-gateway"]
    (config,) = (
        one["data"]["dask_gateway_config.py"]
        for one in objects
        if one["kind"] == "ConfigMap" and one["metadata"]["name"] == "api-dask-gateway"
    )
    assert gateway.values(wanted)["gateway"]["extraConfig"]["30-policy"].strip() in config


@pytest.mark.parametrize("version", ["2022.6.0", "2024.1.1"])
@pytest.mark.parametrize("engine", ["none", "operator"])
def test_daskhub_installs_its_gateway_always_but_lets_it_rest(
    version: str, engine: str, tmp_path: Path
) -> None:
    wanted = with_engine(example("pangeo", "{daskhub: 2022.6.0}", f"{{daskhub: {version}}}"), engine)
    assert gateway.objects(wanted) == []
    deployments = {
        one["metadata"]["name"]: one["spec"]["replicas"]
        for one in rendered(wanted, tmp_path)["daskhub"]
        if one["kind"] == "Deployment"
    }
    resting = {name: count for name, count in deployments.items() if "dask-gateway" in name}
    assert resting == {"api-daskhub-dask-gateway": 0, "traefik-daskhub-dask-gateway": 0}


@pytest.mark.parametrize("engine", ["none", "operator"])
def test_split_has_no_gateway_with_another_engine(engine: str) -> None:
    wanted = with_engine(example("protocoast"), engine)
    assert gateway.values(wanted) == {}
    assert gateway.hub_values(wanted) == {}
    assert "dask-gateway" not in [one.name for one in platform(wanted, {}).releases]


def test_the_image_of_a_cluster_is_the_default_profiles() -> None:
    wanted = site(PLAIN, more="dask: {image: {default: profile}}\n")
    assert gateway.values(wanted)["gateway"]["backend"]["image"] == {"name": "quay.io/x/small", "tag": "1"}
    digest = "0a" * 32
    named = site(PLAIN, more=f"dask: {{image: {{default: 'host:5000/y@sha256:{digest}'}}}}\n")
    assert gateway.values(named)["gateway"]["backend"]["image"] == {
        "name": "host:5000/y@sha256",
        "tag": digest,
    }
