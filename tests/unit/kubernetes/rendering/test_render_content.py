"""What is in the folder, from a platform that no Helm rendered; and rendering itself, with Helm played by a list."""

from __future__ import annotations

import gzip
import io
import tarfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from render_making import TOKEN, crd, objects, rendered, site

from tidehub.charts.documents import read_all, read_one
from tidehub.charts.fetch import ChartArchive
from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.objects import Object, write_manifest
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering import summary
from tidehub.kubernetes.rendering.capabilities import DEFAULT_KUBE_VERSION, OFFLINE_API_VERSIONS
from tidehub.kubernetes.rendering.content import NAMESPACE_FILE, files
from tidehub.kubernetes.rendering.render import render
from tidehub.kubernetes.rendering.stand_ins import secret_values, stand_in_values
from tidehub.kubernetes.rendering.yaml_text import manifest_of, text_of
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import SecretsError

CRD = write_manifest([crd()])


def packed(directory: Path, name: str = "jupyterhub", *, kube: str = ">=1.28.0-0", crds: str = CRD) -> Path:
    """A packaged chart with a CRD in it."""
    path = directory / f"{name}-4.4.0.tgz"
    texts = {
        "Chart.yaml": f'apiVersion: v2\nname: {name}\nversion: 4.4.0\nkubeVersion: "{kube}"\n',
        "crds/tides.yaml": crds,
        "values.yaml": "{}\n",
    }
    with path.open("wb") as stream, gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as zipped:
        with tarfile.open(fileobj=zipped, mode="w") as archive:
            for file, text in texts.items():
                info = tarfile.TarInfo(f"{name}/{file}")
                info.size = len(text.encode())
                archive.addfile(info, io.BytesIO(text.encode()))
    return path


class ListedHelm:
    """Gives the same manifest for every chart, and remembers what it was asked."""

    def __init__(self, manifest: Sequence[Object], *, together: int = 1) -> None:
        self.manifest = write_manifest(manifest)
        self.asked: list[dict[str, Any]] = []
        self._together = threading.Barrier(together, timeout=20)

    def render(self, chart: Path, values: Mapping[str, Any], **options: Any) -> str:
        self.asked.append({"chart": chart, "values": values, **options})
        self._together.wait()
        return self.manifest


def platform(*names: str) -> Platform:
    secrets = {"hub": {"token": Secret(TOKEN)}}
    releases = tuple(Release(name, name, "4.4.0", {"hub": {"baseUrl": "/"}}, secrets) for name in names)
    return Platform(site(), "daskhub", "2026.11", "split", releases)


def archives(directory: Path, *names: str, **options: str) -> dict[str, ChartArchive]:
    return {name: ChartArchive(name, "4.4.0", packed(directory, name, **options), "0" * 64) for name in names}


# --- rendering --------------------------------------------------------------------------------


def test_releases_are_rendered_at_the_same_time_and_stay_in_order(tmp_path: Path) -> None:
    helm = ListedHelm(objects(), together=3)
    names = ("c", "a", "b")
    found = render(platform(*names), archives(tmp_path, *names), helm)  # type: ignore[arg-type]
    assert tuple(one.release.name for one in found.releases) == names
    assert all(list(one.objects) == objects() for one in found.releases)


def test_helm_gets_the_secrets_and_what_a_cluster_serves(tmp_path: Path) -> None:
    helm = ListedHelm(objects())
    render(platform("jupyterhub"), archives(tmp_path, "jupyterhub"), helm)  # type: ignore[arg-type]
    (asked,) = helm.asked
    assert asked["values"] == {"hub": {"baseUrl": "/", "token": Secret(TOKEN)}}
    assert (asked["release"], asked["namespace"], asked["is_upgrade"]) == ("jupyterhub", "daskhub", False)
    assert asked["kube_version"] == DEFAULT_KUBE_VERSION
    assert asked["api_versions"] == OFFLINE_API_VERSIONS
    assert "networking.k8s.io/v1/Ingress" in asked["api_versions"]
    render(
        platform("jupyterhub"),
        archives(tmp_path, "jupyterhub"),
        helm,  # type: ignore[arg-type]
        kube_version="v1.31.2+k3s1",
        api_versions=["v1"],
        upgrade=True,
    )
    assert helm.asked[1]["kube_version"] == "v1.31.2+k3s1"
    assert (helm.asked[1]["api_versions"], helm.asked[1]["is_upgrade"]) == (("v1",), True)


def test_hooks_and_crds_are_apart(tmp_path: Path) -> None:
    def hook(name: str, kinds: str) -> Object:
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "annotations": {"helm.sh/hook": kinds}},
        }

    made = [
        *objects(),
        hook("pull", "pre-install,pre-upgrade"),
        hook("try", "test"),
        hook("old", "test-success"),
    ]
    found = render(platform("jupyterhub"), archives(tmp_path, "jupyterhub"), ListedHelm(made))  # type: ignore[arg-type]
    one = found.releases[0]
    assert list(one.objects) == objects()
    assert [obj["metadata"]["name"] for obj in one.hooks] == ["pull"]
    assert [crd["metadata"]["name"] for crd in found.crds] == ["tides.example.org"]


def test_a_cluster_outside_of_the_charts_range(tmp_path: Path) -> None:
    helm = ListedHelm(objects())
    with pytest.raises(TidehubError, match=r"does not support Kubernetes 1\.27\.9"):
        render(
            platform("jupyterhub"),
            archives(tmp_path, "jupyterhub"),
            helm,  # type: ignore[arg-type]
            kube_version="1.27.9",
        )
    assert helm.asked == []
    with pytest.raises(TidehubError, match="cannot be compared"):
        render(
            platform("jupyterhub"),
            archives(tmp_path, "jupyterhub"),
            helm,  # type: ignore[arg-type]
            kube_version="newest",
        )


def test_without_an_archive() -> None:
    with pytest.raises(TidehubError, match="no archive was found of the chart jupyterhub"):
        render(platform("jupyterhub"), {}, ListedHelm([]))  # type: ignore[arg-type]


# --- the folder -------------------------------------------------------------------------------


def test_the_files(tmp_path: Path) -> None:
    own: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"a": "b"}}
    found = files(rendered(own=[own], archive=packed(tmp_path)), with_secrets=False, with_charts=False)
    assert set(found) == {
        "README.md",
        "charts.yaml",
        "values/jupyterhub.yaml",
        "secrets/jupyterhub.secrets.yaml",
        "manifests/jupyterhub.yaml",
        "crds/jupyterhub-tides.yaml",
        NAMESPACE_FILE,
        "objects/configmap-own.yaml",
    }
    assert found["crds/jupyterhub-tides.yaml"].content.decode() == CRD
    assert read_all(found["manifests/jupyterhub.yaml"].content) == objects()
    assert read_one(found[NAMESPACE_FILE].content)["metadata"]["name"] == "daskhub"
    assert [name for name, file in found.items() if file.private] == ["secrets/jupyterhub.secrets.yaml"]


def test_with_secrets_what_shows_them_is_private(tmp_path: Path) -> None:
    found = files(rendered(archive=packed(tmp_path)), with_secrets=True, with_charts=True)
    private = {name for name, file in found.items() if file.private}
    assert private == {"secrets/jupyterhub.secrets.yaml", "manifests/jupyterhub.yaml"}
    assert read_one(found["secrets/jupyterhub.secrets.yaml"].content) == {"hub": {"token": TOKEN}}
    assert found["charts/jupyterhub-4.4.0.tgz"].content == packed(tmp_path).read_bytes()
    for name, file in found.items():
        if name not in private:
            assert TOKEN.encode() not in file.content, name


def test_a_pvc_that_helm_deletes_is_told(tmp_path: Path) -> None:
    given = rendered(archive=packed(tmp_path))
    text = files(given, with_secrets=False, with_charts=False)["README.md"].content.decode()
    assert "It deletes the PVC `hub-db-dir`" in text
    pvc = next(obj for obj in given.releases[0].objects if obj["kind"] == "PersistentVolumeClaim")
    pvc["metadata"]["annotations"] = {"helm.sh/resource-policy": "keep"}
    text = files(given, with_secrets=False, with_charts=False)["README.md"].content.decode()
    assert "It keeps the PVC `hub-db-dir`" in text


def test_objects_of_one_kind_and_name_in_two_groups_are_two_files(tmp_path: Path) -> None:
    own: list[Object] = [
        {"apiVersion": f"{group}/v1", "kind": "Gateway", "metadata": {"name": "a"}}
        for group in ("x.org", "y.org")
    ]
    found = files(rendered(own=own, archive=packed(tmp_path)), with_secrets=False, with_charts=False)
    assert {"objects/gateway-a.yaml", "objects/gateway-a-2.yaml"} <= set(found)


# --- texts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a\nb\n",
        "a\n  b",
        "a \nb",
        "\ta\nb",
        " a\nb",
        "\na",
        "a\n\n\nb",
        "yes",
        "1e3",
        "0x1",
        "null",
        "",
        "#",
        "ä\nö",
        "x" * 400,
    ],
)
def test_texts_come_back_as_they_were(text: str) -> None:
    assert read_one(text_of({"a": text})) == {"a": text}
    obj = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": text}}
    assert read_all(manifest_of([obj, obj])) == [obj, obj]


@pytest.mark.parametrize("text", ["1e3", "1_000", "0o17", "12:30:00", "y", "Off", "NULL", "+1", "4.4.0"])
def test_what_some_program_takes_for_no_text_is_quoted(text: str) -> None:
    assert text_of({"a": text}) == f"a: '{text}'\n"


def test_code_is_readable_and_keys_are_sorted() -> None:
    assert text_of({"b": "x = 1\ny = 2\n", "a": 1}) == "a: 1\nb: |\n  x = 1\n  y = 2\n"


def test_an_object_begins_with_what_it_is() -> None:
    obj = {"spec": {}, "metadata": {"name": "a"}, "data": {}, "kind": "K", "apiVersion": "v1"}
    keys = [line.split(":")[0] for line in manifest_of([obj]).splitlines() if line[0] not in " -"]
    assert keys == ["apiVersion", "kind", "metadata", "data", "spec"]


# --- secrets by name --------------------------------------------------------------------------


def test_names_take_the_places_of_secrets(tmp_path: Path) -> None:
    file = tmp_path / "tidehub.yaml"
    values = stand_in_values(file, site(), {})
    names = {one.path: one.name for one in secret_values(values)}
    assert names["jupyterhub.hub.services.dask-gateway.apiToken"] == "gateway_token"
    assert names["dask-gateway.gateway.auth.jupyterhub.apiToken"] == "gateway_token"
    assert names["jupyterhub.hub.config.CryptKeeper.keys[0]"] == "hub_crypt_key"
    assert all(one.purpose for one in secret_values(values))


def test_secrets_that_no_declaration_knows_have_names_too(tmp_path: Path) -> None:
    file = tmp_path / "tidehub.yaml"
    hidden = tmp_path / "tidehub.secrets.yaml"
    hidden.touch(mode=0o600)
    hidden.write_text("overrides:\n  jupyterhub:\n    hub: {extraEnv: {KEY: a-very-secret-value}}\n")
    values = stand_in_values(file, site(), {"TIDEHUB_SECRET_DATABASE_PASSWORD": "another-secret-value"})
    found = {one.path: one for one in secret_values(values)}
    assert found["jupyterhub.hub.extraEnv.KEY"].name == "overrides.jupyterhub.hub.extraEnv.KEY"
    assert found["jupyterhub.hub.extraEnv.KEY"].purpose is None
    assert found["jupyterhub.hub.db.password"].name == "database_password"


def test_a_damaged_file_of_secrets_is_told(tmp_path: Path) -> None:
    hidden = tmp_path / "tidehub.secrets.yaml"
    hidden.touch(mode=0o600)
    hidden.write_text("gateway_token: [\n")
    with pytest.raises(SecretsError):
        stand_in_values(tmp_path / "tidehub.yaml", site(), {})


# --- what is said -----------------------------------------------------------------------------


def test_the_summary() -> None:
    said = summary.lines(rendered(), [], None)
    assert said[1] == "  jupyterhub: chart jupyterhub 4.4.0, 9 objects, 1 CRDs"
    assert "--output" in said[-1]
    found = summary.as_dict(rendered(), [], Path("out"))
    assert found["folder"] == "out"
    assert found["releases"][0]["crds"] == ["tides.example.org"]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [("jupyterhub", 9), ("jupyterhub/Service", 1), ("jupyterhub/service/hub", 1), ("tidehub", 1)],
)
def test_objects_by_name(wanted: str, count: int) -> None:
    own: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}}
    assert len(summary.shown(rendered(own=[own]), wanted)) == count


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("hub", "one of jupyterhub, tidehub"),
        ("jupyterhub/Service/x", "one of jupyterhub/Service/hub"),
        ("jupyterhub/Cow", "one of jupyterhub/ClusterRoleBinding"),
        ("tidehub", "renders no object"),
    ],
)
def test_objects_that_are_not_there(wanted: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        summary.shown(rendered(), wanted)
    assert said in str(caught.value)
