"""A site as releases: versions, models, secrets apart, the site's own words last, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft7Validator
from value_sites import CLIENT, PLAIN, RULES, TOKEN, built, chart, example, hub_values, schema, secrets, site

from tidehub.charts.shape import check
from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.values.build import platform
from tidehub.kubernetes.values.merge import merge
from tidehub.login.endpoints import Endpoints
from tidehub.secrets.charts import revealed
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

PINS = {
    "current": "model: split",
    "seed's gateway": "model: split, charts: {dask-gateway: 2022.6.1}",
    "hub 4.1": "model: split, charts: {jupyterhub: 3.3.8}",
    "daskhub": "model: daskhub",
    "daskhub of the seed": "model: daskhub, charts: {daskhub: 2022.6.0}",
}
ENGINES = ("gateway", "operator", "none")


def of(kubernetes: str, text: str = PLAIN, more: str = "") -> Site:
    return site(text, f"{{{kubernetes}}}", more)


# --- releases ---------------------------------------------------------------------------------


def versions(wanted: Site) -> list[tuple[str, str, str]]:
    return [(release.name, release.chart, release.version) for release in built(wanted).releases]


def test_split_is_two_releases_the_hub_first() -> None:
    assert versions(of("model: split")) == [
        ("jupyterhub", "jupyterhub", "4.4.0"),
        ("dask-gateway", "dask-gateway", "2026.3.0"),
    ]


def test_a_version_of_the_site_replaces_that_of_the_release_set() -> None:
    assert versions(of(PINS["seed's gateway"]))[1] == ("dask-gateway", "dask-gateway", "2022.6.1")


def test_daskhub_is_one_release_with_both_nested() -> None:
    platform = built(of("model: daskhub"))
    assert [(one.name, one.chart, one.version) for one in platform.releases] == [
        ("daskhub", "daskhub", "2024.1.1")
    ]
    assert set(platform.releases[0].values) == {"jupyterhub", "dask-gateway"}
    assert set(platform.releases[0].secrets) == {"jupyterhub", "dask-gateway"}
    assert versions(of(PINS["daskhub of the seed"])) == [("daskhub", "daskhub", "2022.6.0")]


def test_without_the_gateway_split_has_no_release_of_it_and_daskhub_joins_nothing() -> None:
    no_dask = "dask: {engine: none}\n"
    assert versions(of("model: split", more=no_dask)) == [("jupyterhub", "jupyterhub", "4.4.0")]
    for kubernetes in PINS.values():
        release = built(of(kubernetes, more=no_dask)).releases[0]
        values = release.values.get("jupyterhub", release.values)
        assert not any(name.startswith("DASK") for name in values["singleuser"].get("extraEnv", {}))
        assert (values["hub"].get("services") or {}).get("dask-gateway") is None
        assert TOKEN not in json.dumps(revealed(release.secrets))


def test_the_operator_comes_after_the_hub() -> None:
    wanted = of("model: split", more="dask: {engine: operator}\n")
    assert [name for name, _, _ in versions(wanted)] == ["jupyterhub", "dask-operator"]
    assert hub_values(wanted)["singleuser"]["serviceAccountName"]
    assert "ServiceAccount" in {one["kind"] for one in built(wanted).objects}


def test_the_platform_says_where_and_from_what() -> None:
    wanted = built(of("namespace: coast, model: daskhub"))
    assert (wanted.namespace, wanted.model, wanted.release_set) == ("coast", "daskhub", "2026.11")
    told = wanted.releases[0].values["jupyterhub"]["hub"]["services"]["dask-gateway"]["environment"]
    assert ".coast/x/services/dask-gateway" in told["TIDEHUB_GATE"]


def test_a_site_without_the_section_is_built_with_its_defaults() -> None:
    wanted = load_text(PLAIN, "tidehub.yaml").site
    assert wanted.kubernetes is None
    platform = built(wanted)
    assert (platform.namespace, platform.model) == ("daskhub", "split")
    assert platform.site.kubernetes is not None


def test_a_release_set_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match=r"Release set '2020\.1' does not exist"):
        built(of("model: split"), release_set="2020.1")


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kubernetes", PINS.values(), ids=PINS)
def test_no_secret_is_among_the_values(kubernetes: str) -> None:
    for release in built(of(kubernetes)).releases:
        shown = json.dumps(release.values)
        assert CLIENT not in shown
        assert TOKEN not in shown
        assert "client_secret" not in json.dumps(_keys(release.values))


def test_each_chart_has_its_own_secrets_and_one_token_is_in_both() -> None:
    hub, gateway = built(of("model: split")).releases
    assert revealed(hub.secrets)["hub"]["config"] == {
        "SiteAuthenticator": {"client_secret": CLIENT},
        "JupyterHub": {"cookie_secret": "5d" * 32},
        "CryptKeeper": {"keys": ["6e" * 32]},
        "ConfigurableHTTPProxy": {"auth_token": "4c" * 32},
    }
    assert revealed(hub.secrets)["hub"]["services"] == {"dask-gateway": {"apiToken": TOKEN}}
    assert revealed(gateway.secrets) == {"gateway": {"auth": {"jupyterhub": {"apiToken": TOKEN}}}}


def test_an_older_hub_looks_for_the_client_secret_elsewhere() -> None:
    secret = revealed(built(of(PINS["hub 4.1"])).releases[0].secrets)["hub"]["config"]
    assert secret["GenericOAuthenticator"] == {"client_secret": CLIENT}
    assert "SiteAuthenticator" not in secret


def test_secrets_that_are_given_are_not_changed() -> None:
    given = secrets()
    platform(of("model: split"), given)
    assert revealed(given) == revealed(secrets())


def _keys(values: Any) -> list[str]:
    if isinstance(values, dict):
        return [*values, *(name for inner in values.values() for name in _keys(inner))]
    return [name for inner in values for name in _keys(inner)] if isinstance(values, list) else []


# --- the site's own words ---------------------------------------------------------------------


def test_overrides_count_last() -> None:
    more = (
        "overrides:\n"
        "  hub_config: 'c.JupyterHub.log_level = 10'\n"
        "  gateway_config: 'c.DaskGateway.log_level = 10'\n"
        "  helm:\n"
        "    jupyterhub: {cull: {timeout: 7}, hub: {extraConfig: {mine: 'x = 1'}}, prePuller: null}\n"
        "    dask-gateway: {gateway: {replicas: 2}}\n"
    )
    hub, gateway = built(of("model: split", more=more)).releases
    assert hub.values["cull"] == {"enabled": True, "timeout": 7}
    assert hub.values["prePuller"] is None
    names = sorted(hub.values["hub"]["extraConfig"])
    ours = [f"0-tidehub-{name}" for name in ("dashboards", "homes", "login", "proxy")]
    assert names == [*ours, "mine", "zz-overrides"]
    assert hub.values["hub"]["extraConfig"]["zz-overrides"] == "c.JupyterHub.log_level = 10"
    assert gateway.values["gateway"]["replicas"] == 2
    code = gateway.values["gateway"]["extraConfig"]
    assert max(code) == "zz-overrides" and code["zz-overrides"] == "c.DaskGateway.log_level = 10"


def test_overrides_of_the_meta_chart() -> None:
    more = "overrides: {helm: {daskhub: {rbac: {enabled: false}}, jupyterhub: {cull: {every: 9}}}}\n"
    values = built(of("model: daskhub", more=more)).releases[0].values
    assert values["rbac"] == {"enabled": False}
    assert values["jupyterhub"]["cull"]["every"] == 9


def test_a_list_of_profiles_that_the_rules_do_not_know_is_refused() -> None:
    more = (
        "overrides: {helm: {jupyterhub: {singleuser: {profileList: [{display_name: Free, slug: free}]}}}}\n"
    )
    with pytest.raises(TidehubError, match="profiles that the site's rules do not know"):
        built(of("model: split", RULES, more))
    assert hub_values(of("model: split", PLAIN, more))["singleuser"]["profileList"][0]["slug"] == "free"


@pytest.mark.parametrize("kubernetes", PINS.values(), ids=PINS)
def test_a_login_of_the_sites_own_words_replaces_ours(kubernetes: str) -> None:
    theirs = "{hub: {config: {JupyterHub: {authenticator_class: github}}}}"
    values = hub_values(of(kubernetes, more=f"overrides: {{helm: {{jupyterhub: {theirs}}}}}\n"))
    assert values["hub"]["config"] == {"JupyterHub": {"authenticator_class": "github"}}
    assert "0-tidehub-login" not in values["hub"]["extraConfig"]
    same = theirs.replace("github", "generic-oauth")
    values = hub_values(of(kubernetes, more=f"overrides: {{helm: {{jupyterhub: {same}}}}}\n"))
    assert "0-tidehub-login" in values["hub"]["extraConfig"]


# --- what cannot be ---------------------------------------------------------------------------


def refusal(wanted: Site) -> str:
    with pytest.raises(TidehubError) as caught:
        built(wanted)
    assert caught.value.fix
    return str(caught.value)


def changed(wanted: Site, section: str, **values: Any) -> Site:
    return wanted.model_copy(update={section: getattr(wanted, section).model_copy(update=values)})


def test_a_site_without_an_address_is_refused() -> None:
    assert "no address" in refusal(changed(of("model: split"), "site", url=None))


def test_made_up_users_are_refused() -> None:
    assert "demo provider" in refusal(changed(of("model: split"), "login", provider="demo"))


@pytest.mark.parametrize(
    ("model", "charts"),
    [("split", {"jupyterhub": "0.11.1"}), ("daskhub", {"daskhub": "2030.1.0"})],
)
def test_a_hub_whose_login_nobody_knows_is_refused(model: str, charts: dict[str, str]) -> None:
    wanted = changed(of("model: split"), "kubernetes", model=model, charts=charts)
    assert "it is not known how the hub of" in refusal(wanted)


def test_a_hub_that_cannot_keep_clusters_to_groups_is_refused() -> None:
    wanted = changed(of(PINS["daskhub of the seed"]), "dask", access="groups")
    assert "cannot keep others from starting clusters" in refusal(wanted)


def test_a_provider_whose_addresses_nobody_said_is_refused() -> None:
    oidc = PLAIN.replace("egi-check-in", "oidc\n  issuer: https://id.example.org")
    for kubernetes in (PINS["current"], PINS["hub 4.1"]):
        with pytest.raises(TidehubError, match="identity provider's addresses"):
            built(of(kubernetes, oidc))


def test_addresses_by_discovery_count() -> None:
    oidc = PLAIN.replace("egi-check-in", "oidc\n  issuer: https://id.example.org")
    where = "https://id.example.org"
    found = Endpoints(where, f"{where}/a", f"{where}/t", f"{where}/u", f"{where}/k")
    current = built(of(PINS["current"], oidc), addresses=found).releases[0].values
    assert (
        "c.SiteAuthenticator.token_url = 'https://id.example.org/t'"
        in (current["hub"]["extraConfig"]["0-tidehub-login"])
    )
    older = built(of(PINS["hub 4.1"], oidc), addresses=found).releases[0].values
    assert older["hub"]["config"]["GenericOAuthenticator"]["userdata_url"] == f"{where}/u"


# --- what the chart's defaults would do -------------------------------------------------------


def test_a_short_idle_timeout_is_looked_for_often_enough() -> None:
    values = hub_values(
        of("model: split", PLAIN.replace("notebooks:\n", "notebooks:\n  idle_timeout: 8 min\n"))
    )
    assert values["cull"] == {"enabled": True, "timeout": 480, "every": 120}
    assert values["singleuser"]["extraEnv"]["JUPYTERHUB_ACTIVITY_INTERVAL"] == "120"


def test_a_scheduler_of_its_own_keeps_its_placeholders() -> None:
    values = hub_values(of("user_scheduler: true"))
    assert values["scheduling"] == {"userScheduler": {"enabled": True}}


def test_the_image_of_workers_comes_to_the_nodes_too() -> None:
    dask = "dask: {image: {default: 'quay.io/x/dask:7'}}\n"
    pulled = hub_values(of("model: split", more=dask))["prePuller"]
    assert pulled["extraImages"] == {"dask": {"name": "quay.io/x/dask", "tag": "7"}}
    same = "dask: {image: {default: 'quay.io/x/small:1'}}\n"
    assert "extraImages" not in hub_values(of("model: split", more=same))["prePuller"]


# --- the charts' own schemas ------------------------------------------------------------------


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kubernetes", PINS.values(), ids=PINS)
@pytest.mark.parametrize("text", [PLAIN, RULES], ids=["plain", "rules"])
def test_the_real_charts_take_the_values(kubernetes: str, engine: str, text: str) -> None:
    for release in built(of(kubernetes, text, f"dask: {{engine: {engine}}}\n")).releases:
        assert (
            check(chart(release.chart, release.version), merge(release.values, revealed(release.secrets)))
            == ()
        )


@pytest.mark.parametrize(
    ("kubernetes", "versions"),
    [
        (PINS["current"], ("4.4.0", "2026.3.0")),
        ("charts: {jupyterhub: 3.3.8, dask-gateway: 2022.6.1}", ("3.3.8", "2022.6.1")),
    ],
)
@pytest.mark.parametrize("text", [PLAIN, RULES], ids=["plain", "rules"])
def test_the_published_schemas_take_the_values(kubernetes: str, versions: tuple[str, str], text: str) -> None:
    for release, version in zip(built(of(kubernetes, text)).releases, versions, strict=True):
        values = merge(release.values, revealed(release.secrets))
        found = Draft7Validator(schema(release.chart, version)).iter_errors(values)
        assert [error.message for error in found] == []


@pytest.mark.parametrize("name", ["protocoast", "pangeo"])
def test_the_real_charts_take_the_examples(name: str) -> None:
    for release in built(example(name)).releases:
        assert (
            check(chart(release.chart, release.version), merge(release.values, revealed(release.secrets)))
            == ()
        )
