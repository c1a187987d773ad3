"""Defects that no cluster would take, each made and found; and nothing found where nothing is wrong."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from render_making import TOKEN, changed, crd, encoded, flaws_of, objects, rendered

from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.check import RenderError, check, refuse
from tidehub.secrets.secret import Secret

Change = Callable[[Object], Any]


def pod(obj: Object) -> Any:
    return obj["spec"]["template"]["spec"]


def hub(obj: Object) -> Any:
    return pod(obj)["containers"][0]


def port(obj: Object) -> Any:
    return obj["spec"]["ports"][0]


def path(obj: Object) -> Any:
    return obj["spec"]["rules"][0]["http"]["paths"][0]


def test_nothing_is_wrong_with_what_is_right() -> None:
    assert check(rendered()) == []


@pytest.mark.parametrize(
    ("kind", "change", "said"),
    [
        ("ConfigMap", lambda o: o["metadata"].update(name="Bad_Name"), "not a name for a ConfigMap"),
        ("Service", lambda o: o["metadata"].update(name="1hub"), "not a name for a Service"),
        ("Service", lambda o: o["metadata"].update(name="a.b"), "not a name for a Service"),
        ("Secret", lambda o: o["metadata"].update(name=""), "it has no name"),
        ("ClusterRoleBinding", lambda o: o["metadata"].update(name="a/b"), "not a name for a ClusterRoleBinding"),
        ("ConfigMap", lambda o: o["metadata"].update(labels={"a b": "c"}), "not a key of a label"),
        ("ConfigMap", lambda o: o["metadata"].update(labels={"a": "b c"}), "not a value of a label"),
        ("ConfigMap", lambda o: o["metadata"].update(labels={"a": "x" * 64}), "not a value of a label"),
        ("ConfigMap", lambda o: o["metadata"].update(annotations={"a": 1}), "is not text"),
        ("ConfigMap", lambda o: o["metadata"].update(annotations={"_/a": "1"}), "not a name of a domain"),
        ("ConfigMap", lambda o: o["metadata"].update(annotations={"a": "x" * 262144}), "262144 is the most"),
        ("ConfigMap", lambda o: o["data"].update({"a b": "1"}), "not a key of a ConfigMap"),
        ("ConfigMap", lambda o: o["data"].update({"a": 1}), "it is not text"),
        ("ConfigMap", lambda o: o["data"].update({"a": "x" * 1048576}), "1048576 is the most"),
        ("Secret", lambda o: o["data"].update({"a": encoded("x" * 1048600)}), "1048576 is the most"),
        ("Service", lambda o: o["spec"].update(type="Public"), "'Public' is not one of ClusterIP"),
        ("Service", lambda o: port(o).update(port=99999), "99999 is not a port"),
        ("Service", lambda o: port(o).update(port="80"), "'80' is not a port"),
        ("Service", lambda o: port(o).update(nodePort=0), "0 is not a port"),
        ("Service", lambda o: port(o).update(targetPort="a-name-much-too-long"), "is not a port"),
        ("Service", lambda o: port(o).update(targetPort="web"), "its pods have no port named web"),
        ("Service", lambda o: port(o).update(protocol="tcp"), "'tcp' is not one of TCP"),
        ("Service", lambda o: o["spec"]["ports"].append({"port": 1}), "several ports need a name"),
        ("Service", lambda o: o["spec"].update(ports=[]), "it has no port"),
        ("Deployment", lambda o: o["spec"]["strategy"].update(type="Slow"), "'Slow' is not one of Recreate"),
        ("Deployment", lambda o: o["spec"]["selector"].update(matchLabels={"a": "b"}), "its own pods"),
        ("Deployment", lambda o: o["spec"].update(selector={}), "it selects no pods"),
        ("Deployment", lambda o: o["spec"]["template"].pop("spec"), "it describes no pod"),
        ("Deployment", lambda o: pod(o).update(restartPolicy="Never"), "'Never' is not one of Always"),
        ("Deployment", lambda o: pod(o).update(containers=[]), "it has no container"),
        ("Deployment", lambda o: pod(o)["containers"].append(hub(o)), "not the only one"),
        ("Deployment", lambda o: pod(o)["volumes"][0].update(name="other"), "the volume 'config' does not exist"),
        ("Deployment", lambda o: pod(o)["volumes"].append(pod(o)["volumes"][0]), "not the only one"),
        (
            "Deployment",
            lambda o: pod(o)["volumes"].append({"name": "t", "emptyDir": {"sizeLimit": "10 G"}}),
            "'10 G' is not a size",
        ),
        ("Deployment", lambda o: hub(o).update(image="Quay.io/Hub:1:2"), "is not an image"),
        ("Deployment", lambda o: hub(o).pop("image"), "is not an image"),
        ("Deployment", lambda o: hub(o).update(imagePullPolicy="Sometimes"), "'Sometimes' is not one of Always"),
        ("Deployment", lambda o: hub(o).update(name="Hub"), "not a name of a container"),
        ("Deployment", lambda o: hub(o)["ports"][0].update(containerPort=70000), "70000 is not a port"),
        ("Deployment", lambda o: hub(o)["ports"].append(hub(o)["ports"][0]), "two ports are named http"),
        ("Deployment", lambda o: hub(o)["readinessProbe"]["httpGet"].update(port="web"), "has no port web"),
        ("Deployment", lambda o: hub(o)["resources"]["limits"].update(memory="10 G"), "is not a quantity"),
        ("Deployment", lambda o: hub(o)["resources"]["limits"].update(memory="10GB"), "is not a quantity"),
        ("Deployment", lambda o: hub(o)["resources"]["requests"].update(memory="2Gi"), "more than the limit 1Gi"),
        ("Deployment", lambda o: hub(o)["env"][1].update(name="A B"), "not a name of a variable"),
        ("Deployment", lambda o: hub(o)["env"][1].update(value=1), "is not text"),
        ("Deployment", lambda o: hub(o)["env"][0].update(value="1"), "and one from elsewhere"),
        ("Deployment", lambda o: hub(o)["env"][0]["valueFrom"]["secretKeyRef"].update(key="x"), "has no x"),
        ("Ingress", lambda o: path(o).update(pathType="prefix"), "'prefix' is not one of Prefix"),
        ("Ingress", lambda o: path(o).update(path="hub"), "a path begins with /"),
        ("Ingress", lambda o: o["spec"]["rules"][0].update(host="a_b"), "not a name of a host"),
        ("Ingress", lambda o: path(o)["backend"]["service"].update(name="x"), "the service x, which is not"),
        ("Ingress", lambda o: path(o)["backend"]["service"].update(port={"number": 1}), "has no port 1"),
        (
            "Ingress",
            lambda o: o["metadata"].update(annotations={"kubernetes.io/ingress.class": "traefik"}),
            "by annotation traefik",
        ),
        ("Ingress", lambda o: o.update(apiVersion="networking.k8s.io/v1beta1"), "removed in Kubernetes 1.22"),
        ("PersistentVolumeClaim", lambda o: o["spec"].update(accessModes=["Mine"]), "holds none, or others"),
        ("PersistentVolumeClaim", lambda o: o["spec"].update(resources={}), "None is not a size"),
        ("NetworkPolicy", lambda o: o["spec"].update(policyTypes=["Both"]), "others than Ingress and Egress"),
        ("NetworkPolicy", lambda o: o["spec"]["ingress"][0]["ports"][0].update(port=-1), "-1 is not a port"),
        ("ClusterRoleBinding", lambda o: o["subjects"][0].pop("namespace"), "without its namespace"),
        ("Tide", lambda o: o["spec"].update(metres="4"), "requires a whole number here"),
        ("Tide", lambda o: o["spec"].update(metres=21), "requires at most 20"),
        ("Tide", lambda o: o["spec"].update(depth=1), "has no such field"),
        ("Tide", lambda o: o["spec"].pop("metres"), "requires metres"),
        ("Tide", lambda o: o.update(apiVersion="example.org/v2"), "no CRD defines example.org/v2 Tide"),
        ("Tide", lambda o: o.update(apiVersion="tides.example.net/v1"), "no CRD defines"),
    ],
)  # fmt: skip
def test_a_defect_is_an_error(kind: str, change: Change, said: str) -> None:
    found = [flaw for flaw in flaws_of(changed(kind, change)) if flaw.severity == "error"]
    assert any(said in str(flaw) for flaw in found), [str(flaw) for flaw in found]
    with pytest.raises(RenderError, match="cannot be used"):
        refuse(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda o: hub(o).update(image="quay.io/jupyterhub/k8s-hub"), "has no tag"),
        (lambda o: hub(o).update(image="localhost:5000/hub"), "has no tag"),
        (lambda o: hub(o).update(image="hub:latest"), "has the tag latest"),
        (lambda o: hub(o)["env"][0]["valueFrom"]["secretKeyRef"].update(name="mine"), "the Secret mine"),
        (lambda o: pod(o)["volumes"][0]["configMap"].update(name="mine"), "the ConfigMap mine"),
        (lambda o: o["metadata"].update(namespace="elsewhere"), "into the namespace elsewhere"),
    ],
)
def test_what_may_be_meant_is_a_warning(change: Change, said: str) -> None:
    found = flaws_of(changed("Deployment", change))
    assert any(said in str(flaw) for flaw in found), [str(flaw) for flaw in found]
    assert refuse([flaw for flaw in found if said in str(flaw)])


def test_an_image_of_several_containers_is_told_once() -> None:
    def twice(obj: Object) -> None:
        pod(obj)["initContainers"] = [{**hub(obj), "name": "pull", "image": "hub:latest", "ports": []}]
        hub(obj)["image"] = "hub:latest"
        pod(obj)["initContainers"][0].pop("readinessProbe")

    assert ["has the tag latest" in flaw.what for flaw in flaws_of(changed("Deployment", twice))] == [True]


@pytest.mark.parametrize(
    "change",
    [
        lambda o: hub(o).update(image=f"quay.io/a/b@sha256:{'0' * 64}"),
        lambda o: hub(o).update(image=f"quay.io/a/b:latest@sha256:{'0' * 64}"),
        lambda o: hub(o)["env"][0]["valueFrom"]["secretKeyRef"].update(name="mine", optional=True),
        lambda o: hub(o)["resources"]["limits"].update({"nvidia.com/gpu": 1, "cpu": 1.5, "memory": "1e9"}),
        lambda o: pod(o)["volumes"].append(
            {"name": "db", "persistentVolumeClaim": {"claimName": "hub-db-dir"}}
        ),
    ],
)
def test_what_is_allowed_is_not_blamed(change: Change) -> None:
    assert flaws_of(changed("Deployment", change)) == []


def test_removed_versions_depend_on_the_cluster() -> None:
    def old(obj: Object) -> None:
        obj["apiVersion"] = "networking.k8s.io/v1beta1"
        path(obj)["backend"] = {"serviceName": "hub", "servicePort": 8081}

    made = changed("Ingress", old)
    assert any("was removed" in flaw.what for flaw in flaws_of(made, kube_version="v1.22.0"))
    assert flaws_of(made, kube_version="v1.21.14-gke.1") == []


def test_an_object_twice() -> None:
    made = [*objects(), *(obj for obj in objects() if obj["kind"] == "Service")]
    assert [flaw.what for flaw in flaws_of(made)] == ["it is rendered 2 times, by jupyterhub"]
    service = next(obj for obj in objects() if obj["kind"] == "Service")
    assert any("jupyterhub and tidehub" in flaw.what for flaw in check(rendered(own=[service])))


def test_a_crd_twice_is_no_fault_unless_they_differ() -> None:
    assert check(rendered(crds=[crd(), crd()])) == []
    other = copy.deepcopy(crd())
    other["spec"]["versions"][0]["served"] = False
    assert any("rendered 2 times" in flaw.what for flaw in check(rendered(crds=[crd(), other])))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ConfigMap", lambda o, text: o["data"].update({"a": f"token = {text!r}"})),
        ("Deployment", lambda o, text: hub(o)["args"].append(f"--token={text}")),
        ("Deployment", lambda o, text: hub(o)["env"][1].update(value=text)),
        ("Deployment", lambda o, text: hub(o).update(command=["sh", "-c", f"echo {text}"])),
        ("Service", lambda o, text: o["metadata"].update(annotations={"note": text})),
    ],
)
@pytest.mark.parametrize("text", [TOKEN, encoded(TOKEN)], ids=["plain", "base64"])
def test_a_secret_in_the_open(kind: str, change: Callable[[Object, str], None], text: str) -> None:
    found = flaws_of(changed(kind, lambda obj: change(obj, text)))
    said = [str(flaw) for flaw in found if "can read the secret" in flaw.what]
    assert said
    assert found[0].severity == "error"
    assert not any(text in one for one in said)


def test_a_secret_that_only_a_chart_made() -> None:
    """Its value is not one of ours: it stands in a Secret, and in a ConfigMap too."""
    value = "a-password-made-by-the-chart"

    def add(obj: Object) -> None:
        obj["data"]["settings"] = f'{{"password": "{value}"}}'

    made = changed("ConfigMap", add)
    secret = next(obj for obj in made if obj["kind"] == "Secret")
    secret["data"]["password"] = encoded(value)
    assert ["hub/password" in flaw.what for flaw in flaws_of(made)] == [True]


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"proxy": {"secretToken": TOKEN}}, "proxy.secretToken"),
        ({"gateway": {"auth": {"simple": {"password": "a-real-one"}}}}, "gateway.auth.simple.password"),
        ({"hub": {"config": {"GenericOAuthenticator": {"client_secret": TOKEN}}}}, "client_secret"),
        ({"hub": {"services": {"x": {"apiToken": TOKEN}}}}, "hub.services.x.apiToken"),
    ],
)
def test_a_secret_among_the_values(values: dict[str, Any], field: str) -> None:
    found = check(rendered(values=values))
    assert [flaw.severity for flaw in found] == ["error"]
    assert found[0].field.endswith(field)
    assert TOKEN not in str(found[0])


def test_a_variable_that_looks_like_a_secret_is_a_warning() -> None:
    """It may be a name of one."""
    found = check(rendered(values={"hub": {"extraEnv": {"WEBHOOK_TOKEN": TOKEN}}}))
    assert [(flaw.severity, flaw.field) for flaw in found] == [("warning", "hub.extraEnv.WEBHOOK_TOKEN")]


@pytest.mark.parametrize("text", ["http://hub:8081/hub/api", "c = get_config()\n", '{"a": "some settings"}'])
def test_what_a_secret_holds_beside_secrets(text: str) -> None:
    made = changed("Secret", lambda obj: obj["data"].update(config=encoded(text)))
    next(obj for obj in made if obj["kind"] == "ConfigMap")["data"]["copy"] = f"about {text}"
    assert flaws_of(made) == []


@pytest.mark.parametrize(
    "values",
    [
        {"ingress": {"tls": [{"secretName": "hub.example.org"}]}},
        {"hub": {"existingSecret": "mine"}, "proxy": {"https": {"secret": {"name": "certificate"}}}},
        {"gateway": {"auth": {"simple": {"password": "<password>"}}}},
        {"hub": {"config": {"OAuth": {"token_url": "https://example.org/token"}}}},
    ],
)
def test_names_of_secrets_are_no_secrets(values: dict[str, Any]) -> None:
    assert check(rendered(values=values)) == []


def test_what_the_cluster_serves_counts() -> None:
    served = [f"{obj['apiVersion']}/{obj['kind']}" for obj in objects() if obj["kind"] != "Ingress"]
    found = check(rendered(), served=served)
    assert [flaw.what for flaw in found] == [
        "this cluster does not serve networking.k8s.io/v1 Ingress, and no chart brings it"
    ]


def test_hooks_are_checked_too() -> None:
    job: Object = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "pull"}, "spec": {}}
    assert any("it describes no pod" in flaw.what for flaw in check(rendered(hooks=[job])))


def test_errors_come_first_and_all_are_told() -> None:
    made = changed("Deployment", lambda o: (hub(o).update(image="hub:latest"), hub(o).update(name="Hub")))
    found = flaws_of(made)
    assert [flaw.severity for flaw in found] == sorted(flaw.severity for flaw in found)
    error = RenderError(found)
    assert "(1 error)" in str(error)
    assert all(str(flaw) in str(error) for flaw in found)


def test_short_secrets_do_not_make_every_word_one() -> None:
    assert check(rendered(secrets={"hub": {"token": Secret("hub")}})) == []
