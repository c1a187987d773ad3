"""Values files as users have them: nothing is lost, everything is explained, and single translations are right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helm_values import VARIED, documents, fate, from_text, imported, leaf, tried

from tidehub.importing.fates import Kind
from tidehub.importing.round_trip import explained, unaccounted
from tidehub.importing.values_yaml import ValuesError
from tidehub.site.reading.tree import read, to_data

LAYERS = ("jupyterhub-4.1-layer-base.yaml", "jupyterhub-4.1-layer-site.yaml")


def test_there_are_enough() -> None:
    assert len(VARIED) >= 25


@pytest.mark.parametrize("name", VARIED)
def test_no_value_is_unaccounted_for(name: str) -> None:
    found = imported(name)
    assert unaccounted(documents(name), found) == []
    assert explained(found)


def test_the_account_notices_a_lost_value() -> None:
    found = imported(VARIED[0])
    object.__setattr__(found, "leaves", found.leaves[1:])
    assert len(unaccounted(documents(VARIED[0]), found)) == 1


@pytest.mark.parametrize("name", VARIED)
def test_the_text_says_what_was_imported(name: str, tmp_path: Path) -> None:
    done = tried(tmp_path, name)
    root, problems, _ = read(done.text, "tidehub.yaml")
    assert root is not None
    assert problems == []
    assert to_data(root) == _lists(done.imported.site)


def _lists(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", VARIED)
def test_what_is_passed_through_is_under_overrides(name: str) -> None:
    found = imported(name)
    overrides = found.site.get("overrides", {}).get("helm", {})
    original = {document.file: document.data for document in documents(name)}[name]
    for one in found.leaves:
        if one.fate.kind is not Kind.PASSED:
            continue
        whole = _until_list(one.path)
        kept: Any = overrides[one.chart]
        for part in _inside_chart(str(one.fate.key), one.chart, overrides[one.chart]):
            kept = kept[part]
        stated: Any = original
        if "basehub" in stated and whole[0] in stated["basehub"]:
            stated = stated["basehub"]
        for part in whole:
            stated = stated[part]
        if "extraConfig" not in whole:
            assert kept == stated, one


def _until_list(path: tuple[str | int, ...]) -> list[str]:
    found = []
    for part in path:
        if isinstance(part, int):
            break
        found.append(part)
    return found


def _inside_chart(key: str, chart: str, values: dict[str, Any]) -> list[str]:
    """The path in a key such as `overrides.helm.jupyterhub.ingress.annotations.a.b/c`, whose parts may have dots."""
    rest = key.removeprefix(f"overrides.helm.{chart}.")
    path: list[str] = []
    inner: Any = values
    while rest:
        part = next(
            name
            for name in sorted(inner, key=len, reverse=True)
            if rest == name or rest.startswith(f"{name}.")
        )
        path.append(part)
        inner = inner[part]
        rest = rest[len(part) + 1 :]
    return path


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        (
            "jupyterhub-1.2-oauth-old-keys.yaml",
            "login.issuer",
            "https://sso.example.org/auth/realms/research",
        ),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "login.allow.users", ["ada", "grace", "linus"]),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "login.admins.users", ["ada", "grace"]),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "login.scopes", ["openid", "email"]),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "login.username_claim", "email"),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "notebooks.idle_timeout", "2 h"),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "hub.database.size", "2 GiB"),
        ("jupyterhub-1.2-oauth-old-keys.yaml", "kubernetes.exposure.issuer", "letsencrypt-prod"),
        (
            "jupyterhub-1.2-oauth-old-keys.yaml",
            "overrides.helm.jupyterhub.singleuser.extraFiles.startup.mode",
            0o755,
        ),
        ("jupyterhub-1.1-dummy.yaml", "login.provider", "demo"),
        ("jupyterhub-2.0-github.yaml", "login.provider", "oidc"),
        ("jupyterhub-2.0-github.yaml", "login.admins.users", ["teacher"]),
        (
            "jupyterhub-2.0-github.yaml",
            "overrides.helm.jupyterhub.hub.config.JupyterHub.authenticator_class",
            "github",
        ),
        ("jupyterhub-3.0-native.yaml", "kubernetes.exposure.kind", "load-balancer"),
        ("jupyterhub-3.0-native.yaml", "site.url", "https://lab.example.org"),
        ("jupyterhub-3.0-native.yaml", "notebooks.memory", {"guarantee": "512 MiB", "limit": "4 GiB"}),
        ("jupyterhub-3.0-native.yaml", "notebooks.cpu", {"guarantee": 0.5, "limit": 2}),
        ("jupyterhub-3.3-group-profiles.yaml", "site.url", "https://science.example.eu/lab/"),
        ("jupyterhub-3.3-group-profiles.yaml", "login.instance", "production"),
        ("jupyterhub-4.0-httproute.yaml", "login.allow.everyone", True),
        ("jupyterhub-4.0-httproute.yaml", "login.endpoints.userinfo", "https://iam.example.org/userinfo"),
        ("jupyterhub-4.0-httproute.yaml", "kubernetes.exposure.kind", "gateway-api"),
        (
            "jupyterhub-4.0-httproute.yaml",
            "kubernetes.exposure.gateway",
            {"name": "public", "namespace": "gateway-system", "listener": "https"},
        ),
        ("jupyterhub-4.0-httproute.yaml", "notebooks.idle_timeout", "never"),
        ("jupyterhub-4.0-httproute.yaml", "kubernetes.user_scheduler", True),
        ("jupyterhub-4.0-httproute.yaml", "dask.image.default", "profile"),
        (
            "jupyterhub-4.4-postgres.yaml",
            "login.callback_url",
            "https://other.example.org/hub/oauth_callback",
        ),
        ("jupyterhub-4.4-postgres.yaml", "notebooks.home.size", "20 GB"),
        (
            "jupyterhub-mixed-endpoints.yaml",
            "login.endpoints.token",
            "https://aai-demo.egi.eu/auth/realms/egi/protocol/openid-connect/token",
        ),
        ("jupyterhub-egi-authenticator.yaml", "login.provider", "egi-check-in"),
        ("jupyterhub-odd-types.yaml", "notebooks.memory.limit", "1.5 GiB"),
        ("dask-gateway-2022.4.yaml", "dask.worker.memory.default", "8 GiB"),
        ("dask-gateway-2022.4.yaml", "dask.scheduler", {"cores": 1, "memory": "4 GiB"}),
        ("dask-gateway-2022.6.1-string.yaml", "dask.cluster.max_cores", 16),
        ("dask-gateway-2022.6.1-string.yaml", "dask.cluster.max_memory", "64 GiB"),
        ("dask-gateway-2022.6.1-string.yaml", "dask.cluster.idle_timeout", "30 min"),
        ("dask-gateway-2022.6.1-string.yaml", "dask.scheduler.memory", "4 GiB"),
        ("dask-gateway-2023.9-pangeo-options.yaml", "dask.worker.cores", {"min": 1, "max": 16, "default": 2}),
        ("dask-gateway-2023.9-pangeo-options.yaml", "dask.image.choice", "tagged"),
        ("dask-gateway-2023.9-pangeo-options.yaml", "dask.cluster.max_workers", 20),
        (
            "dask-gateway-2024.1-select.yaml",
            "dask.worker.memory",
            {"min": "4 GiB", "max": "16 GiB", "default": "4 GiB"},
        ),
        (
            "dask-gateway-2026.3.yaml",
            "dask.worker.memory",
            {"min": "2 GiB", "max": "16 GiB", "default": "4 GiB"},
        ),
        ("dask-gateway-2026.3.yaml", "dask.cluster.idle_timeout", "never"),
        ("dask-gateway-options-no-handler.yaml", "dask.image.default", "example/dask:1"),
        ("daskhub-2022.6.0-eosc.yaml", "dask.cluster.max_memory", "160 GiB"),
        ("daskhub-2022.6.0-eosc.yaml", "kubernetes.model", "daskhub"),
        (
            "daskhub-2023.1.0.yaml",
            "login.allow.groups",
            ["urn:mace:egi.eu:group:vo.example.eu:role=member#aai.egi.eu"],
        ),
        ("daskhub-2024.1.1-computed.yaml", "dask.image.default", "profile"),
        ("basehub-wrapped.yaml", "login.admins.users", ["ada", "grace"]),
        ("basehub-wrapped.yaml", "overrides.helm.daskhub.nfs.pv.serverIP", "10.0.0.3"),
        (
            "anchors-and-merges.yaml",
            "overrides.helm.jupyterhub.proxy.traefik.resources.requests.memory",
            "128Mi",
        ),
    ],
)
def test_single_values(name: str, key: str, value: object) -> None:
    inner: Any = imported(name).site
    for part in key.split("."):
        inner = inner[part]
    assert inner == value


def test_profiles_and_their_sizes() -> None:
    profiles = imported("jupyterhub-2.0-github.yaml").site["notebooks"]["profiles"]
    assert profiles[0]["cpu"] == {"guarantee": 0.5, "limit": 1}
    assert profiles[0]["memory"] == {"guarantee": "1 GiB", "limit": "2 GiB"}
    assert profiles[1]["cpu"] == {"guarantee": 2, "limit": 4}
    assert profiles[1]["memory"] == {"guarantee": "8 GiB", "limit": "16 GiB"}
    assert {profile["image"] for profile in profiles} == {"jupyter/scipy-notebook:hub-3.0.0"}


def test_profiles_that_say_more_are_kept_whole() -> None:
    found = imported("jupyterhub-3.3-group-profiles.yaml")
    kept = found.site["overrides"]["helm"]["jupyterhub"]["singleuser"]["profileList"]
    assert len(kept) == 3
    assert (
        kept[2]["profile_options"]["size"]["choices"]["large"]["kubespawner_override"]["mem_limit"] == "32G"
    )
    assert fate(found, "singleuser.profileList.2.allowed_groups.0") is Kind.PASSED
    assert [profile["name"] for profile in found.site["notebooks"]["profiles"]] == [
        "Standard",
        "Standard (2)",
        "GPU",
    ]
    assert [bool(profile.get("default")) for profile in found.site["notebooks"]["profiles"]] == [
        True,
        False,
        False,
    ]


def test_foreign_authenticators_are_named() -> None:
    found = imported("jupyterhub-2.0-github.yaml")
    assert "not github" in str(leaf(found, "hub.config.JupyterHub.authenticator_class").fate.remark)
    native = imported("jupyterhub-3.0-native.yaml")
    assert fate(native, "hub.config.NativeAuthenticator.open_signup") is Kind.PASSED
    assert "for trying out alone" in next(one for one in native.chosen if one.key == "login.provider").why


def test_old_names_are_kept_under_their_new_ones() -> None:
    found = imported("jupyterhub-1.2-oauth-old-keys.yaml")
    kept = found.site["overrides"]["helm"]["jupyterhub"]["hub"]["config"]["GenericOAuthenticator"]
    assert kept == {"token_params": {"resource": "hub"}, "validate_server_cert": False}
    assert "extra_params is the old name" in str(
        leaf(found, "hub.config.GenericOAuthenticator.extra_params.resource").fate.remark
    )


def test_groups_that_are_no_entitlements_are_kept() -> None:
    found = imported("daskhub-2023.1.0.yaml")
    assert fate(found, "jupyterhub.hub.config.GenericOAuthenticator.allowed_groups.1") is Kind.PASSED


def test_later_files_count_and_the_earlier_values_are_listed() -> None:
    found = imported(*LAYERS)
    assert unaccounted(documents(*LAYERS), found) == []
    assert found.site["login"]["allow"] == {"users": ["grace", "linus"]}
    assert found.site["site"]["url"] == "https://live.example.eu"
    assert found.site["notebooks"]["memory"]["limit"] == "4 GiB"
    assert [one["name"] for one in found.site["notebooks"]["profiles"]] == ["Only"]
    replaced = [one for one in found.leaves if one.fate.kind is Kind.REPLACED]
    assert {one.where.file for one in replaced} == {LAYERS[0]}
    assert len(replaced) == 5
    assert all("stated again in jupyterhub-4.1-layer-site.yaml" in str(one.fate.remark) for one in replaced)


def test_the_order_of_the_files_matters() -> None:
    assert imported(*reversed(LAYERS)).site["login"]["allow"] == {"users": ["ada"]}


def test_shared_keys_alone_are_taken_for_jupyterhub() -> None:
    assert imported("shared-keys-only.yaml").site["overrides"]["helm"]["jupyterhub"] == {
        "rbac": {"enabled": True},
        "global": {"safeToShowValues": False},
    }


def test_two_ways_of_installing_are_not_mixed() -> None:
    with pytest.raises(ValuesError, match="two ways of installing"):
        imported("pangeo-daskhub.yaml", "protocoast-jhub.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image: x\nreplicas: 1\n", "not values of the charts"),
        ("kind: Deployment\napiVersion: apps/v1\n", "Kubernetes object"),
        ("sops: {mac: x}\nhub: {}\n", "encrypted by SOPS"),
        ("", "no values"),
        ("# nothing\n", "no values"),
        ("[1, 2]", "not a values file"),
        ("text", "not a values file"),
        ("7", "not a values file"),
    ],
)
def test_other_files_are_told(text: str, words: str) -> None:
    with pytest.raises(ValuesError, match=words):
        from_text(text)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", True),
        ("off", False),
        ("0755", 0o755),
        ("0x1F", 31),
        ("1_000", 1000),
        ("'yes'", "yes"),
        ("1e3", 1000.0),
        ("~", None),
        ("2024-01-01", "2024-01-01"),
        ("!!str 12", "12"),
        ("012345678", 12345678.0),
    ],
)
def test_scalars_are_read_as_helm_reads_them(written: str, value: object) -> None:
    kept = from_text(f"custom: {{a: {written}}}\nhub: {{}}\n").site["overrides"]["helm"]["jupyterhub"][
        "custom"
    ]["a"]
    assert kept == value
    assert type(kept) is type(value)


def test_anothers_administrators_are_kept_for_that_login() -> None:
    found = from_text(
        "hub: {config: {JupyterHub: {authenticator_class: native}, Authenticator: {admin_users: [ada]}}}"
    )
    assert found.site["login"]["admins"] == {"users": ["ada"]}
    config = found.site["overrides"]["helm"]["jupyterhub"]["hub"]["config"]
    assert config == {
        "JupyterHub": {"authenticator_class": "native"},
        "Authenticator": {"admin_users": ["ada"]},
    }


def test_a_workers_limit_is_left_out_where_it_is_the_request() -> None:
    found = from_text("gateway: {backend: {worker: {memory: {request: 4G, limit: 4G}}}}")
    (limit,) = [leaf for leaf in found.leaves if leaf.path[-1] == "limit"]
    assert (limit.fate.kind, "what was chosen" in str(limit.fate.remark)) == (Kind.DROPPED, True)
    assert found.site["dask"]["worker"]["memory"]["default"] == "4 GiB"


@pytest.mark.parametrize(
    ("cull", "idle", "age"),
    [
        ("{timeout: 7200, maxAge: 86400}", "2 h", "1 d"),
        ("{timeout: 7200, maxAge: 0}", "2 h", None),
        ("{enabled: false, maxAge: 86400}", "never", None),
    ],
)
def test_the_age_at_which_servers_are_culled_has_its_key(cull: str, idle: str, age: str | None) -> None:
    found = from_text(f"jupyterhub:\n  cull: {cull}\n")
    assert found.site["notebooks"].get("idle_timeout") == idle
    assert found.site["notebooks"].get("max_age") == age
    assert explained(found)
