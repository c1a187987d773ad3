"""The two deployments that tidehub comes from: their values import, validate, and say what the examples say."""

from __future__ import annotations

from pathlib import Path

import pytest
from helm_values import (
    EXAMPLES,
    PANGEO,
    PROTOCOAST,
    PROTOCOAST_SHARED,
    SEEDS,
    VALUES,
    documents,
    fate,
    imported,
    leaf,
    tried,
)

from tidehub.importing.command import import_files
from tidehub.importing.fates import Kind
from tidehub.importing.round_trip import explained, unaccounted
from tidehub.site import load_site
from tidehub.site.model import Site
from tidehub.site.reading.load import load

GIB = 2**30


@pytest.fixture
def pangeo(tmp_path: Path) -> Site:
    import_files([VALUES / name for name in PANGEO], tmp_path)
    return load_site(tmp_path / "tidehub.yaml")


@pytest.fixture
def protocoast(tmp_path: Path) -> Site:
    import_files([VALUES / name for name in PROTOCOAST], tmp_path)
    return load_site(tmp_path / "tidehub.yaml")


@pytest.mark.parametrize("names", SEEDS.values(), ids=SEEDS)
def test_every_value_of_the_seeds_is_accounted_for(names: tuple[str, ...]) -> None:
    found = imported(*names)
    assert unaccounted(documents(*names), found) == []
    assert explained(found)
    assert [one for one in found.leaves if one.fate.kind is Kind.PASSED] == [], (
        "nothing of the seeds is foreign"
    )


@pytest.mark.parametrize("names", [PANGEO, PROTOCOAST, PROTOCOAST_SHARED], ids=["pangeo", "split", "shared"])
def test_the_site_files_are_complete(names: tuple[str, ...], tmp_path: Path) -> None:
    done = import_files([VALUES / name for name in names], tmp_path)
    assert done.is_complete
    assert load(tmp_path / "tidehub.yaml").site.login.provider == "egi-check-in"


def test_pangeo_says_what_the_example_says(pangeo: Site) -> None:
    example = load_site(EXAMPLES.parent / "tests" / "data" / "sites" / "pangeo" / "tidehub.yaml")
    assert pangeo.site.url == example.site.url
    assert pangeo.site.callback_url == example.site.callback_url
    assert pangeo.site.name == example.site.name
    for key in ("provider", "instance", "scopes", "username_claim", "allow", "admins", "issuer_url"):
        assert getattr(pangeo.login, key) == getattr(example.login, key), key
    assert [one.image for one in pangeo.notebooks.profiles] == [
        one.image for one in example.notebooks.profiles
    ]
    assert pangeo.notebooks.home == example.notebooks.home
    assert pangeo.notebooks.cpu == example.notebooks.cpu
    assert pangeo.notebooks.memory == example.notebooks.memory
    assert pangeo.dask.engine == example.dask.engine
    assert pangeo.dask.scheduler == example.dask.scheduler
    assert pangeo.dask.worker.cores.default == example.dask.worker.cores.default
    assert pangeo.dask.worker.memory.default == example.dask.worker.memory.default
    assert pangeo.kubernetes is not None
    assert example.kubernetes is not None
    assert pangeo.kubernetes.model == example.kubernetes.model
    assert pangeo.kubernetes.namespace == example.kubernetes.namespace
    assert pangeo.kubernetes.exposure.kind == example.kubernetes.exposure.kind
    assert pangeo.kubernetes.exposure.class_name == example.kubernetes.exposure.class_name


def test_the_hand_written_ingress_adds_the_issuer(tmp_path: Path) -> None:
    done = tried(tmp_path, "pangeo-daskhub.yaml", "pangeo-guide-ingress.yaml")
    assert done.imported.site["kubernetes"]["exposure"] == {
        "kind": "ingress",
        "class": "nginx",
        "issuer": "letsencrypt-prod",
    }
    assert done.imported.site["kubernetes"]["namespace"] == "daskhub"


def test_protocoast_says_what_the_example_says(protocoast: Site) -> None:
    example = load_site(EXAMPLES / "protocoast" / "tidehub.yaml")
    assert protocoast.site.url == example.site.url
    for key in ("provider", "instance", "scopes", "username_claim", "issuer_url"):
        assert getattr(protocoast.login, key) == getattr(example.login, key), key
    notebooks = protocoast.notebooks
    for key in ("cpu", "memory", "ephemeral_storage", "home", "profiles"):
        assert getattr(notebooks, key) == getattr(example.notebooks, key), key
    dask = protocoast.dask
    for key in ("engine", "worker", "scheduler", "image"):
        assert getattr(dask, key) == getattr(example.dask, key), key
    assert (dask.cluster.max_workers, dask.cluster.max_cores) == (3, 4)
    assert dask.cluster.idle_timeout == example.dask.cluster.idle_timeout
    # The guide contradicts itself: its values say 16 GiB, its text means 24. The values are what is imported.
    assert dask.cluster.max_memory == 16 * GIB
    assert example.dask.cluster.max_memory == 24 * GIB
    assert protocoast.hub == example.hub
    assert protocoast.kubernetes is not None
    assert example.kubernetes is not None
    for key in ("namespace", "model", "exposure", "user_scheduler"):
        assert getattr(protocoast.kubernetes, key) == getattr(example.kubernetes, key), key


def test_the_contradiction_of_protocoast_is_told(tmp_path: Path) -> None:
    done = tried(tmp_path, *PROTOCOAST)
    said = " ".join(str(problem) for problem in done.problems)
    assert "1 core and 6 GiB: 2 (dask.cluster.max_memory)" in said
    assert "2 cores and 4 GiB: 1 (dask.cluster.max_cores)" in said


def test_values_without_a_rule_admit_nobody_and_say_so() -> None:
    found = imported(*PROTOCOAST)
    assert found.site["login"]["allow"] == {"groups": ["urn:mace:egi.eu:group:nobody.invalid:role=member"]}
    chosen = next(one for one in found.chosen if one.key == "login.allow.groups")
    assert "do not say who may enter" in chosen.why


def test_the_shared_secrets_file_is_split() -> None:
    found = imported(*PROTOCOAST_SHARED)
    charts = {
        (one.chart, one.path[0]) for one in found.leaves if one.where.file == "protocoast-values-secrets.yaml"
    }
    assert charts == {("jupyterhub", "hub"), ("dask-gateway", "gateway")}
    assert fate(found, "gateway.auth.jupyterhub.apiToken") is Kind.SECRET
    assert fate(found, "hub.services.dask-gateway.apiToken") is Kind.SECRET
    assert found.model == "split"


@pytest.mark.parametrize(
    ("key", "kind", "words"),
    [
        ("dask-gateway.enabled", Kind.DROPPED, "no effect"),
        ("dask-gateway.gateway.auth.simple.password", Kind.DROPPED, "not used"),
        ("dask-gateway.gateway.auth.type", Kind.DROPPED, "one password for everybody"),
        ("dask-kubernetes.enabled", Kind.DROPPED, "has ended"),
        ("jupyterhub.hub.config.GenericOAuthenticator.username_key", Kind.TRANSLATED, "username_claim"),
        ("jupyterhub.hub.config.GenericOAuthenticator.claim_groups_key", Kind.DROPPED, "reads both"),
        ("jupyterhub.hub.config.GenericOAuthenticator.userdata_params.state", Kind.DROPPED, "nothing reads"),
        ("jupyterhub.ingress.annotations.kubernetes.io/ingress.class", Kind.TRANSLATED, "old way"),
        ("jupyterhub.singleuser.image.tag", Kind.TRANSLATED, "latest changes"),
        ("jupyterhub.proxy.secretToken", Kind.SECRET, "placeholder"),
    ],
)
def test_old_keys_of_pangeo_have_a_remark(key: str, kind: Kind, words: str) -> None:
    found = imported(*PANGEO)
    assert fate(found, key) is kind
    assert words in str(leaf(found, key).fate.remark)


def test_remarks_have_the_place_of_the_key() -> None:
    found = imported(*PANGEO)
    text = (VALUES / "pangeo-daskhub.yaml").read_text(encoding="utf-8").splitlines()
    for one in found.leaves:
        key = next(part for part in reversed(one.path) if isinstance(part, str))
        item = isinstance(one.path[-1], int)
        here = text[one.where.line - 1][one.where.column - 1 :]
        assert item or here.startswith(key), one
    where = leaf(found, "jupyterhub.hub.config.GenericOAuthenticator.username_key").where
    assert str(where) == "pangeo-daskhub.yaml:29:9"
