"""Our files for notebook servers in the chart's values: on every chart, beside the site's own, for old Pythons too."""

from __future__ import annotations

import ast
import gzip
import json
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from jsonschema import Draft7Validator
from value_sites import PLAIN, built, hub_values, schema, site

from tidehub.errors import TidehubError
from tidehub.kubernetes.values.notebook_files import CONFIG, FOLDER
from tidehub.local import notebook_side

CHARTS = {
    "split": "{model: split}",
    "hub 4": "{model: split, charts: {jupyterhub: 3.3.8}}",
    "hub 3": "{model: split, charts: {jupyterhub: 2.0.0}}",
    "hub 1.4": "{model: split, charts: {jupyterhub: 1.0.0, dask-gateway: 2022.6.1}}",
    "daskhub": "{model: daskhub}",
    "daskhub 2022.6": "{model: daskhub, charts: {daskhub: 2022.6.0}}",
}
MODELS = (CHARTS["split"], CHARTS["daskhub"])
WITHOUT_DASK = "dask: {engine: none}\n"
OURS = Path(notebook_side.__file__).parent
MINE = {
    "mountPath": f"{CONFIG}/jupyter_server_config.py",
    "stringData": "c.ServerApp.shutdown_no_activity_timeout = 9",
}


def servers(kubernetes: str, own: dict[str, Any] | None = None, more: str = "") -> dict[str, Any]:
    """`singleuser` of the chart's values, with the operator's `own` laid over it."""
    words = f"overrides: {json.dumps({'helm': {'jupyterhub': {'singleuser': own}}})}\n" if own else ""
    return dict(hub_values(site(PLAIN, kubernetes, words + more))["singleuser"])


def mounted(kubernetes: str, more: str = "") -> dict[str, str]:
    """Path in the pod to content."""
    files = servers(kubernetes, more=more)["extraFiles"]
    assert all(name.startswith("tidehub-notebook-") for name in files)
    return {file["mountPath"]: file["stringData"] for file in files.values()}


@pytest.mark.parametrize("kubernetes", CHARTS.values(), ids=CHARTS)
def test_the_same_files_as_on_one_machine_are_in_every_pod(kubernetes: str) -> None:
    files = mounted(kubernetes)
    programs = {path: text for path, text in files.items() if path.startswith(f"{FOLDER}/")}
    assert programs == {
        f"{FOLDER}/{name}.py": (OURS / f"{name}.py").read_text()
        for name in ("busy_kernels", "dask_clusters", "dask_dashboards", "pod_server")
    }
    others = {PurePosixPath(path) for path in set(files) - set(programs)}
    assert {path.parent for path in others} == {
        PurePosixPath(CONFIG),
        PurePosixPath(f"{CONFIG}/jupyter_server_config.d"),
        PurePosixPath(f"{CONFIG}/jupyter_notebook_config.d"),
    }


def test_without_dask_only_busy_kernels_are_told() -> None:
    names = {PurePosixPath(path).name for path in mounted(CHARTS["split"], WITHOUT_DASK)}
    assert {"busy_kernels.py", "pod_server.py", "jupyter_config.py"} < names
    assert not any("dask" in name for name in names)


def test_none_hides_what_images_keep_there() -> None:
    """docker-stacks, repo2docker and Pangeo's images have these, and JupyterHub's users mount them."""
    kept = {"jupyter_server_config.py", "jupyter_server_config.json", "jupyter_notebook_config.py"}
    for path in mounted(CHARTS["split"]):
        assert not path.startswith("/etc/")
        assert PurePosixPath(path).name not in kept


@pytest.mark.parametrize("name", ["busy_kernels", "dask_clusters", "dask_dashboards", "pod_server"])
def test_what_runs_in_images_is_written_for_their_python_and_needs_nothing_of_ours(name: str) -> None:
    tree = ast.parse((OURS / f"{name}.py").read_text(), feature_version=(3, 8))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    froms = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    imported |= {str(node.module) for node in froms}
    assert not any(module.split(".")[0] == "tidehub" for module in imported)
    # Newer than 3.8: datetime.UTC, str.removeprefix, asyncio.timeout, itertools.batched, zip(strict=).
    assert not any(alias.name == "UTC" for node in froms for alias in node.names)
    asked = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not asked & {"UTC", "removeprefix", "removesuffix", "timeout", "TaskGroup", "to_thread", "batched"}


@pytest.mark.parametrize("kubernetes", MODELS)
def test_the_sites_own_files_stay_beside_ours(kubernetes: str) -> None:
    volume = {"name": "data", "mountPath": "/usr/local/share/data"}
    own = {"extraFiles": {"mine": MINE}, "storage": {"extraVolumeMounts": [volume]}}
    found = servers(kubernetes, own)
    assert found["extraFiles"]["mine"] == MINE
    assert found["storage"]["extraVolumeMounts"] == [volume]
    assert {key for key in found["extraFiles"] if key != "mine"} == set(servers(kubernetes)["extraFiles"])


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("tidehub-notebook-busy_kernels.py", "/etc/mine/busy.py"),
        ("mine", f"{CONFIG}/jupyter_config.py"),
        ("mine", f"{CONFIG}//jupyter_server_config.d/tidehub-server.json"),
        ("mine", f"{FOLDER}/more.py"),
        ("mine", FOLDER),
        ("mine", CONFIG),
    ],
)
@pytest.mark.parametrize("kubernetes", MODELS)
def test_a_file_in_the_place_of_ours_is_named(kubernetes: str, name: str, path: str) -> None:
    with pytest.raises(TidehubError) as refused:
        servers(kubernetes, {"extraFiles": {name: {"mountPath": path, "stringData": "x"}}})
    assert "singleuser.extraFiles" in str(refused.value) and name in str(refused.value)
    assert "jupyter_server_config.py" in str(refused.value)


@pytest.mark.parametrize(
    "volumes", [[{"mountPath": "/usr/local/etc"}], {"conf": {"mountPath": f"{CONFIG}/"}}]
)
def test_a_volume_around_ours_is_named(volumes: Any) -> None:
    with pytest.raises(
        TidehubError, match=r"singleuser\.storage\.extraVolumeMounts(\[0\]|\.conf) is mounted at"
    ):
        servers(CHARTS["split"], {"storage": {"extraVolumeMounts": volumes}})


@pytest.mark.parametrize(
    "wrong", [{"extraFiles": ["x"]}, {"extraFiles": {"mine": "x"}}, {"storage": {"extraVolumeMounts": "x"}}]
)
def test_values_of_another_shape_are_left_to_the_charts_schema(wrong: dict[str, Any]) -> None:
    found = servers(CHARTS["split"], wrong)
    assert list(Draft7Validator(schema("jupyterhub", "4.4.0")).iter_errors({"singleuser": found}))


def test_they_take_little_of_a_release() -> None:
    """Helm keeps a release, gzipped, in a Secret of at most 1 MiB; the chart repeats the values in the hub's Secret."""
    values = built(site(PLAIN, CHARTS["split"])).releases[0].values
    without = {**values, "singleuser": {**values["singleuser"], "extraFiles": {}}}
    sizes = [json.dumps(one).encode() for one in (values, without)]
    assert len(sizes[0]) - len(sizes[1]) < 24 * 1024
    assert len(gzip.compress(sizes[0])) - len(gzip.compress(sizes[1])) < 8 * 1024
