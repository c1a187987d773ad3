"""A platform that plain Helm installed comes under tidehub and leaves again: the how-to pages, typed by an operator.

With stand-in charts always; with the upstream ones, and their values schemas, where `TIDEHUB_CHARTS` names them.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from deployed_site import home, put_database, schema_on_volume
from local_cluster import LocalCluster
from readme_commands import run_section
from ruamel.yaml import YAML

from tidehub.charts.lock import ChartLock
from tidehub.cli.main import run

pytestmark = pytest.mark.parametrize("helm_program", [4], indirect=True, ids=["helm4"])
VALUES = Path(__file__).parents[1] / "data" / "helm_values"
USERS = ("ana", "ben-2deu")
PVCS = ("hub-db-dir", *(f"claim-{user}" for user in USERS))
CLIENT_SECRET = "kT3xPq81mZvB-client-of-the-tests-Yw2"
GATEWAY_TOKEN = "9f31b7c2d4e8a6051c7f3e2b9d8a4c6e0f1b2d3c4a5e6f708192a3b4c5d6e7f8"
PROXY_TOKEN = "5b0c7d1e2f3a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"
KINDS = (
    *((kind, "v1") for kind in ("ConfigMap", "PersistentVolumeClaim", "Secret", "Service", "ServiceAccount")),
    *((kind, "apps/v1") for kind in ("DaemonSet", "Deployment", "StatefulSet")),
    *((kind, "networking.k8s.io/v1") for kind in ("Ingress", "NetworkPolicy")),
    *((kind, "rbac.authorization.k8s.io/v1") for kind in ("Role", "RoleBinding")),
    ("Lease", "coordination.k8s.io/v1"),
)
OPEN_KINDS = tuple((kind, version) for kind, version in KINDS if kind != "Secret")


@dataclass(frozen=True)
class Seed:
    """What runs today, by plain Helm."""

    releases: Mapping[str, tuple[str, str, tuple[str, ...]]]
    """Of each release: chart, version, values files."""
    host: str
    path: str = "/"
    own_ingress: bool = True
    """Whether the chart makes an Ingress too, over which the one by hand is applied."""

    @property
    def charts(self) -> str:
        """`--set` for the versions that run."""
        return f"kubernetes.charts={json.dumps({chart: version for chart, version, _ in self.releases.values()})}"

    @property
    def adopt(self) -> list[str]:
        return [word for name in self.releases for word in ("--adopt", name)]


PROTOCOAST = Seed(
    {
        "jupyterhub": ("jupyterhub", "3.3.8", ("protocoast-jhub.yaml", "protocoast-jhub-secrets.yaml")),
        "dask-gateway": (
            "dask-gateway",
            "2022.6.1",
            ("protocoast-dask-gateway.yaml", "protocoast-dask-gateway-secrets.yaml"),
        ),
    },
    "protocoast.vm.fedcloud.eu",
    own_ingress=False,
)
PANGEO = Seed(
    {"daskhub": ("daskhub", "2024.1.1", ("pangeo-daskhub.yaml",))}, "pangeo.vm.fedcloud.eu", "/jupyterhub/"
)
PANGEO_AS_PINNED = replace(
    PANGEO, releases={"daskhub": ("daskhub", "2022.6.0", PANGEO.releases["daskhub"][2])}
)
SEEDS = {"protocoast": PROTOCOAST, "pangeo": PANGEO, "pangeo as pinned": PANGEO_AS_PINNED}
SCHEMAS = {"3.3.8": "0eee8c825d24", "2024.1.1": "0eee8c825d24", "2022.6.0": "4dc2d5a8c53c"}
NEWEST_SCHEMA = "4621fec11365"


@pytest.fixture(params=["stand-in", "upstream"])
def charts(request: pytest.FixtureRequest) -> Path:
    """The folder of chart archives."""
    if request.param == "upstream":
        return Path(request.getfixturevalue("charts_dir"))
    # A release set knows what upstream published, and would refuse ours under those names.
    request.getfixturevalue("monkeypatch").setattr(ChartLock, "sha256", lambda self, name, version: None)
    return Path(request.getfixturevalue("standin_charts").directory)


@dataclass
class Operator:
    """Who types, and what the cluster says to them."""

    cluster: LocalCluster
    namespace: str
    helm: Path
    charts: Path
    seed: Seed
    directory: Path
    capsys: pytest.CaptureFixture[str]
    said: str = ""
    """All output so far."""

    @property
    def site(self) -> str:
        return str(self.directory / "site" / "tidehub.yaml")

    def tidehub(self, *argv: str, code: int = 0) -> str:
        """What the command printed; of one that fails both streams, unless it was asked for JSON."""
        self.capsys.readouterr()
        ended = run(argv)
        streams = self.capsys.readouterr()
        text = streams.out + streams.err
        self.said += text
        assert ended == code, f"tidehub {' '.join(argv)}\n{text}"
        assert "Traceback" not in text
        return text if code and "--json" not in argv else streams.out

    def on_site(self, command: str, *argv: str, charts: str | None = None, code: int = 0) -> str:
        """A command with the site file; `charts` as the seed's, unless others are said."""
        versions = self.seed.charts if charts is None else charts
        given = ["--set", versions] if versions else []
        return self.tidehub(command, self.site, "--offline", *given, *argv, code=code)

    def install_by_hand(self) -> None:
        """The seed's own commands, its secrets split as the charts want them; two homes; an Ingress."""
        for name, (chart, version, files) in self.seed.releases.items():
            values = []
            for file in files:
                path = self.directory / f"{name}-{file}"
                path.write_text(self.filled((VALUES / file).read_text()))
                values += ["--values", str(path)]
            archive = str(self.charts / f"{chart}-{version}.tgz")
            self.by_helm("upgrade", name, archive, "--install", "--wait", "--timeout", "90s", *values)
        for user in USERS:
            self.cluster.api.create(home(user, "csi-cinder-sc-delete"), self.namespace)
        self.cluster.api.apply(self.ingress(), self.namespace)
        for pvc in PVCS:
            self.cluster.api.wait(f"{pvc} is bound", lambda pvc=pvc: self.volumes().get(pvc))

    def filled(self, text: str) -> str:
        """The seed's values with secrets that look like some, and the test's namespace."""
        text = text.replace("test-client-secret", CLIENT_SECRET).replace("1" * 64, GATEWAY_TOKEN)
        text = text.replace("0" * 64, PROXY_TOKEN).replace("test-client-id", "hub-of-the-tests")
        if not self.seed.own_ingress:
            text = re.sub(r"(?m)^(ingress:\n  enabled: )true$", r"\1false", text)
        return text.replace(".daskhub", f".{self.namespace}")

    def ingress(self) -> dict[str, Any]:
        """As the Pangeo guide has it."""
        service = {"name": "proxy-public", "port": {"name": "http"}}
        way = {"path": self.seed.path, "pathType": "Prefix", "backend": {"service": service}}
        return {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {
                "name": "jupyterhub",
                "annotations": {
                    "cert-manager.io/cluster-issuer": "letsencrypt-prod",
                    "kubernetes.io/ingress.class": "nginx",
                },
            },
            "spec": {
                "tls": [{"hosts": [self.seed.host], "secretName": self.seed.host}],
                "rules": [{"host": self.seed.host, "http": {"paths": [way]}}],
            },
        }

    def by_helm(self, *argv: str) -> str:
        words = [str(self.helm), *argv, "--namespace", self.namespace]
        environ = {**os.environ, "KUBECONFIG": str(self.cluster.kubeconfig), "HOME": str(self.directory)}
        ended = subprocess.run(words, env=environ, capture_output=True, text=True, timeout=180)
        assert ended.returncode == 0, f"{words}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def import_values(self) -> None:
        """Steps 1 and 2 of the page: what runs is saved, and becomes a site."""
        files = []
        for name in self.seed.releases:
            path = self.directory / f"{name}.yaml"
            path.write_text(self.by_helm("get", "values", name))
            files.append(str(path))
        live = self.cluster.api.list("Ingress", self.namespace, version="networking.k8s.io/v1")
        printed = self.directory / "ingress.yaml"
        with printed.open("w") as stream:
            YAML(typ="safe").dump({"apiVersion": "v1", "kind": "List", "items": _with_kinds(live)}, stream)
        folder = str(Path(self.site).parent)
        self.tidehub("import", *files, str(printed), "--namespace", self.namespace, "--output", folder)
        self.keep_keys()
        self.tidehub("secrets", "create", self.site)

    def keep_keys(self) -> None:
        """Those that the chart made: everybody stays signed in."""
        made = self.cluster.api.get("Secret", "hub", self.namespace)
        assert made is not None
        with (Path(self.site).parent / "tidehub.secrets.yaml").open("a") as secrets:
            for name, key in (
                ("hub_cookie_secret", "JupyterHub.cookie_secret"),
                ("hub_crypt_key", "CryptKeeper.keys"),
            ):
                value = base64.b64decode(made["data"][f"hub.config.{key}"]).decode()
                # The stand-in's are no hexadecimal numbers, which a hub would refuse.
                if re.fullmatch("[0-9a-f]{64}", value):
                    secrets.write(f"{name}: {value}\n")

    def volumes(self) -> dict[str, str]:
        """Of each bound PVC."""
        found = self.cluster.api.list("PersistentVolumeClaim", self.namespace)
        return {
            one["metadata"]["name"]: one["spec"]["volumeName"]
            for one in found
            if one.get("status", {}).get("phase") == "Bound"
        }

    def objects(self, kinds: tuple[tuple[str, str], ...] = KINDS) -> list[tuple[str, dict[str, Any]]]:
        return [
            (kind, one)
            for kind, version in kinds
            for one in self.cluster.api.list(kind, self.namespace, version=version)
        ]

    def versions(self) -> dict[tuple[str, str], str]:
        """The resource version of everything that a deployment could write."""
        return {
            (kind, one["metadata"]["name"]): one["metadata"]["resourceVersion"]
            for kind, one in self.objects()
        }

    def pods(self) -> set[str]:
        return {one["metadata"]["name"] for one in self.cluster.api.list("Pod", self.namespace)}

    def assert_nothing_changes(self, charts: str | None = None) -> None:
        """`plan` finds no difference, and `deploy` writes nothing."""
        before = self.versions()
        self.on_site("plan", "--exit-code", charts=charts)
        again = json.loads(self.on_site("deploy", "--no-check", "--json", charts=charts))
        assert not again["changed"] and self.versions() == before

    def assert_no_secret_shows(self) -> None:
        """Neither in what was printed, nor in an object that is not a Secret, nor in what is not private on disk."""
        with (Path(self.site).parent / "tidehub.secrets.yaml").open() as stream:
            hidden = set(map(str, YAML(typ="safe").load(stream).values()))
        assert CLIENT_SECRET in hidden
        texts = {"output": self.said}
        texts |= {
            f"{kind} {one['metadata']['name']}": json.dumps(one) for kind, one in self.objects(OPEN_KINDS)
        }
        for path in self.directory.rglob("*"):
            readable = path.stat().st_mode & 0o077 and not path.name.startswith(tuple(self.seed.releases))
            if (
                path.is_file()
                and readable
                and not any(one.stat().st_mode & 0o077 == 0 for one in path.parents)
            ):
                texts[str(path)] = path.read_bytes().decode("utf-8", "replace")
        for one in hidden:
            forms = (one, base64.b64encode(one.encode()).decode())
            assert [where for where, said in texts.items() if any(form in said for form in forms)] == []


def _with_kinds(ingresses: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As kubectl prints them: in a list the server leaves these out of each object."""
    return [{"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", **one} for one in ingresses]


@pytest.fixture
def operator(
    cluster: LocalCluster,
    namespace: str,
    helm_program: Path,
    charts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Callable[[Seed], Operator]]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("storage classes of a given cluster are its own")
    cluster.storage_class("csi-cinder-sc-delete")
    cluster.storage_class("standard", default=True)
    for name, value in {
        "KUBECONFIG": str(cluster.kubeconfig),
        "TIDEHUB_HELM": str(helm_program),
        "TIDEHUB_CHARTS": str(charts),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }.items():
        monkeypatch.setenv(name, value)
    made: list[Operator] = []

    def begin(seed: Seed) -> Operator:
        made.append(Operator(cluster, namespace, helm_program, charts, seed, tmp_path, capsys))
        return made[-1]

    yield begin
    # What counts for the whole cluster does not go with the namespace.
    for one in made:
        for name in json.loads(one.by_helm("list", "--output", "json")):
            one.by_helm("uninstall", name["name"])
    cluster.api.delete("StorageClass", "standard", version="storage.k8s.io/v1")


@pytest.mark.parametrize("seed", SEEDS.values(), ids=list(SEEDS))
def test_what_helm_installed_is_taken_over(operator: Callable[[Seed], Operator], seed: Seed) -> None:
    me = operator(seed)
    version = next(iter(seed.releases.values()))[1]
    put_database(me.cluster, SCHEMAS[version])
    me.install_by_hand()
    volumes = me.volumes()
    me.import_values()

    # What a deployment would refuse, and with the same names what it would do.
    plan = json.loads(me.on_site("plan", "--json", code=1))
    (adoption,) = [one for one in plan["findings"] if one["kind"] == "adoption"]
    assert f"tidehub deploy {' '.join(seed.adopt)}" in adoption["fix"]
    named = json.loads(me.on_site("plan", "--json", *seed.adopt, code=0 if seed.own_ingress else 1))
    weights = [one["weight"] for one in named["findings"] if one["kind"] == "adoption"]
    assert weights == ["notice"] * len(seed.releases)
    assert not [one for one in plan["findings"] if one["kind"] == "data-loss"]

    # Refused as a whole, with the one command that names all of it.
    before, history = me.versions(), me.by_helm("list")
    refused = json.loads(me.on_site("deploy", "--no-check", "--json", code=1))
    assert refused["state"] == "nothing was changed" and " ".join(seed.adopt) in refused["fix"]
    adopt = list(seed.adopt)
    if not seed.own_ingress:
        # The Ingress by hand has the name of the one that the site makes.
        text = me.on_site("deploy", "--no-check", *adopt, code=1)
        assert "--adopt Ingress/jupyterhub" in text
        assert any("Ingress/jupyterhub" in str(one["fix"]) for one in plan["findings"])
        adopt += ["--adopt", "Ingress/jupyterhub"]
    assert me.versions() == before and me.by_helm("list") == history

    me.on_site("deploy", "--no-check", *adopt)
    assert me.volumes() == volumes
    kept = me.cluster.api.get("Ingress", "jupyterhub", me.namespace, version="networking.k8s.io/v1")
    assert kept is not None and kept["spec"]["rules"][0]["host"] == seed.host
    me.assert_nothing_changes()
    me.assert_no_secret_shows()


def test_from_older_charts_to_newer_ones_and_out_again(operator: Callable[[Seed], Operator]) -> None:
    me = operator(PROTOCOAST)
    put_database(me.cluster, SCHEMAS["3.3.8"])
    me.install_by_hand()
    me.import_values()
    me.on_site("deploy", "--no-check", *PROTOCOAST.adopt, "--adopt", "Ingress/jupyterhub")
    volumes = me.volumes()

    me.on_site("upgrade", "--no-check", charts="")
    put_database(me.cluster, NEWEST_SCHEMA)  # as the newer hub leaves it
    assert me.volumes() == volumes
    me.assert_nothing_changes(charts="")
    groups = {
        one["spec"]["group"]
        for one in me.cluster.api.list("CustomResourceDefinition", version="apiextensions.k8s.io/v1")
    }
    assert "traefik.io" in groups

    fix = json.loads(me.tidehub("rollback", me.site, "--json", code=1))["fix"]
    saved = re.search(r"--database (\S+\.tar\.gz)", fix)
    assert saved is not None
    me.tidehub("rollback", me.site, "--database", saved[1])
    assert schema_on_volume(me.cluster) == SCHEMAS["3.3.8"] and me.volumes() == volumes
    me.on_site("plan", "--exit-code")

    me.on_site("upgrade", "--no-check", charts="")
    put_database(me.cluster, NEWEST_SCHEMA)
    me.tidehub("uninstall", me.site)
    assert me.volumes() == volumes
    me.on_site("deploy", "--no-check", charts="")
    assert me.volumes() == volumes and schema_on_volume(me.cluster) == NEWEST_SCHEMA
    me.assert_nothing_changes(charts="")

    backup = str(me.directory / "backup.tar.gz")
    for volume in volumes.values():
        keep = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
        me.cluster.api.patch("PersistentVolume", volume, keep)
    me.tidehub("backup", me.site, "--target", "kubernetes", "--output", backup)
    me.cluster.api.delete("Namespace", me.namespace)
    me.cluster.api.wait(
        "the namespace is gone", lambda: me.cluster.api.get("Namespace", me.namespace) is None
    )
    put_database(me.cluster, "lost")
    back = me.directory / "back"
    said = me.tidehub("restore", backup, "--site-into", str(back))
    assert f"tidehub deploy {back / 'tidehub.yaml'}" in said
    assert me.volumes() == volumes and schema_on_volume(me.cluster) == NEWEST_SCHEMA
    assert (back / "tidehub.secrets.yaml").read_text() == (
        Path(me.site).parent / "tidehub.secrets.yaml"
    ).read_text()
    me.on_site("deploy", "--no-check", charts="")
    assert me.volumes() == volumes
    me.assert_nothing_changes(charts="")

    leave(me)
    me.assert_no_secret_shows()


def leave(me: Operator) -> None:
    """The README of the folder over what runs: nothing restarts, and plan still knows it all."""
    folder = me.directory / "platform"
    me.on_site("render", "--with-secrets", "--with-charts", "--output", str(folder), charts="")
    pods = me.pods()
    run_section(
        folder,
        "Install, and upgrade",
        kubeconfig=me.cluster.kubeconfig,
        helm=me.helm,
        namespace=me.namespace,
        kubectl=shutil.which("kubectl") is not None,
    )
    assert me.pods() == pods
    me.on_site("plan", "--exit-code", charts="")
