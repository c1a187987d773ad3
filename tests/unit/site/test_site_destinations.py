"""Where keys go, against the real charts' schemas, the real option classes and the traits of the real programs."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest
from dask_gateway_server.backends.base import ClusterConfig
from jupyterhub.app import JupyterHub
from jupyterhub.spawner import Spawner
from oauthenticator.generic import GenericOAuthenticator
from site_chart_schemas import schema
from traitlets.config import Config

from tidehub.gateway.limits import workers_of
from tidehub.login.authenticator import SiteAuthenticator
from tidehub.site import describe
from tidehub.site.destinations.carried import RULES as CARRIED
from tidehub.site.destinations.catalogue import (
    Destination,
    carried_data,
    destinations,
    helm_fragments,
    leaves,
    value_at,
)
from tidehub.site.destinations.exposure import NGINX
from tidehub.site.destinations.helm import RULES as HELM
from tidehub.site.destinations.hub import RULES as HUB
from tidehub.site.destinations.machine import RULES as MACHINE
from tidehub.site.model import Site
from tidehub.site.presets import NAMES, text_of
from tidehub.site.problems import KeyPath
from tidehub.site.reading.load import load_text

GIB = 2**30
LIMIT: KeyPath = ("notebooks", "memory", "limit")


OF_2022: dict[str, Any] = {"kubernetes__model": "daskhub", "kubernetes__charts": {"daskhub": "2022.6.0"}}


def site(preset: str = "protocoast", **values: Any) -> Site:
    overrides = [(key.replace("__", "."), value) for key, value in values.items()]
    return load_text(text_of(preset), preset, overrides=overrides).site


def found(site: Site, path: KeyPath, where: str) -> list[Destination]:
    return [one for one in destinations(site, path) if one.where == where]


def check(values: dict[str, Any], chart: str, version: str) -> None:
    jsonschema.Draft7Validator(schema(chart, version)).validate(values)


@pytest.mark.parametrize("version", ["4.4.0", "3.3.8"])
def test_protocoasts_hub_values_pass_the_real_schema(version: str) -> None:
    check(
        helm_fragments(site(kubernetes__charts={"jupyterhub": version}))["jupyterhub"], "jupyterhub", version
    )


@pytest.mark.parametrize("version", ["2026.3.0", "2022.6.1"])
def test_protocoasts_gateway_values_pass_the_real_schema(version: str) -> None:
    check(helm_fragments(site())["dask-gateway"], "dask-gateway", version)


def test_pangeos_values_pass_the_schemas_one_level_down() -> None:
    # daskhub 2022.6.0 holds jupyterhub 1.2.0, whose schema is not at hand; what it refuses is tested below.
    values = helm_fragments(site("egi-pangeo", **OF_2022))["daskhub"]
    assert set(values) == {"jupyterhub", "dask-gateway"}
    check(values["dask-gateway"], "dask-gateway", "2022.6.1")
    check(values["jupyterhub"], "jupyterhub", "3.3.8")


@pytest.mark.parametrize("preset", NAMES)
@pytest.mark.parametrize("kind", ["ingress", "gateway-api", "load-balancer"])
def test_every_preset_and_exposure_passes(preset: str, kind: str) -> None:
    kubernetes = {"exposure": {"kind": kind, "class": "nginx"}}
    values = helm_fragments(site(preset, site__contact="admins@example.org", kubernetes=kubernetes))
    check(values["jupyterhub"], "jupyterhub", "4.4.0")
    check(values["dask-gateway"], "dask-gateway", "2026.3.0")


def test_the_schemas_would_notice() -> None:
    values = helm_fragments(site())["jupyterhub"]
    values["singleuser"]["memory"]["limt"] = "10G"
    with pytest.raises(jsonschema.ValidationError, match="limt"):
        check(values, "jupyterhub", "4.4.0")


def test_protocoasts_values_are_those_of_its_deployment() -> None:
    values = helm_fragments(site())
    hub, gateway = values["jupyterhub"], values["dask-gateway"]["gateway"]
    single = hub["singleuser"]
    assert single["cpu"] == {"guarantee": 1, "limit": 2}
    assert single["memory"] == {"guarantee": "5G", "limit": "10G"}
    assert single["extraResource"] == {
        "guarantees": {"ephemeral-storage": "4Gi"},
        "limits": {"ephemeral-storage": "8Gi"},
    }
    assert single["storage"] == {
        "type": "dynamic",
        "capacity": "50Gi",
        "dynamic": {"storageClass": "csi-cinder-sc-delete"},
    }
    assert single["image"] == {"name": "quay.io/globalcoast/protocoast-notebook", "tag": "main"}
    assert [profile["display_name"] for profile in single["profileList"]] == [
        "ProtoCoast - main",
        "ProtoCoast - develop",
    ]
    assert hub["hub"]["db"] == {
        "type": "sqlite-pvc",
        "pvc": {"storage": "1Gi", "storageClassName": "csi-cinder-sc-delete"},
    }
    assert hub["ingress"] == {
        "enabled": True,
        "ingressClassName": "nginx",
        "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt-prod", **NGINX},
        "hosts": ["protocoast.vm.fedcloud.eu"],
        "tls": [{"hosts": ["protocoast.vm.fedcloud.eu"], "secretName": "protocoast.vm.fedcloud.eu"}],
    }
    assert hub["scheduling"]["userScheduler"]["enabled"] is False
    assert hub["cull"] == {"enabled": True, "timeout": 3600}
    assert hub["hub"]["config"] == {"JupyterHub": {"authenticator_class": "generic-oauth"}}
    login = carried_data(site())["SiteAuthenticator"]
    assert login["oauth_callback_url"].endswith(".eu/hub/oauth_callback")
    assert gateway["prefix"] == "/services/dask-gateway"
    assert gateway["backend"]["worker"] == {
        "cores": {"request": 1},
        "memory": {"request": "4G"},
    }
    assert gateway["backend"]["scheduler"]["memory"] == {"request": "2G", "limit": "2G"}
    assert gateway["backend"]["image"] == {"name": "quay.io/globalcoast/protocoast-notebook", "tag": "main"}


def test_pangeos_old_chart_gets_old_names() -> None:
    hub = helm_fragments(site("egi-pangeo", **OF_2022))["daskhub"]["jupyterhub"]
    assert hub["ingress"]["annotations"]["kubernetes.io/ingress.class"] == "nginx"
    assert "ingressClassName" not in hub["ingress"]
    assert hub["hub"]["baseUrl"] == "/jupyterhub/"
    login = hub["hub"]["config"]["GenericOAuthenticator"]
    assert (login["client_id"], login["login_service"]) == ("pangeo-hub", "EGI Check-In")
    assert set(login) <= set(GenericOAuthenticator.class_traits(config=True))
    data = carried_data(site("egi-pangeo", **OF_2022))
    assert data["SiteRule"]["rule"]["username_claim"] == "preferred_username"
    assert "SiteAuthenticator" not in data


def test_the_real_authenticator_takes_the_login() -> None:
    values = carried_data(site())["SiteAuthenticator"]
    config = Config()
    config.SiteAuthenticator.update(values)
    authenticator = SiteAuthenticator(config=config)
    assert authenticator.rule["allow"]["groups"] == list(site().login.allow.groups)
    assert authenticator.username_claim == "preferred_username"
    assert authenticator.check_every == site().login.refresh
    assert set(values) <= set(SiteAuthenticator.class_traits(config=True))


def test_memory_reaches_the_real_spawner_unchanged() -> None:
    config = Config()
    values = helm_fragments(site())["jupyterhub"]["singleuser"]["memory"]
    config.Spawner.mem_limit, config.Spawner.mem_guarantee = values["limit"], values["guarantee"]
    spawner = Spawner(config=config)
    assert (spawner.mem_limit, spawner.mem_guarantee) == (10 * GIB, 5 * GIB)


def run(code: dict[str, str]) -> Any:
    """What dask-gateway does with `extraConfig`: the entries in the order of their names."""
    c = Config()
    for name in sorted(code):
        exec(compile(code[name], name, "exec"), {"c": c})
    return c


def test_the_gateways_python_says_what_the_site_says() -> None:
    stated = site()
    c = run(helm_fragments(stated)["dask-gateway"]["gateway"]["extraConfig"])
    assert dict(c.KubeClusterConfig) == {
        "scheduler_cmd": ["dask", "scheduler"],
        "worker_cmd": ["dask", "worker"],
        "cluster_max_cores": 4.0,
        "cluster_max_memory": 24 * GIB,
        "cluster_max_workers": 3,
        "idle_timeout": 1200.0,
    }
    for cores, gib in ((1, 4), (1, 6), (2, 4)):
        limits = {key: value for key, value in c.KubeClusterConfig.items() if not key.endswith("_cmd")}
        real = ClusterConfig(**limits, worker_cores=cores, worker_memory=gib * GIB)
        assert real.cluster_max_workers == workers_of(stated.dask, cores, gib * GIB).workers


@pytest.mark.parametrize("choice", ["fixed", "tagged", "any"])
def test_choices_travel_with_the_policy(choice: str) -> None:
    dask = carried_data(site(dask__image__choice=choice))["SiteBackend"]["site"]["dask"]
    assert dask["image"] == {"default": "quay.io/globalcoast/protocoast-notebook:main", "choice": choice}
    assert dask["worker"]["memory"] == {"min": 4 * GIB, "max": 6 * GIB, "default": 4 * GIB}


def test_one_key_on_all_sides() -> None:
    stated = site()
    assert [(one.where, one.key, one.value) for one in destinations(stated, LIMIT)] == [
        ("hub", "Spawner.mem_limit", 10 * GIB),
        ("helm", "singleuser.memory.limit", "10G"),
        ("machine", "memory.max", 10 * GIB),
        ("machine", "memory.swap.max", 0),
    ]
    (helm,) = found(site("egi-pangeo", **OF_2022), LIMIT, "helm")
    assert (helm.chart, helm.key) == ("daskhub", "jupyterhub.singleuser.memory.limit")


def test_no_dask_leads_nowhere() -> None:
    stated = site(dask__engine="none")
    assert destinations(stated, ("dask", "cluster", "max_cores")) == []
    assert helm_fragments(stated).get("dask-gateway", {}).get("gateway", {}).keys() <= {"prefix"}


def test_servers_that_never_idle_out_have_no_culler() -> None:
    stated = site(notebooks__idle_timeout="never")
    assert helm_fragments(stated)["jupyterhub"]["cull"] == {"enabled": False}


def test_the_age_that_ends_a_server_at_work_is_the_chart_cullers() -> None:
    for idle, timeout in (("2h", 7200), ("never", 2 * 604800)):
        stated = site(notebooks__idle_timeout=idle, notebooks__max_age="7d")
        cull = helm_fragments(stated)["jupyterhub"]["cull"]
        assert cull == {"enabled": True, "timeout": timeout, "maxAge": 604800}


@pytest.mark.parametrize("rules", [HUB, HELM, CARRIED, MACHINE], ids=["hub", "helm", "carried", "machine"])
def test_every_rule_is_of_a_key_that_exists(rules: dict[str, Any]) -> None:
    known = {key.name for key in describe.all_keys() if key.section is None}
    assert set(rules) <= known


def test_what_a_deployment_states_goes_somewhere() -> None:
    # What is left says how tidehub itself installs the charts, or what is checked.
    ours = {"kubernetes.namespace", "kubernetes.model"}
    for preset in ("protocoast", "egi-pangeo"):
        loaded = load_text(text_of(preset), preset)
        for path in leaves(loaded.site):
            key = describe.find(path)
            assert key is not None
            if path in loaded.sources and key.name not in ours and path[0] != "infrastructure":
                assert key.name in {*HUB, *HELM, *CARRIED, *MACHINE, "kubernetes.charts"}, key.name


def test_hub_traits_are_real() -> None:
    stated = site()
    names = {one.key for path in leaves(stated) for one in found(stated, path, "hub")}
    real = {"ClusterConfig": ClusterConfig, "JupyterHub": JupyterHub, "SiteAuthenticator": SiteAuthenticator}
    for name in names - {"Spawner.user_options.profile", "SiteAuthenticator.site"}:
        owner, trait = name.split(".")[:2]
        assert trait.split()[0] in real.get(owner, Spawner).class_traits(config=True) or owner == "Backend", (
            name
        )
    assert {"Spawner.mem_limit", "ClusterConfig.cluster_max_cores"} <= names


@pytest.mark.parametrize("preset", NAMES)
def test_every_leaf_has_a_value(preset: str) -> None:
    stated = site(preset)
    paths = list(leaves(stated))
    assert len(paths) == len(set(paths)) > 40
    for path in paths:
        value_at(stated, path)
        destinations(stated, path)


@pytest.mark.parametrize(
    "path", [("nonsense",), ("site", "nonsense"), ("notebooks", "profiles", 9, "name"), ("site", "name", "x")]
)
def test_paths_that_lead_nowhere(path: KeyPath) -> None:
    with pytest.raises(KeyError):
        value_at(site(), path)
