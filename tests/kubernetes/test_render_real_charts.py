"""The example sites through the real charts: what their objects say is what the communities' own notes say.

`TIDEHUB_CHARTS` names a folder with jupyterhub 4.4.0 and 3.3.8, dask-gateway 2026.3.0 and 2022.6.1, daskhub 2022.6.0
and 2024.1.1, dask-kubernetes-operator 2026.3.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rendered_sites import MODELS, SECRETS, Objects, rendered_site, secret_free, site_folder

from tidehub.kubernetes.rendering.check import check
from tidehub.site.destinations.exposure import NGINX

PROTOCOAST = [name for name in MODELS if name.startswith("protocoast")]
PANGEO = [name for name in MODELS if name.startswith("pangeo")]
OLD = {"pangeo"}
"""What installs the jupyterhub chart 1.2.0."""
Renderer = Callable[[str], Objects]


@pytest.fixture(scope="module")
def objects_of(helm_program: Path, charts_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    known: dict[str, Objects] = {}

    def render(name: str) -> Objects:
        if name not in known:
            example, settings = MODELS[name]
            file = site_folder(tmp_path_factory.mktemp("site"), example)
            known[name] = Objects(rendered_site(file, settings, helm_program, charts_dir))
        return known[name]

    return render


def gateway_of(found: Objects) -> str:
    return "daskhub-dask-gateway" if found.rendered.platform.model == "daskhub" else "dask-gateway"


def gateway_code(found: Objects) -> str:
    code: str = found.get("ConfigMap", f"api-{gateway_of(found)}")["data"]["dask_gateway_config.py"]
    return code


def gateway_properties(found: Objects) -> dict[str, Any]:
    """The chart's values of `gateway`, which it writes into the ConfigMap whole."""
    stated = re.findall(r"_PROPERTIES = json\.loads\((.+)\)", gateway_code(found))[0]
    read: dict[str, Any] = json.loads(json.loads(stated))
    return dict(read["gateway"])


def setting(code: str, name: str) -> str:
    stated = re.findall(rf"^c\.\w*ClusterConfig\.{name} = (.+)$", code, re.MULTILINE)
    assert stated, f"{name} is not stated"
    return str(stated[-1])


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_wrong_with_them(objects_of: Renderer, name: str) -> None:
    found = [flaw for flaw in check(objects_of(name).rendered) if flaw.severity == "error"]
    assert found == []
    warned = check(objects_of(name).rendered)
    latest = {flaw.what for flaw in warned}
    assert latest <= {"the image pangeo/ml-notebook:latest has the tag latest"}


@pytest.mark.parametrize("name", MODELS)
def test_releases_are_those_of_the_model(objects_of: Renderer, name: str) -> None:
    rendered = objects_of(name).rendered
    names = [one.release.name for one in rendered.releases]
    assert names == (["daskhub"] if rendered.platform.model == "daskhub" else ["jupyterhub", "dask-gateway"])
    for one in rendered.releases:
        assert (one.archive.name, one.archive.version) == (one.release.chart, one.release.version)


@pytest.mark.parametrize("name", MODELS)
def test_names_are_those_that_users_type(objects_of: Renderer, name: str) -> None:
    found = objects_of(name)
    gateway = gateway_of(found)
    assert {"hub", "proxy", f"api-{gateway}", f"controller-{gateway}", f"traefik-{gateway}"} <= found.names(
        "Deployment"
    )
    assert {"hub", "proxy-api", "proxy-public", f"api-{gateway}", f"traefik-{gateway}"} <= found.names(
        "Service"
    )
    assert "jupyterhub" in found.names("Ingress")


@pytest.mark.parametrize("name", MODELS)
def test_secrets_are_in_secrets_and_nowhere_else(objects_of: Renderer, name: str) -> None:
    found = objects_of(name)
    text = secret_free(found.all)
    values = json.dumps([dict(one.release.values) for one in found.rendered.releases])
    for secret, value in SECRETS.items():
        assert value not in text, secret
        assert value not in values, secret
    hub = found.hub_values()["hub"]
    assert hub["config"]["JupyterHub"]["cookie_secret"] == SECRETS["hub_cookie_secret"]
    assert SECRETS["client_secret"] in json.dumps(hub["config"])
    assert found.secret("hub")["hub.config.ConfigurableHTTPProxy.auth_token"] == SECRETS["proxy_auth_token"]


@pytest.mark.parametrize("name", MODELS)
def test_the_gateways_token_is_one_secret_in_two_places(objects_of: Renderer, name: str) -> None:
    found = objects_of(name)
    ours = found.secret("hub")["hub.services.dask-gateway.apiToken"]
    theirs = found.secret(f"api-{gateway_of(found)}")["jupyterhub-api-token"]
    assert ours == theirs == SECRETS["gateway_token"]
    variables = found.container("Deployment", f"api-{gateway_of(found)}", "gateway")["env"]
    token = next(one for one in variables if one["name"] == "JUPYTERHUB_API_TOKEN")
    assert token["valueFrom"]["secretKeyRef"]["key"] == "jupyterhub-api-token"


@pytest.mark.parametrize("name", MODELS)
def test_no_gateway_knows_a_password(objects_of: Renderer, name: str) -> None:
    """The Pangeo guide's password for everybody ended up in a ConfigMap."""
    properties = gateway_properties(objects_of(name))
    assert properties["auth"]["type"] == "jupyterhub"
    assert not properties["auth"].get("simple", {}).get("password")


@pytest.mark.parametrize("name", MODELS)
def test_notebook_servers_get_our_files_as_they_are(objects_of: Renderer, name: str) -> None:
    """The chart writes them into a Secret by templates of its own, which indent; Python would not forgive."""
    found = objects_of(name)
    values = found.rendered.releases[0].release.values
    files = values.get("jupyterhub", values)["singleuser"]["extraFiles"]
    written = found.get("Secret", "singleuser")["stringData"]
    assert {key: text.rstrip("\n") for key, text in written.items()} == {
        key: file["stringData"].rstrip("\n") for key, file in files.items()
    }
    assert any("busy_kernels" in key for key in files)


@pytest.mark.parametrize("name", MODELS)
def test_the_charts_get_only_what_their_schemas_allow(objects_of: Renderer, name: str) -> None:
    """One file of secrets for both charts, as ProtoCoast's notes have it, is refused by both."""
    for one in objects_of(name).rendered.releases:
        roots = {
            "jupyterhub": {"gateway", "dask-gateway"},
            "dask-gateway": {"hub", "jupyterhub", "singleuser"},
            "daskhub": {"hub", "gateway"},
        }[one.release.chart]
        assert not roots & (set(one.release.values) | set(one.release.secrets))


@pytest.mark.parametrize("name", MODELS)
def test_limits_go_with_programs_that_exist(objects_of: Renderer, name: str) -> None:
    code = gateway_code(objects_of(name))
    assert setting(code, "scheduler_cmd") == '["dask", "scheduler"]'
    assert setting(code, "worker_cmd") == '["dask", "worker"]'


@pytest.mark.parametrize("name", MODELS)
def test_user_pods_reach_the_gateway(objects_of: Renderer, name: str) -> None:
    """The charts' policy closes private addresses, so the gateway's proxy has to be named."""
    found = objects_of(name)
    rules = found.get("NetworkPolicy", "singleuser")["spec"]["egress"]
    traefik = found.get("Deployment", f"traefik-{gateway_of(found)}")["spec"]["template"]
    labels = traefik["metadata"]["labels"].items()
    ports = {port["containerPort"] for port in traefik["spec"]["containers"][0]["ports"]}
    open_to = [
        port["port"]
        for rule in rules
        for to in rule.get("to") or []
        if (wanted := (to.get("podSelector") or {}).get("matchLabels")) and wanted.items() <= labels
        for port in rule.get("ports") or []
    ]
    assert set(open_to) & ports


@pytest.mark.parametrize("name", PROTOCOAST)
def test_protocoasts_notebooks(objects_of: Renderer, name: str) -> None:
    single = objects_of(name).hub_values()["singleuser"]
    assert [
        (one["display_name"], one["default"], one["kubespawner_override"]["image"])
        for one in single["profileList"]
    ] == [
        ("ProtoCoast - main", True, "quay.io/globalcoast/protocoast-notebook:main"),
        ("ProtoCoast - develop", False, "quay.io/globalcoast/protocoast-notebook:develop"),
    ]
    assert single["cpu"] == {"guarantee": 1, "limit": 2}
    assert single["memory"] == {"guarantee": "5G", "limit": "10G"}
    assert single["extraResource"] == {
        "guarantees": {"ephemeral-storage": "4Gi"},
        "limits": {"ephemeral-storage": "8Gi"},
    }
    assert (single["storage"]["type"], single["storage"]["capacity"]) == ("dynamic", "50Gi")
    assert single["storage"]["dynamic"]["storageClass"] == "csi-cinder-sc-delete"
    assert single["defaultUrl"] == "/lab"


@pytest.mark.parametrize("name", PROTOCOAST)
def test_protocoasts_hub(objects_of: Renderer, name: str) -> None:
    found = objects_of(name)
    pvc = found.get("PersistentVolumeClaim", "hub-db-dir")["spec"]
    assert pvc["storageClassName"] == "csi-cinder-sc-delete"
    assert pvc["accessModes"] == ["ReadWriteOnce"]
    assert pvc["resources"]["requests"]["storage"] == "1Gi"
    assert "user-scheduler" not in found.names("Deployment")
    assert found.hub_values()["cull"]["timeout"] == 3600
    assert found.get("Service", "proxy-public")["spec"]["type"] == "ClusterIP"
    assert found.get("Service", f"traefik-{gateway_of(found)}")["spec"]["type"] == "ClusterIP"


@pytest.mark.parametrize("name", PROTOCOAST)
def test_protocoasts_clusters(objects_of: Renderer, name: str) -> None:
    code = gateway_code(objects_of(name))
    # The notes say 4, where three workers of two cores and a scheduler need 7: see the example.
    assert float(setting(code, "cluster_max_cores")) == 7
    assert int(setting(code, "cluster_max_memory")) == 24 * 2**30
    assert int(setting(code, "cluster_max_workers")) == 3
    assert float(setting(code, "idle_timeout")) == 1200
    properties = gateway_properties(objects_of(name))
    assert properties["backend"]["image"]["name"] == "quay.io/globalcoast/protocoast-notebook"
    assert properties["backend"]["image"]["tag"] == "main"


@pytest.mark.parametrize("name", PROTOCOAST)
def test_protocoasts_exposure(objects_of: Renderer, name: str) -> None:
    ingress = objects_of(name).get("Ingress", "jupyterhub")
    host = "protocoast.vm.fedcloud.eu"
    assert ingress["apiVersion"] == "networking.k8s.io/v1"
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": host}]
    assert [(rule["host"], rule["http"]["paths"][0]["path"]) for rule in ingress["spec"]["rules"]] == [
        (host, "/")
    ]
    annotations = ingress["metadata"]["annotations"]
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt-prod"
    assert NGINX.items() <= annotations.items()


@pytest.mark.parametrize("name", PANGEO)
def test_pangeos_exposure(objects_of: Renderer, name: str) -> None:
    """Host, class, issuer and certificate stand in the values: nothing is applied by hand after an upgrade."""
    ingress = objects_of(name).get("Ingress", "jupyterhub")
    host = "pangeo.vm.fedcloud.eu"
    assert ingress["apiVersion"] == "networking.k8s.io/v1"
    annotations = ingress["metadata"]["annotations"]
    by_field, by_annotation = (
        ingress["spec"].get("ingressClassName"),
        annotations.get("kubernetes.io/ingress.class"),
    )
    assert (by_field, by_annotation) == ((None, "nginx") if name in OLD else ("nginx", None))
    assert annotations["cert-manager.io/cluster-issuer"] == "letsencrypt-prod"
    assert ingress["spec"]["tls"] == [{"hosts": [host], "secretName": host}]
    (rule,) = ingress["spec"]["rules"]
    path = rule["http"]["paths"][0]
    assert (rule["host"], path["path"], path["pathType"]) == (host, "/jupyterhub/", "Prefix")
    assert path["backend"] == {"service": {"name": "proxy-public", "port": {"name": "http"}}}


@pytest.mark.parametrize("name", PANGEO)
def test_pangeos_hub(objects_of: Renderer, name: str) -> None:
    found = objects_of(name)
    values = found.hub_values()
    assert values["hub"]["baseUrl"] == "/jupyterhub/"
    assert values["singleuser"]["image"]["name"] == "pangeo/ml-notebook"
    assert values["singleuser"]["image"]["tag"] == "latest"
    assert gateway_properties(found)["prefix"] == "/jupyterhub/services/dask-gateway"


def test_crds_are_those_of_the_gateways_time(objects_of: Renderer) -> None:
    def groups(name: str) -> set[str]:
        return {crd["spec"]["group"] for crd in objects_of(name).rendered.crds}

    assert groups("protocoast") == {"gateway.dask.org", "traefik.io"}
    assert groups("protocoast, the seed's gateway") == {"gateway.dask.org", "traefik.containo.us"}
    assert groups("pangeo") == {"gateway.dask.org", "traefik.containo.us"}
    for name in ("protocoast", "pangeo"):
        for one in objects_of(name).rendered.releases:
            assert not any(obj["kind"] == "CustomResourceDefinition" for obj in one.objects)


@pytest.mark.parametrize("name", ["protocoast", "pangeo", "pangeo, 2024.1.1"])
def test_twice_the_same(
    objects_of: Renderer, helm_program: Path, charts_dir: Path, tmp_path: Path, name: str
) -> None:
    """The charts make secrets of their own where none is given, other ones each time."""
    example, settings = MODELS[name]
    again = rendered_site(site_folder(tmp_path, example), settings, helm_program, charts_dir)
    assert Objects(again).all == objects_of(name).all


@pytest.mark.parametrize("name", ["protocoast", "pangeo"])
def test_an_upgrade_renders_the_same_objects(
    objects_of: Renderer, helm_program: Path, charts_dir: Path, tmp_path: Path, name: str
) -> None:
    from tidehub.helm.command_line import HelmCommandLine
    from tidehub.helm.program import checked
    from tidehub.kubernetes.rendering.render import render

    first = objects_of(name).rendered
    archives = {one.release.chart: one.archive for one in first.releases}
    engine = HelmCommandLine(checked(str(helm_program)))
    again = render(first.platform, archives, engine, kube_version=first.kube_version, upgrade=True)
    assert [one.objects for one in again.releases] == [one.objects for one in first.releases]


def test_offline_helm_alone_would_render_what_was_removed(
    helm_program: Path, charts_dir: Path, tmp_path: Path
) -> None:
    """Why kinds are always told: the old chart asks for one, and Helm without a cluster knows none."""
    file = site_folder(tmp_path, "pangeo")
    rendered = rendered_site(file, {}, helm_program, charts_dir, api_versions=())
    ingress = Objects(rendered).get("Ingress", "jupyterhub")
    assert ingress["apiVersion"] == "networking.k8s.io/v1beta1"
    assert any("was removed in Kubernetes 1.22" in flaw.what for flaw in check(rendered))


@pytest.mark.parametrize(
    ("settings", "version", "said"),
    [
        ({}, "1.27.0", "jupyterhub 4.4.0 does not support Kubernetes 1.27.0"),
        ({"kubernetes.model": "daskhub"}, "1.22.0", "does not support Kubernetes 1.22.0"),
    ],
)
def test_a_cluster_that_is_too_old(
    helm_program: Path, charts_dir: Path, tmp_path: Path, settings: dict[str, Any], version: str, said: str
) -> None:
    """daskhub itself says nothing of Kubernetes; the charts in it do, and Helm does not ask them."""
    from tidehub.errors import TidehubError

    file = site_folder(tmp_path, "protocoast")
    with pytest.raises(TidehubError, match=said):
        rendered_site(file, settings, helm_program, charts_dir, kube_version=version)


@pytest.mark.parametrize("example", ["pangeo", "protocoast"])
def test_values_in_the_shape_of_another_chart(
    helm_program: Path, charts_dir: Path, tmp_path: Path, example: str
) -> None:
    """daskhub has no schema: what stands beside its two charts' names does nothing, and Helm does not say so."""
    from tidehub.errors import TidehubError

    settings = {
        "kubernetes.model": "daskhub",
        "overrides.helm.daskhub": {"singleuser": {"defaultUrl": "/tree"}},
    }
    with pytest.raises(TidehubError, match="singleuser is not a key of this chart") as caught:
        rendered_site(site_folder(tmp_path, example), settings, helm_program, charts_dir)
    assert "belongs below jupyterhub" in str(caught.value)


def test_a_key_that_no_chart_knows(helm_program: Path, charts_dir: Path, tmp_path: Path) -> None:
    """With a schema Helm says it, by the key's place; the seed's one file of secrets for both charts is such a case."""
    from tidehub.errors import TidehubError

    for chart, values in (
        ("dask-gateway", {"hub": {"config": {}}}),
        ("jupyterhub", {"gateway": {"auth": {}}}),
    ):
        settings = {f"overrides.helm.{chart}": values}
        with pytest.raises(TidehubError, match=next(iter(values))):
            rendered_site(site_folder(tmp_path / chart, "protocoast"), settings, helm_program, charts_dir)


@pytest.mark.parametrize("example", ["protocoast", "pangeo"])
def test_the_dask_operator(helm_program: Path, charts_dir: Path, tmp_path: Path, example: str) -> None:
    """The engine that the Pangeo guide chose, in today's form. daskhub cannot leave the gateway out."""
    file = site_folder(tmp_path, example)
    rendered = rendered_site(file, {"dask.engine": "operator"}, helm_program, charts_dir)
    found = [flaw for flaw in check(rendered) if flaw.severity == "error"]
    assert found == []
    assert "kubernetes.dask.org" in {crd["spec"]["group"] for crd in rendered.crds}
    gateways = [
        obj for obj in Objects(rendered).of_kind("Deployment") if "gateway" in obj["metadata"]["name"]
    ]
    assert [
        obj["spec"]["replicas"]
        for obj in gateways
        if obj["metadata"]["name"].startswith(("api-", "traefik-"))
    ] == ([0, 0] if example == "pangeo" else [])
    assert "dask-gateway" not in [one.release.name for one in rendered.releases]


@pytest.mark.parametrize("kind", ["gateway-api", "load-balancer"])
@pytest.mark.parametrize("name", ["protocoast", "pangeo"])
def test_other_exposures(helm_program: Path, charts_dir: Path, tmp_path: Path, name: str, kind: str) -> None:
    exposed = {"kind": kind} | ({"class": "envoy"} if kind == "gateway-api" else {})
    settings = {"kubernetes.exposure": exposed, "site.contact": "admins@example.org"}
    found = Objects(rendered_site(site_folder(tmp_path, name), settings, helm_program, charts_dir))
    assert [flaw for flaw in check(found.rendered) if flaw.severity == "error"] == []
    assert not found.of_kind("Ingress")
    service = found.get("Service", "proxy-public")["spec"]
    if kind == "gateway-api":
        assert found.names("HTTPRoute") == {"jupyterhub", "jupyterhub-redirect"}
        assert found.names("Gateway") == {"jupyterhub"}
        assert service["type"] == "ClusterIP"
    else:
        assert service["type"] == "LoadBalancer"
        assert [port["port"] for port in service["ports"]] == [443, 80]
        assert "autohttps" in found.names("Deployment")
        assert "email: admins@example.org" in found.get("ConfigMap", "autohttps")["data"]["traefik.yaml"]


@pytest.mark.parametrize("name", ["protocoast", "pangeo"])
def test_a_load_balancer_with_a_certificate_of_ones_own(
    helm_program: Path, charts_dir: Path, tmp_path: Path, name: str
) -> None:
    settings = {
        "kubernetes.exposure": {"kind": "load-balancer", "tls_secret": "wildcard", "address": "192.0.2.7"}
    }
    found = Objects(rendered_site(site_folder(tmp_path, name), settings, helm_program, charts_dir))
    assert [flaw for flaw in check(found.rendered) if flaw.severity == "error"] == []
    assert found.get("Service", "proxy-public")["spec"]["loadBalancerIP"] == "192.0.2.7"
    command = found.container("Deployment", "proxy", "chp")["command"]
    assert "--redirect-to=443" in command
    volumes = found.get("Deployment", "proxy")["spec"]["template"]["spec"]["volumes"]
    assert [one["secret"]["secretName"] for one in volumes if "secret" in one] == ["wildcard"]
    assert "autohttps" not in found.names("Deployment")
