"""There and back: an imported site gives Helm what it had, and what tidehub renders is imported as it was."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from helm_values import EXAMPLES, SEEDS, VARIED, documents, imported, tried
from ruamel.yaml import YAML

from tidehub.importing.build import import_documents
from tidehub.importing.command import Done
from tidehub.importing.round_trip import differences, is_equal, rendered_otherwise, upstream_login
from tidehub.importing.site_text import site_text
from tidehub.importing.values_yaml import Document, read_values
from tidehub.site import load_site
from tidehub.site.destinations.catalogue import carried_data, helm_fragments
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

ALL = [*SEEDS.values(), *((name,) for name in VARIED)]


@pytest.mark.parametrize("names", ALL, ids=lambda names: names[0])
def test_what_was_understood_comes_back(names: tuple[str, ...], tmp_path: Path) -> None:
    done: Done = tried(tmp_path, *names)
    assert done.otherwise == ()


def test_most_varied_files_take_part(tmp_path: Path) -> None:
    complete = [names for names in ALL if tried(tmp_path, *names).is_complete]
    assert len(complete) >= 20


@pytest.mark.parametrize(
    ("key", "value", "leaf"),
    [
        ("notebooks.memory.limit", "11 GiB", "singleuser.memory.limit"),
        ("dask.cluster.max_memory", "17 GiB", "gateway.extraConfig.00-limits"),
        ("dask.worker.cores.max", 3, "gateway.extraConfig.10-options"),
        ("kubernetes.exposure.class", "traefik", "ingress.ingressClassName"),
        ("dask.image.choice", "any", "gateway.extraConfig.10-options"),
        ("login.client_id", "other", "hub.config.GenericOAuthenticator.client_id"),
        ("login.scopes", ["openid", "entitlements"], "hub.config.GenericOAuthenticator.scope.1"),
        ("site.url", "https://other.example.org", "ingress.hosts.0"),
    ],
)
def test_a_value_that_changed_on_the_way_is_noticed(key: str, value: Any, leaf: str) -> None:
    names = SEEDS["protocoast"]
    found = imported(*names)
    inner: Any = found.site
    *above, last = key.split(".")
    for part in above:
        inner = inner[part]
    inner[last] = value
    site = load_text(site_text(found, secrets_file="x"), "tidehub.yaml").site
    noticed = [
        ".".join(map(str, one.leaf.path)) for one in rendered_otherwise(found, documents(*names), site)
    ]
    assert leaf in noticed


def test_every_difference_has_a_remark() -> None:
    for names in ALL:
        assert all(leaf.fate.remark for leaf in differences(imported(*names)))


_OPTIONS = """
from dask_gateway_server.options import Float, Integer, Options, String

def handler(options):
    config = {{"worker_cores": options.worker_cores, "worker_memory": round(options.worker_memory * 2**30)}}
    if options.image:
        if ":" not in options.image:
            raise ValueError("no tag")
        config["image"] = options.image
    return config

c.Backend.cluster_options = Options(
    Integer("worker_cores", {cores[default]}, min={cores[min]}, max={cores[max]}),
    Float("worker_memory", {memory[default]}, min={memory[min]}, max={memory[max]}),
    String("image", default={image!r}),
    handler=handler,
)
"""


def _rendered(site: Site) -> list[Document]:
    """What tidehub renders, with what travels in its code in the words of the charts' own programs."""
    carried, found = carried_data(site), []
    dask = carried["SiteBackend"]["site"]["dask"]
    memory = {bound: size / 2**30 for bound, size in dask["worker"]["memory"].items()}
    image = dask["image"]["default"].replace("profile", "")
    options = _OPTIONS.format(cores=dask["worker"]["cores"], memory=memory, image=image)
    for chart, values in helm_fragments(site).items():
        charts = values if chart == "daskhub" else {chart: values}
        if "jupyterhub" in charts:
            config = charts["jupyterhub"]["hub"]["config"]
            login = config.setdefault("GenericOAuthenticator", {})
            config["GenericOAuthenticator"] = login | upstream_login(carried)
        if "dask-gateway" in charts:
            charts["dask-gateway"]["gateway"]["extraConfig"]["20-options"] = options
        stream = io.StringIO()
        YAML(typ="safe", pure=True).dump(values, stream)
        found.append(read_values(stream.getvalue(), f"{chart}.yaml"))
    return found


@pytest.mark.parametrize("name", ["pangeo", "protocoast"])
def test_what_tidehub_renders_is_imported_as_it_was(name: str) -> None:
    site = load_site(EXAMPLES / name / "tidehub.yaml")
    found = import_documents(_rendered(site))
    again = load_text(site_text(found, secrets_file="x"), "tidehub.yaml").site
    assert again.site.url == site.site.url
    for key in ("provider", "instance", "client_id", "scopes", "username_claim", "allow"):
        assert getattr(again.login, key) == getattr(site.login, key), key
    for key in ("cpu", "memory", "ephemeral_storage", "home", "idle_timeout", "profiles"):
        assert getattr(again.notebooks, key) == getattr(site.notebooks, key), key
    for key in ("engine", "worker", "scheduler"):
        assert getattr(again.dask, key) == getattr(site.dask, key), key
    for key in ("max_workers", "max_cores", "max_memory", "idle_timeout"):
        assert getattr(again.dask.cluster, key) == getattr(site.dask.cluster, key), key
    assert again.dask.image.choice == site.dask.image.choice
    assert again.hub == site.hub
    assert again.kubernetes is not None
    assert site.kubernetes is not None
    assert again.kubernetes.model == site.kubernetes.model
    assert again.kubernetes.exposure == site.kubernetes.exposure


@pytest.mark.parametrize(
    ("original", "rendered", "same"),
    [
        ("8 G", "8G", True),
        ("8G", 8 * 2**30, True),
        ("50Gi", "51200Mi", True),
        ("/lab", "/lab/", True),
        ("{A}", "{{A}}", True),
        (1, 1.0, True),
        (1, True, False),
        ("8G", "9G", False),
        ("a", "b", False),
        ("a", None, False),
        (["a"], ["a"], True),
    ],
)
def test_equal_values(original: Any, rendered: Any, same: bool) -> None:
    assert is_equal(original, rendered) is same
