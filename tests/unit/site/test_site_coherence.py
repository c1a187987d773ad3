"""What no schema sees: one good site, one contradiction at a time, each told with its numbers and at its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tidehub.errors import UsageError
from tidehub.local.machine import refuse_unsupported
from tidehub.login.endpoints import find_endpoints
from tidehub.site import charts
from tidehub.site.images import is_reference
from tidehub.site.presets import text_of
from tidehub.site.problems import Problem, SiteError
from tidehub.site.reading.load import load, load_text

GROUP = "urn:mace:egi.eu:group:vo.pangeo.eu:role=member"
DEMO = "https://aai-demo.egi.eu/auth/realms/egi/protocol/openid-connect"
DEV = "https://aai-dev.egi.eu/auth/realms/egi/protocol/openid-connect"
NETWORKS = {"authorize": f"{DEMO}/auth", "token": f"{DEMO}/token", "userinfo": f"{DEMO}/userinfo"}


def found(preset: str = "protocoast", **values: Any) -> list[Problem]:
    overrides = [(key.replace("__", "."), value) for key, value in values.items()]
    try:
        return list(load_text(text_of(preset), preset, overrides=overrides).warnings)
    except SiteError as error:
        return list(error.problems)


def one(key: str, severity: str, problems: list[Problem]) -> str:
    matching = [problem for problem in problems if problem.key == key and problem.severity == severity]
    assert len(matching) == 1, "\n".join(map(str, problems))
    return str(matching[0])


def keys(problems: list[Problem]) -> set[str]:
    return {problem.key for problem in problems}


# --- redirect address and endpoints ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stated", "words"),
    [
        ("https://protocoast.vm.fedcloud.eu/hub/oauth_callback/", "a slash too many"),
        ("http://protocoast.vm.fedcloud.eu/hub/oauth_callback", "begins with http://"),
        ("https://pangeo.vm.fedcloud.eu/hub/oauth_callback", "leads to pangeo.vm.fedcloud.eu"),
        (
            "https://protocoast.vm.fedcloud.eu:8443/hub/oauth_callback",
            "leads to protocoast.vm.fedcloud.eu:8443",
        ),
        ("https://protocoast.vm.fedcloud.eu/jupyterhub/hub/oauth_callback", "its base path is /jupyterhub/"),
        ("https://protocoast.vm.fedcloud.eu/oauth_callback", "followed by hub/oauth_callback"),
        ("https://PROTOCOAST.vm.fedcloud.eu/hub/oauth_callback", "capital letters"),
    ],
)
def test_a_redirect_address_that_leads_elsewhere(stated: str, words: str) -> None:
    said = one("login.callback_url", "error", found(login__callback_url=stated))
    assert words in said
    assert "expected: https://protocoast.vm.fedcloud.eu/hub/oauth_callback" in said


def test_the_right_redirect_address() -> None:
    right = "https://pangeo.vm.fedcloud.eu/jupyterhub/hub/oauth_callback"
    assert "login.callback_url" not in keys(found("egi-pangeo", login__callback_url=right))


@pytest.mark.parametrize("name", ["authorize", "token", "userinfo"])
def test_endpoints_of_another_instance(name: str) -> None:
    mixed = {**NETWORKS, name: NETWORKS[name].replace("aai-demo", "aai-dev")}
    said = one(f"login.endpoints.{name}", "error", found(login__endpoints=mixed))
    assert "is at aai-dev.egi.eu, and the issuer is at aai-demo.egi.eu" in said


def test_endpoints_that_were_switched_off() -> None:
    old = {**NETWORKS, "token": "https://aai-demo.egi.eu/oidc/token"}
    assert "switched off in 2022" in one("login.endpoints.token", "error", found(login__endpoints=old))


def test_endpoints_of_other_providers_may_spread() -> None:
    endpoints = {
        "authorize": "https://accounts.example.org/auth",
        "token": "https://oauth2.example.net/token",
        "userinfo": "http://accounts.example.org/me",
    }
    login = {
        "provider": "oidc", "client_id": "x", "endpoints": endpoints, "scopes": ["openid"],
        "allow": {"everyone": True},
    }  # fmt: skip
    problems = found(login=login)
    assert "users sign in at accounts.example.org" in one("login.endpoints.token", "warning", problems)
    assert "plain http" in one("login.endpoints.userinfo", "error", problems)


def test_good_endpoints_are_used_as_stated() -> None:
    assert keys(found(login__endpoints=NETWORKS)) == {"dask.cluster.max_workers"}
    site = load_text(text_of("protocoast"), "x", overrides=[("login.endpoints", NETWORKS)]).site
    assert find_endpoints(site.login).token_url == NETWORKS["token"]


# --- groups ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "words"),
    [
        ("vo.pangeo.eu", "can never match"),
        (f"{GROUP}#", "can never match"),
        ("urn:mace:egi.eu:group:vo.pangeo.eu:role=", "can never match"),
        ("urn:mace:egi.eu:group:vo.pangeo.eu:role=a:b", "can never match"),
        ("urn:mace:egi.eu:GROUP:vo.pangeo.eu:role=member", "can never match"),
    ],
)
def test_groups_that_can_never_match(group: str, words: str) -> None:
    assert words in one("login.allow.groups[0]", "error", found(login__allow={"groups": [group]}))


def test_groups_that_rarely_match() -> None:
    problems = found(
        login__allow={"groups": [GROUP, f"{GROUP}#aai.egi.eu", GROUP.replace("egi.eu:", "egi.ue:")]}
    )
    assert any(problem.key == "login.allow.groups[1]" for problem in problems)
    assert any(
        "urn:mace:egi.eu:group:" in str(problem) for problem in problems if problem.key.endswith("[2]")
    )


# --- storage --------------------------------------------------------------------------------------------------


def test_homes_over_the_projects_storage() -> None:
    cloud = {"site": "CESNET-MCC", "storage": "1 TiB"}
    said = one("infrastructure.cloud.storage", "warning", found(infrastructure__cloud=cloud, site__people=30))
    assert "30 homes of 50 GiB beside the hub's 1 GiB need 1501 GiB" in said
    assert "is 1 TiB: enough for 20" in said
    assert "infrastructure.cloud.storage" not in keys(found(infrastructure__cloud=cloud, site__people=20))
    assert "infrastructure.cloud.storage" not in keys(found(infrastructure__cloud=cloud))


def test_not_even_one_home() -> None:
    assert "not one home of 50 GiB fits" in one("machine.storage", "error", found(machine__storage="40 GiB"))
    cloud = {"site": "x", "storage": "50 GiB"}
    said = one("infrastructure.cloud.storage", "error", found(infrastructure__cloud=cloud))
    assert "not one home of 50 GiB fits beside the hub's 1 GiB" in said


# --- versions -------------------------------------------------------------------------------------------------


def test_a_release_set_that_is_none() -> None:
    assert "expected: one of 2026.11" in one(
        "kubernetes.release_set", "error", found(kubernetes__release_set="2020.1")
    )


@pytest.mark.parametrize(
    ("pins", "key", "severity", "words"),
    [
        ({"jupyterhub": "3.3.8"}, "jupyterhub", "warning", "installs JupyterHub 4.1.6"),
        ({"jupyterhub": "9.9.9"}, "jupyterhub", "warning", "is not known here"),
        ({"dask-gateway": "2021.1.1"}, "dask-gateway", "warning", "is not known here"),
        ({"jupyterhub": "1.2.0"}, "jupyterhub", "error", "JupyterHub 1.5.0 (chart 1.2.0) has none"),
        ({"daskhub": "2022.6.0"}, "daskhub", "error", "is not installed by the model split"),
    ],
)
def test_chart_versions(pins: dict[str, str], key: str, severity: str, words: str) -> None:
    assert words in one(f"kubernetes.charts.{key}", severity, found(kubernetes__charts=pins))


def test_the_seeds_own_pair_of_charts_works() -> None:
    pins = {"jupyterhub": "1.2.0", "dask-gateway": "2022.6.1"}
    problems = found(kubernetes__charts=pins)
    assert "JUPYTERHUB_SERVICE_URL" in one("kubernetes.charts.jupyterhub", "warning", problems)


def test_facts_about_charts_agree_with_themselves() -> None:
    for hub, gateway in charts.DASKHUB.values():
        assert hub in charts.JUPYTERHUB
        assert gateway in charts.DASK_GATEWAY
    assert charts.NEWEST_DASKHUB in charts.DASKHUB
    assert charts.installed("daskhub", {}, {}) == charts.DASKHUB[charts.NEWEST_DASKHUB]
    assert charts.parts("4.3.0-0.dev.git") == (4, 3, 0)
    assert charts.parts("x") == ()


def test_a_profile_without_an_image_on_kubernetes() -> None:
    profiles = [{"name": "A", "default": True}]
    assert "names no image" in one("notebooks.profiles[0]", "warning", found(notebooks__profiles=profiles))
    assert "notebooks.profiles[0]" not in keys(found("laptop", notebooks__profiles=profiles))


# --- this machine ---------------------------------------------------------------------------------------------


def test_tls_files_that_are_not_there(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(text_of("protocoast") + "machine:\n  tls: {certificate: cert.pem, key: key.pem}\n")
    (tmp_path / "key.pem").write_text("")
    problems = list(load(path).warnings)
    assert "cert.pem does not exist on this machine" in one("machine.tls.certificate", "warning", problems)
    assert "machine.tls.key" not in keys(problems)


def test_what_the_dask_operator_cannot_do_is_said() -> None:
    loaded = load_text(text_of("protocoast"), "x", overrides=[("dask.engine", "operator")])
    said = [problem.what for problem in loaded.warnings if problem.path == ("dask", "engine")]
    assert len(said) == 2
    assert "dask.per_user" in said[0] and "dask-scheduler" in said[1]
    assert not [
        one for one in load_text(text_of("protocoast"), "x").warnings if one.path == ("dask", "engine")
    ]


def test_the_dask_operator_is_refused_on_one_machine() -> None:
    site = load_text(text_of("protocoast"), "x", overrides=[("dask.engine", "operator")]).site
    with pytest.raises(UsageError, match="runs on Kubernetes only"):
        refuse_unsupported(site)
    refuse_unsupported(load_text(text_of("protocoast"), "x").site)


# --- the figures of the seed ----------------------------------------------------------------------------------


def test_sixteen_or_twenty_four() -> None:
    twice = '"16 GiB (25,769,803,776 bytes)"'.strip('"')
    said = one("dask.cluster.max_memory", "error", found(dask__cluster__max_memory=twice))
    assert "16 GiB are 17,179,869,184 bytes, and 25,769,803,776 bytes are 24 GiB" in said
    assert "write 16 GiB or 24 GiB" in said
    said = one("dask.cluster.max_workers", "warning", found(dask__cluster__max_memory="16 GiB"))
    assert "1 core and 6 GiB: 2 (dask.cluster.max_memory)" in said
    said = one(
        "dask.cluster.max_workers", "note", found()
    )  # as the notes have it: only the large ones are few
    assert "1 core and 6 GiB" not in said
    assert "2 cores and 4 GiB: 1 (dask.cluster.max_cores)" in said


def test_a_wrong_section_hides_no_other_sections_contradictions() -> None:
    problems = found(login__provider="egi-checkin", notebooks__cpu__guarantee=9, kubernetes__release_set="x")
    errors = {problem.key for problem in problems if problem.severity == "error"}
    assert errors == {"login.provider", "notebooks.cpu.guarantee", "kubernetes.release_set"}
    assert "dask.cluster.max_workers" in keys(problems)


@pytest.mark.parametrize(
    "image",
    [
        "pangeo ml",
        "Pangeo/ml:1",
        "quay.io//x:1",
        "x:",
        "x:1:2",
        "x@sha256:12",
        "https://quay.io/x:1",
        "-x:1",
        "x:é",
    ],
)
def test_what_no_cluster_could_pull_is_not_an_image(image: str) -> None:
    profiles = [{"name": "One", "default": True, "image": image}]
    said = one("notebooks.profiles[0].image", "error", found(notebooks__profiles=profiles))
    assert "is not the name of a container image" in said
    assert not is_reference(image)


@pytest.mark.parametrize(
    "image",
    [
        "pangeo/ml-notebook:2025.12.30",
        "host:5000/a/b_c/d.e:v1",
        "x",
        f"quay.io/x@sha256:{'0a' * 32}",
        "a--b__c:T_1.x-y",
    ],
)
def test_what_can_be_pulled_is_an_image(image: str) -> None:
    assert is_reference(image)
