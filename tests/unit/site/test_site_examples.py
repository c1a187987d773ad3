"""The built-in site, and the two example sites against what the communities' own guides state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tidehub.site import builtin_site, load_site
from tidehub.site.coherence.check import check
from tidehub.site.model import Site
from tidehub.site.reading.load import Loaded, load

GIB = 2**30
EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def protocoast() -> Loaded:
    return load(EXAMPLES / "protocoast" / "tidehub.yaml")


@pytest.fixture
def pangeo() -> Loaded:
    return load(EXAMPLES / "pangeo" / "tidehub.yaml")


def test_the_builtin_site() -> None:
    site = builtin_site()
    assert check(site) == []
    assert [profile.name for profile in site.notebooks.profiles] == ["Standard", "Minimal"]
    assert site.notebooks.default_profile.name == "Standard"
    assert all(profile.packages == () and profile.lock is None for profile in site.notebooks.profiles)
    assert (site.notebooks.cpu.guarantee, site.notebooks.cpu.limit) == (0.5, 2)
    assert (site.notebooks.memory.guarantee, site.notebooks.memory.limit) == (GIB // 2, 2 * GIB)
    cluster = site.dask.cluster
    assert (cluster.max_workers, cluster.max_cores, cluster.max_memory) == (4, 6, 17 * GIB // 2)
    assert (cluster.idle_timeout, site.dask.per_user.max_clusters) == (1200.0, 2)
    assert site.dask.scheduler.memory == GIB // 2
    assert (site.login.provider, site.base_path, site.site.callback_url) == ("demo", "/", None)


def test_protocoast_carries_its_guide(protocoast: Loaded) -> None:
    site = protocoast.site
    notebooks = site.notebooks
    assert (notebooks.cpu.guarantee, notebooks.cpu.limit) == (1, 2)
    assert (notebooks.memory.guarantee, notebooks.memory.limit) == (5 * GIB, 10 * GIB)
    assert notebooks.ephemeral_storage is not None
    assert (notebooks.ephemeral_storage.guarantee, notebooks.ephemeral_storage.limit) == (4 * GIB, 8 * GIB)
    assert (notebooks.home.size, notebooks.home.storage_class) == (50 * GIB, "csi-cinder-sc-delete")
    assert [
        (profile.name, profile.description, profile.image, profile.default) for profile in notebooks.profiles
    ] == [
        (
            "ProtoCoast - main",
            "Stable production version",
            "quay.io/globalcoast/protocoast-notebook:main",
            True,
        ),
        (
            "ProtoCoast - develop",
            "Development version with latest features",
            "quay.io/globalcoast/protocoast-notebook:develop",
            False,
        ),
    ]
    dask = site.dask
    assert (dask.worker.cores.min, dask.worker.cores.max, dask.worker.cores.default) == (1, 2, 1)
    assert (dask.worker.memory.min, dask.worker.memory.max, dask.worker.memory.default) == (
        4 * GIB,
        6 * GIB,
        4 * GIB,
    )
    assert (dask.cluster.max_cores, dask.cluster.max_memory, dask.cluster.max_workers) == (
        4,
        25_769_803_776,
        3,
    )
    assert dask.cluster.idle_timeout == 1200
    assert (dask.image.default, dask.image.choice) == (
        "quay.io/globalcoast/protocoast-notebook:main",
        "tagged",
    )
    assert (site.hub.database.size, site.hub.database.storage_class) == (GIB, "csi-cinder-sc-delete")
    assert site.login.issuer_url == "https://aai-demo.egi.eu/auth/realms/egi"
    assert set(site.login.scopes) == {"openid", "profile", "email", "entitlements"}
    assert site.site.callback_url == "https://protocoast.vm.fedcloud.eu/hub/oauth_callback"
    assert site.kubernetes is not None
    exposure = site.kubernetes.exposure
    assert (exposure.kind, exposure.class_name, exposure.issuer) == ("ingress", "nginx", "letsencrypt-prod")
    assert (site.kubernetes.namespace, site.kubernetes.model, site.kubernetes.user_scheduler) == (
        "daskhub",
        "split",
        False,
    )


def test_the_examples_are_valid_without_a_warning(protocoast: Loaded, pangeo: Loaded) -> None:
    assert [one.severity for one in (*protocoast.warnings, *pangeo.warnings)] == ["note"]


def test_nobody_is_administrator_whom_the_guides_do_not_name(protocoast: Loaded, pangeo: Loaded) -> None:
    for one in (protocoast, pangeo):
        assert (one.site.login.admins.users, one.site.login.admins.groups) == ((), ())


def test_protocoasts_few_large_workers_are_a_note_with_numbers(protocoast: Loaded) -> None:
    (trap,) = protocoast.warnings
    assert (trap.severity, trap.key) == ("note", "dask.cluster.max_workers")
    assert trap.key == "dask.cluster.max_workers"
    assert "2 cores and 4 GiB: 1 (dask.cluster.max_cores)" in trap.what
    assert trap.where is not None
    assert trap.where.line > 1


def test_pangeo_carries_its_guide(pangeo: Loaded) -> None:
    site = pangeo.site
    assert site.base_path == "/jupyterhub/"
    assert site.site.callback_url == "https://pangeo.vm.fedcloud.eu/jupyterhub/hub/oauth_callback"
    assert site.login.issuer_url == "https://aai-dev.egi.eu/auth/realms/egi"
    assert site.login.scopes == ("openid", "email", "profile", "eduperson_entitlement")
    assert site.login.username_claim == "preferred_username"
    assert site.login.title == "EGI Check-In"
    assert site.login.allow.groups == ("urn:mace:egi.eu:group:vo.pangeo.eu:role=member#aai.egi.eu",)
    assert site.login.enrolment_url == "https://aai.egi.eu/registry/co_petitions/start/coef:386"
    assert site.notebooks.default_profile.image == "pangeo/ml-notebook:2025.12.30"
    assert site.kubernetes is not None
    assert (site.kubernetes.model, site.kubernetes.charts) == ("split", {})
    assert site.kubernetes.exposure.class_name == "nginx"
    assert site.infrastructure is not None
    assert site.infrastructure.cloud is not None
    assert site.infrastructure.cloud.project_id == "05e0ff6e03774082aadacc75bfc1d783"


def test_the_traps_of_pangeos_guide_are_warnings() -> None:
    admins, login, image, chart = load(
        EXAMPLES.parent / "tests" / "data" / "sites" / "pangeo" / "tidehub.yaml"
    ).warnings
    assert admins.key == "login.admins"
    assert image.key == "notebooks.profiles[0].image"
    assert "latest" in image.what
    assert chart.key == "kubernetes.charts.daskhub"
    assert "JupyterHub 1.5.0" in chart.what
    assert "JUPYTERHUB_SERVICE_URL" in chart.what
    assert login.key == "login.refresh"
    assert "at each sign-in, and not again" in login.what


@pytest.mark.parametrize("name", ["protocoast", "pangeo"])
def test_a_site_survives_the_way_through_json(name: str) -> None:
    site = load_site(EXAMPLES / name / "tidehub.yaml")
    assert Site.model_validate_json(site.model_dump_json()) == site
    assert hash(site.dask.cluster) == hash(load_site(EXAMPLES / name / "tidehub.yaml").dask.cluster)


def test_every_key_is_described() -> None:
    from tidehub.site.reading.words import _models_in

    def undescribed(model: Any, prefix: str) -> list[str]:
        missing = []
        for name, info in model.model_fields.items():
            if not info.description or not info.description.endswith("."):
                missing.append(prefix + name)
            for below in _models_in(info.annotation):
                missing += undescribed(below, f"{prefix}{name}.")
        return missing

    assert undescribed(Site, "") == []


def test_a_json_schema_can_be_made() -> None:
    schema = Site.model_json_schema()
    assert schema["required"] == ["site", "login", "notebooks"]
    memory = schema["$defs"]["Bytes"]["properties"]["limit"]
    assert (memory["type"], memory["description"]) == ("string", "What a server never exceeds.")


def test_reading_a_site_loads_no_server_software() -> None:
    program = (
        "import sys; from tidehub.site import builtin_site; builtin_site();"
        "heavy = {'jupyterhub', 'dask', 'distributed', 'tornado', 'httpx', 'dask_gateway_server', 'oauthenticator',"
        " 'sqlalchemy', 'traitlets', 'asyncio', 'rich', 'typer'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    path = {"PYTHONPATH": str(EXAMPLES.parent / "src")}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=path
    )
    assert done.stderr == ""
    assert done.stdout.strip() == "[]"
