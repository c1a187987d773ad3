"""What single steps decide: whose a CRD is, what stays when a release goes, when an address answers."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from memory_cluster import MemoryCluster

from tidehub.errors import TidehubError
from tidehub.kubernetes.cluster.port import ClusterProblem, ServedKind
from tidehub.kubernetes.deploying.journal import Journal
from tidehub.kubernetes.deploying.record import Record, ReleaseState
from tidehub.kubernetes.deploying.running import Options, Work
from tidehub.kubernetes.deploying.steps.crds import Crds
from tidehub.kubernetes.deploying.steps.objects import OwnObjects
from tidehub.kubernetes.deploying.steps.ownership import refuse, take_over, verdicts
from tidehub.kubernetes.deploying.steps.readiness import Readiness, WrongAnswer
from tidehub.kubernetes.deploying.steps.removing import PROTECTED, marked
from tidehub.kubernetes.deploying.steps.saving import prune, saved_path
from tidehub.kubernetes.deploying.stored import free, live_release, read_release
from tidehub.kubernetes.deploying.words import Refused
from tidehub.kubernetes.objects import read_manifest, write_manifest

SPACE = "daskhub"
CRD_API = "apiextensions.k8s.io/v1"
Object = dict[str, Any]


def work(cluster: MemoryCluster, **options: Any) -> Work:
    return Work(cluster, helm=None, namespace=SPACE, options=Options(**{"poll": 0.0, **options}))  # type: ignore[arg-type]


def crd(name: str = "middlewares.traefik.io", version: str = "v1alpha1", **meta: Any) -> Object:
    plural, _, group = name.partition(".")
    return {
        "apiVersion": CRD_API,
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name, **meta},
        "spec": {
            "group": group,
            "names": {"plural": plural},
            "versions": [{"name": version, "served": True}],
        },
    }


def live_crd(one: Object, manager: str, **status: Any) -> Object:
    meta = {**one["metadata"], "managedFields": [{"manager": manager, "operation": "Apply"}]}
    served = {
        "conditions": [{"type": "Established", "status": "True"}],
        "storedVersions": ["v1alpha1"],
        **status,
    }
    return {**one, "metadata": meta, "status": served}


WANTED = {**crd(), "spec": {**crd()["spec"], "scope": "Namespaced"}}


def test_crds_that_are_there_need_nothing() -> None:
    cluster = MemoryCluster()
    step = Crds((WANTED,))
    assert step.needed(work(cluster))
    cluster.create(
        live_crd({**WANTED, "spec": {**WANTED["spec"], "conversion": {"strategy": "None"}}}, "kubectl")
    )
    assert not step.needed(work(cluster)), "defaults of the server are no difference"


def test_crds_that_may_not_be_read_are_an_administrators() -> None:
    cluster = MemoryCluster()

    def refuse(verb: str, kind: str) -> None:
        if kind == "CustomResourceDefinition":
            raise ClusterProblem("you may not", reason="forbidden", status=403)

    cluster.before = refuse
    wanted = {**WANTED, "spec": {**WANTED["spec"], "names": {"plural": "middlewares", "kind": "Middleware"}}}
    step = Crds((wanted,))
    assert step.verdicts(work(cluster)) is None
    assert step.needed(work(cluster))
    cluster.kinds = (ServedKind("traefik.io/v1alpha1", "Middleware", "middlewares", True),)
    assert not step.needed(work(cluster))


# -- helm's records


def record(name: str, revision: int, status: str, manifest: str = "", config: Any = None) -> Object:
    whole = {
        "name": name,
        "namespace": SPACE,
        "version": revision,
        "info": {"status": status, "description": ""},
        "chart": {"metadata": {"name": name, "version": "4.4.0"}},
        "config": config or {},
        "manifest": manifest,
    }
    packed = base64.b64encode(gzip.compress(json.dumps(whole).encode()))
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "helm.sh/release.v1",
        "metadata": {
            "name": f"sh.helm.release.v1.{name}.v{revision}",
            "namespace": SPACE,
            "labels": {"owner": "helm", "name": name, "version": str(revision), "status": status},
        },
        "data": {"release": base64.b64encode(packed).decode()},
    }


def test_the_newest_revision_counts_whatever_the_record_expects() -> None:
    cluster = MemoryCluster()
    for revision, status in ((1, "superseded"), (2, "superseded"), (3, "deployed")):
        cluster.create(record("jupyterhub", revision, status))
    for expected in (0, 1, 2, 3, 9):
        found = read_release(cluster, SPACE, "jupyterhub", expected)  # type: ignore[arg-type]
        assert found is not None and (found.revision, found.status) == (3, "deployed")
    assert read_release(cluster, SPACE, "dask-gateway") is None  # type: ignore[arg-type]


@pytest.mark.parametrize("status", ["pending-install", "pending-upgrade", "pending-rollback", "uninstalling"])
def test_a_release_that_a_killed_helm_left_is_freed(status: str) -> None:
    cluster = MemoryCluster()
    cluster.create(record("jupyterhub", 1, status))
    here = work(cluster)
    assert free(here, "jupyterhub") == status
    found = live_release(here, "jupyterhub")
    assert found is not None and found.status == "failed"
    assert free(here, "jupyterhub") == ""


# -- what stays

MANIFEST = """---
# Source: jupyterhub/templates/hub/secret.yaml
kind: Secret
apiVersion: v1
metadata:
  name: hub
data: {a: Yg==}
---
# Source: jupyterhub/templates/hub/pvc.yaml
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: hub-db-dir
  labels: {app: jupyterhub}
spec: {accessModes: [ReadWriteOnce]}
---
# Source: jupyterhub/templates/hub/configmap.yaml
kind: ConfigMap
apiVersion: v1
metadata:
  name: hub
data:
  text: |
    kind: Secret
    ---x
"""


def test_what_holds_data_is_marked_in_the_manifest_and_nothing_else() -> None:
    text, kept = marked(MANIFEST, PROTECTED)
    assert sorted(kept) == ["PersistentVolumeClaim/hub-db-dir", "Secret/hub"]
    before, after = read_manifest(MANIFEST), read_manifest(text)
    assert len(after) == 3 and after[2] == before[2]
    for old, new in zip(before[:2], after[:2], strict=True):
        annotations = new["metadata"].pop("annotations")
        assert annotations == {"helm.sh/resource-policy": "keep"} and new == old
    assert marked(text, PROTECTED) == (text, kept)
    assert marked(MANIFEST, ()) == (MANIFEST, ())


# -- whose objects are


def helm_object(release: str, namespace: str, kind: str = "ConfigMap", name: str = "hub") -> Object:
    annotations = {"meta.helm.sh/release-name": release, "meta.helm.sh/release-namespace": namespace}
    labels = {"app.kubernetes.io/managed-by": "Helm"}
    api = "rbac.authorization.k8s.io/v1" if kind == "ClusterRole" else "v1"
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
    }


def put(cluster: MemoryCluster, obj: Object) -> None:
    cluster.create(obj, None if obj["kind"] in ("ClusterRole", "Namespace") else SPACE)


def test_what_helm_knows_is_not_asked_for_and_all_refusals_are_told_at_once() -> None:
    cluster = MemoryCluster()
    for name in ("a", "b"):
        put(cluster, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
    put(cluster, helm_object("other", "elsewhere", "ClusterRole", "c"))
    put(cluster, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "elsewhere"}})
    here = work(cluster)
    wanted = [helm_object("jupyterhub", SPACE, name=name) for name in "ab"]
    wanted.append(helm_object("jupyterhub", SPACE, "ClusterRole", "c"))
    with pytest.raises(Refused) as refused:
        refuse(here, verdicts(here, "jupyterhub", wanted))
    # What naming would not help comes first.
    told = str(refused.value)
    assert told.startswith(
        "ClusterRole c exists already and belongs to the release other in the namespace elsewhere"
    )
    assert "ConfigMap a, ConfigMap b exist already and belong to no release" in told
    manifest = write_manifest(wanted)
    cluster.create(record("jupyterhub", 1, "deployed", manifest), SPACE)
    here.facts.clear()
    cluster.before = lambda verb, kind: pytest.fail(kind) if kind in ("ConfigMap", "ClusterRole") else None
    assert verdicts(here, "jupyterhub", wanted) == []


def test_what_is_taken_over_becomes_the_releases() -> None:
    cluster = MemoryCluster()
    put(cluster, helm_object("daskhub", SPACE, "PersistentVolumeClaim", "hub-db-dir"))
    put(cluster, helm_object("dask-gateway", "gone", "ClusterRole", "controller"))
    here = work(cluster)
    here.record = Record(kept=("PersistentVolumeClaim/hub-db-dir",))
    wanted = [
        helm_object("jupyterhub", SPACE, "PersistentVolumeClaim", "hub-db-dir"),
        helm_object("jupyterhub", SPACE, "ClusterRole", "controller"),
    ]
    found = verdicts(here, "jupyterhub", wanted)
    assert [one.follows for one in found] == ["take-over", "take-over"]
    take_over(here, "jupyterhub", found)
    assert [one.follows for one in verdicts(here, "jupyterhub", wanted)] == ["ours", "ours"]


def test_our_own_objects_come_back_and_go() -> None:
    cluster = MemoryCluster()
    policy = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "note"}, "data": {"a": "1"}}
    step = OwnObjects((policy,))
    here = work(cluster)
    assert step.needed(here)
    step.run(here)
    here.facts.clear()
    assert not step.needed(here)
    cluster.patch("v1", "ConfigMap", "note", {"data": {"a": "2"}}, SPACE)
    here.facts.clear()
    assert step.needed(here), "somebody changed it"
    cluster.patch(
        "v1", "ConfigMap", "note", {"metadata": {"labels": {"app.kubernetes.io/managed-by": "me"}}}, SPACE
    )
    here.facts.clear()
    with pytest.raises(Refused, match="ConfigMap note exists already and belongs to me"):
        refuse(here, verdicts(here, None, (policy,)))


# -- the end


class Answers:
    def __init__(self, *answers: tuple[Any, str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    def __call__(self, url: str) -> tuple[Any, str]:
        self.asked.append(url)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_the_public_address_is_asked_until_it_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = Answers(("wrong", "status 503"), ("well", ""))
    assert Readiness("https://x.example/base/", (), answers).run(work(MemoryCluster())) == "answers"
    assert answers.asked == ["https://x.example/base/hub/health"] * 2


def test_an_address_that_is_silent_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidehub.kubernetes.deploying.steps.readiness.SILENCE", 0.0)
    here = work(MemoryCluster())
    Readiness("https://x.example/", (), Answers(("silent", "no such name"))).run(here)
    assert "no such name" in here.notes[0] and "tidehub check" in here.notes[0]


def test_an_address_that_keeps_answering_wrongly_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidehub.kubernetes.deploying.steps.readiness.PATIENCE", 0.0)
    with pytest.raises(WrongAnswer, match="status 404"):
        Readiness("https://x.example/", (), Answers(("wrong", "status 404"))).run(work(MemoryCluster()))


def test_a_certificate_that_is_still_issued_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidehub.kubernetes.deploying.steps.readiness.PATIENCE", 0.0)
    cluster = MemoryCluster()
    conditions = [
        {"type": "Ready", "status": "False", "message": "Issuing certificate as Secret does not exist"}
    ]
    issued: Object = {
        "apiVersion": "cert-manager.io/v1",
        "kind": "Certificate",
        "metadata": {"name": "site-tls"},
        "status": {"conditions": conditions},
    }
    cluster.create(issued, SPACE)
    here = work(cluster)
    untrusted = Answers(("wrong", "its certificate is not trusted (self-signed)"))
    assert Readiness("https://x.example/", (), untrusted).run(here) == "its certificate is not issued yet"
    assert "the certificate site-tls (Issuing certificate as Secret does not exist)" in here.notes[0]
    # Another wrong answer is none of cert-manager's, and an issued certificate that is not trusted is a fault.
    with pytest.raises(WrongAnswer):
        Readiness("https://x.example/", (), Answers(("wrong", "status 404"))).run(here)
    conditions[0]["status"] = "True"
    cluster.apply(issued, SPACE)
    with pytest.raises(WrongAnswer):
        Readiness("https://x.example/", (), untrusted).run(here)


def test_the_address_is_asked_only_where_something_was_done() -> None:
    here = work(MemoryCluster())
    step = Readiness("https://x.example/", ("crds",))
    assert not step.needed(here)
    journal = Journal.start("deploy", ["crds", "check"], id="", who="", tidehub="", at="", command="")
    here.record = Record(journal=journal.finish("crds", "now"))
    assert step.needed(here)
    here.options = replace(here.options, check=False)
    assert not step.needed(here)
    here.options = replace(here.options, check=True)
    here.record = Record(journal=journal.finish("crds", "now", nothing=True))
    assert not step.needed(here)


def test_copies(tmp_path: Any) -> None:
    for number in range(12):
        (tmp_path / f"2026-11-{number:02}.tar.gz").touch()
    prune(tmp_path)
    assert len(list(tmp_path.iterdir())) == 10 and not (tmp_path / "2026-11-00.tar.gz").exists()
    assert str(saved_path("saved to /a (b)/x.tar.gz (with the hub's database)")) == "/a (b)/x.tar.gz"
    assert saved_path("nothing") is None


def test_a_damaged_record_of_helm_is_said() -> None:
    cluster = MemoryCluster()
    broken = record("jupyterhub", 1, "deployed")
    broken["data"]["release"] = "bm90aGluZw=="
    cluster.create(broken)
    with pytest.raises(TidehubError, match="cannot be read"):
        live_release(work(cluster), "jupyterhub")


def test_release_states_are_compared_whole() -> None:
    one = ReleaseState("a", "a", "1", "s", "v", "m", 1)
    assert Record().with_release(one).with_release(replace(one, revision=2)).releases == (
        replace(one, revision=2),
    )
    assert Record(releases=(one,)).without_release("a").releases == ()
