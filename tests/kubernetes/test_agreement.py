"""`preflight`, `plan` and `deploy` say the same of every situation, and `uninstall` leaves others' things alone.

What is right in each is `tests/unit/kubernetes/test_ownership.py`'s; here every command is asked by its entry point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cluster_api import Api
from deployed_site import SiteOnCluster, home
from local_cluster import LocalCluster
from preflight_servers import LoopbackNetwork
from preflight_site import crd, made, owned, release_record
from standin_charts import StandinCharts

from tidehub.errors import TidehubError, UsageError
from tidehub.kubernetes.deploying.deploy import deploy
from tidehub.kubernetes.deploying.record import Record, ReleaseState, config_map
from tidehub.kubernetes.deploying.steps.namespace import NamespaceEnding
from tidehub.kubernetes.deploying.uninstall import Also, uninstall
from tidehub.kubernetes.deploying.words import Failure, Refused
from tidehub.kubernetes.planning.plan import plan
from tidehub.kubernetes.preflight.model import Context, Look
from tidehub.kubernetes.preflight.run import preflight

CRDS = "apiextensions.k8s.io/v1"
CRD = "middlewares.traefik.io"
OF_OWNERS = {"namespace", "releases", "other-release", "owner", "crds"}
"""Items of preflight that ask whose something is."""
MIDDLEWARE = {"kind": "Middleware", "plural": "middlewares"}
OURS = {"app.kubernetes.io/managed-by": "tidehub"}
POLICY = made(
    "networking.k8s.io/v1", "NetworkPolicy", "ours", spec={"podSelector": {}, "policyTypes": ["Ingress"]}
)
NOTE = made("v1", "ConfigMap", "hub")
ROLE = made("rbac.authorization.k8s.io/v1", "ClusterRole", "controller-dask-gateway", rules=[])
PDB = "apiVersion: policy/v1beta1\nkind: PodDisruptionBudget\nmetadata: {name: hub}\n"


@dataclass(frozen=True)
class Here:
    """Where a situation is made."""

    api: Api
    namespace: str

    def put(self, *objects: dict[str, Any]) -> None:
        for one in objects:
            self.api.create(one, self.namespace)

    def release(self, name: str, chart: str, status: str = "deployed") -> None:
        self.put(release_record(name, chart, "4.4.0", status, self.namespace))

    def recorded(self, *names: str, kept: tuple[str, ...] = ()) -> None:
        states = tuple(ReleaseState(name, name, "4.4.0", "", "", "", 1) for name in names)
        self.put(config_map(Record(releases=states, kept=kept), self.namespace))

    def crd(self, *versions: str, **meta: Any) -> None:
        one = crd("traefik.io", *versions, **MIDDLEWARE)
        one["metadata"] = {**one["metadata"], **meta}
        one["spec"]["versions"][0]["additionalPrinterColumns"] = [
            {"name": "Theirs", "type": "string", "jsonPath": ".spec.theirs"}
        ]
        self.put(one)
        self.api.wait(
            "it is served",
            lambda: "Established" in str(self.api.get("CustomResourceDefinition", CRD, version=CRDS)),
        )

    def delete_crd(self) -> None:
        self.api.delete("CustomResourceDefinition", CRD, version=CRDS)

    def gone_namespace(self) -> str:
        return f"{self.namespace}-gone"


def _ending(here: Here) -> None:
    held = home("anna")
    held["metadata"]["finalizers"] = ["example.org/guard"]
    here.put(held)
    here.api.delete("Namespace", here.namespace)


def _kept(here: Here) -> None:
    here.recorded(kept=("ConfigMap/hub",))
    here.put(owned(NOTE, "daskhub", here.namespace))


def _cut_off(here: Here) -> None:
    here.recorded("jupyterhub")
    here.release("jupyterhub", "jupyterhub", "pending-upgrade")


def _ending_crd(here: Here) -> None:
    here.crd("v1alpha1", finalizers=["example.org/guard"])
    here.delete_crd()


PULUMI = {**NOTE, "metadata": {"name": "hub", "labels": {"app.kubernetes.io/managed-by": "pulumi"}}}
Made = Callable[[Here], object]
GO, STOP = True, False
SITUATIONS: dict[str, tuple[Made, tuple[str, ...], bool]] = {
    "nothing is there": (lambda here: None, (), GO),
    "an object by hand": (lambda here: here.put(NOTE), (), STOP),
    "an object by hand, named": (lambda here: here.put(NOTE), ("ConfigMap/hub",), GO),
    "an object of another release here": (lambda here: here.put(owned(NOTE, "old", here.namespace)), (), STOP),
    "an object of a release elsewhere": (lambda here: here.put(owned(ROLE, "dask-gateway", "default")), (), STOP),
    "an object of a namespace that is gone": (
        lambda here: here.put(owned(ROLE, "dask-gateway", here.gone_namespace())), (), GO),
    "an object of a tool": (
        lambda here: here.put(PULUMI),
        (), STOP),
    "an object that an uninstallation kept": (
        lambda here: _kept(here), (), GO),
    "an own object's name, by hand": (lambda here: here.put(POLICY), (), STOP),
    "an own object of ours": (
        lambda here: here.put({**POLICY, "metadata": {"name": "ours", "labels": OURS}}), (), GO),
    "a namespace that is being deleted": (_ending, (), STOP),
    "a CRD of somebody else that serves what is wanted": (lambda here: here.crd("v1alpha1"), (), GO),
    "a CRD of somebody else that does not": (lambda here: here.crd("v1"), (), STOP),
    "a CRD of somebody else, named": (lambda here: here.crd("v1alpha1"), (CRD,), GO),
    "a CRD of somebody else with objects of another version, named": (lambda here: here.crd("v1alpha0"), (CRD,), STOP),
    "a CRD that is being deleted": (_ending_crd, (), STOP),
    "our release by somebody else": (lambda here: here.release("jupyterhub", "jupyterhub"), (), STOP),
    "our release by somebody else, named": (
        lambda here: here.release("jupyterhub", "jupyterhub"), ("jupyterhub",), GO),
    "another chart under our name": (lambda here: here.release("jupyterhub", "wordpress"), ("jupyterhub",), STOP),
    "the other model": (lambda here: here.release("daskhub", "daskhub"), (), STOP),
    "a hub under another name": (lambda here: here.release("coast", "jupyterhub"), (), STOP),
    "a gateway under another name": (lambda here: here.release("coast", "dask-gateway"), (), STOP),
    "a release that is none of a platform": (lambda here: here.release("grafana", "grafana"), (), GO),
    "what is left of an uninstalled release": (
        lambda here: here.release("jupyterhub", "jupyterhub", "uninstalled"), (), GO),
    "our own release, cut off": (
        lambda here: _cut_off(here), (), GO),
}  # fmt: skip
"""What is there, what is named with `--adopt`, and whether a deployment goes on."""


@pytest.fixture(scope="module")
def helm_program(prepared_programs: Any) -> Path:
    found: Path = prepared_programs.helm(4)
    return found


@pytest.fixture
def site(
    cluster: LocalCluster, namespace: str, standin_charts: StandinCharts, helm_program: Path
) -> Iterator[SiteOnCluster]:
    if not isinstance(cluster, LocalCluster):
        pytest.skip("what is made here is the whole cluster's")
    cluster.storage_class("homes", expands=True)
    found = SiteOnCluster.on(cluster, namespace, standin_charts, helm_program)
    found.objects = (POLICY,)
    yield found
    api, rbac = cluster.api, "rbac.authorization.k8s.io/v1"
    api.delete("ClusterRole", ROLE["metadata"]["name"], version=rbac)
    held = {"metadata": {"finalizers": None}}
    if api.get("PersistentVolumeClaim", "claim-anna", namespace):
        api.patch("PersistentVolumeClaim", "claim-anna", held, namespace)
    if api.get("CustomResourceDefinition", CRD, version=CRDS):
        api.patch("CustomResourceDefinition", CRD, held, version=CRDS)
    for name in (CRD, "ingressroutes.traefik.io", "daskclusters.gateway.dask.org"):
        api.delete("CustomResourceDefinition", name, version=CRDS)
    api.wait("the CRD is gone", lambda: api.get("CustomResourceDefinition", CRD, version=CRDS) is None)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_every_command_says_the_same(site: SiteOnCluster, situation: str) -> None:
    assert site.local is not None
    make, adopt, goes = SITUATIONS[situation]
    make(Here(site.local.api, site.namespace))
    rendered, named = site.rendered(), frozenset(adopt)

    context = Context(
        rendered.platform.site, LoopbackNetwork({}, {}), Look(site.cluster()), rendered, adopt=named
    )
    problems = [
        one for one in preflight(context) if one.item in OF_OWNERS and one.state not in ("ok", "warning")
    ]
    planned = plan(rendered, site.cluster(), site.helm(), adopt=named)
    said = {
        "preflight": [one.what for one in problems],
        "plan": [one.what for one in planned.refusals],
        "deploy": [told] if (told := _deploying(site, rendered, named)) else [],
    }
    assert {command: not words for command, words in said.items()} == dict.fromkeys(said, goes), said
    if not goes and situation != "a namespace that is being deleted":
        # Not only the same verdict: the same words.
        first = said["deploy"][0].partition(";")[0].lower()
        assert first in [words.lower() for words in said["preflight"]], said
        assert first in [words.lower().rstrip(".") for words in said["plan"]], said


def _deploying(site: SiteOnCluster, rendered: Any, named: frozenset[str]) -> str:
    """Why a deployment refuses; empty where it goes on until Helm, which is not let run."""
    work = site.work(adopt=named, save=False)
    work.helm.upgrade_install = _reached  # type: ignore[method-assign]
    try:
        deploy(rendered, work)
    except (Refused, NamespaceEnding) as refused:
        return refused.what
    except Failure as failure:
        assert str(failure).startswith("Helm was reached"), failure
    return ""


def _reached(*_: Any, **__: Any) -> None:
    raise TidehubError("Helm was reached")


def test_a_record_with_kinds_that_are_gone_is_repaired_by_all(site: SiteOnCluster) -> None:
    """`plan` used to stop where `deploy` rewrites the record."""
    assert site.local is not None
    here = Here(site.local.api, site.namespace)
    here.recorded("jupyterhub")
    here.put(release_record("jupyterhub", "jupyterhub", "4.4.0", "deployed", site.namespace, PDB))
    rendered = site.rendered()
    found = plan(rendered, site.cluster(), site.helm())
    assert not found.refusals
    assert [one.weight for one in found.findings if one.kind == "unserved"] == ["notice"]
    assert _deploying(site, rendered, frozenset()) == ""
    assert "Helm's record of jupyterhub: PodDisruptionBudget hub" in site.listener.text


def test_the_operator_goes_by_what_it_is_and_its_clusters_before_it(site: SiteOnCluster) -> None:
    """Its release is not called like its chart; a stranger's operator and its clusters stay."""
    assert site.local is not None
    api, plural = site.local.api, "daskclusters.kubernetes.dask.org"
    if api.get("CustomResourceDefinition", plural, version=CRDS) is None:
        api.create(crd("kubernetes.dask.org", "v1"))
    api.wait(
        "it is served",
        lambda: any(one.api_version == "kubernetes.dask.org/v1" for one in site.cluster().served()),
    )
    here, kind = Here(api, site.namespace), ("kubernetes.dask.org/v1", "DaskCluster")
    here.release("jupyterhub", "jupyterhub")
    here.release("dask-operator", "dask-kubernetes-operator")
    here.put(made(*kind, "anna"))
    here.recorded("jupyterhub")
    uninstall(site.work("uninstall"))
    assert [one.name for one in site.helm().list(site.namespace)] == ["dask-operator"]
    assert site.cluster().get(*kind, "anna", site.namespace) is not None

    here.release("jupyterhub", "jupyterhub")
    api.delete("ConfigMap", "tidehub", site.namespace)
    here.recorded("jupyterhub", "dask-operator")
    done = uninstall(site.work("uninstall"))
    assert site.helm().list(site.namespace) == ()
    assert site.cluster().get(*kind, "anna", site.namespace) is None
    assert done.result.journal is not None
    steps = [entry.step for entry in done.result.journal.entries if entry.state == "done"]
    assert steps[:3] == ["clusters", "release dask-operator", "release jupyterhub"]


def test_what_is_not_tidehubs_is_not_uninstalled(site: SiteOnCluster) -> None:
    assert site.local is not None
    here = Here(site.local.api, site.namespace)
    here.release("jupyterhub", "jupyterhub")
    here.put(POLICY)
    with pytest.raises(UsageError, match="tidehub did not deploy anything"):
        uninstall(site.work("uninstall"))
    here.recorded("dask-gateway")
    with pytest.raises(Refused, match=r"the release jupyterhub .* tidehub did not make it"):
        uninstall(site.work("uninstall"))
    here.crd("v1")
    uninstall(site.work("uninstall", adopt=frozenset(["jupyterhub"])), Also(crds=True))
    assert site.cluster().get(CRDS, "CustomResourceDefinition", CRD) is not None
    assert site.cluster().get("networking.k8s.io/v1", "NetworkPolicy", "ours", site.namespace) is not None
    assert site.helm().list(site.namespace) == ()
