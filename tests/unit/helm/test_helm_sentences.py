"""Helm's sentences as typed errors. All were recorded from helm 3.19.5 and 4.2.4 against Kubernetes 1.34."""

from __future__ import annotations

import base64
import json

import pytest

from tidehub.helm import problems
from tidehub.helm.sentences import REDACTED, problem, redact, short

NAMESPACE = "site"


def test_values_that_a_schema_refuses() -> None:
    found = problem(
        "Error: values don't meet the specifications of the schema(s) in the following chart(s):\n"
        "daskhub:\njupyterhub:\n- at '/singleuser/cpu/limit': got string, want null or number\n"
        "- at '': additional properties 'gateway' not allowed\n"
        "dask-gateway:\n- at '/gateway/replicas': got string, want integer\n",
        release="daskhub",
        doing="upgrade",
    )
    assert isinstance(found, problems.ValuesInvalid)
    assert found.found == (
        ("jupyterhub", "/singleuser/cpu/limit", "got string, want null or number"),
        ("jupyterhub", "", "additional properties 'gateway' not allowed"),
        ("dask-gateway", "/gateway/replicas", "got string, want integer"),
    )
    assert (found.chart, found.path, found.release, found.doing) == (
        "jupyterhub", "/singleuser/cpu/limit", "daskhub", "upgrade",
    )  # fmt: skip
    assert "/gateway/replicas" in str(found)


def test_older_helms_write_paths_with_points() -> None:
    found = problem(
        "Error: values don't meet the specifications of the schema(s) in the following chart(s):\njupyterhub:\n"
        "- hub.db: Additional property confg is not allowed\n- (root): Additional property x is not allowed"
    )
    assert isinstance(found, problems.ValuesInvalid)
    assert [(path, says[:10]) for _, path, says in found.found] == [
        ("/hub/db", "Additional"),
        ("", "Additional"),
    ]


@pytest.mark.parametrize(
    ("said", "file", "line", "says"),
    [
        (
            ("Error: execution error at (dask-gateway/templates/gateway/secret.yaml:10:27): gateway.auth.jupyterhub."
            "apiToken must be defined when using jupyterhub auth\n\nUse --debug flag to render out invalid YAML\n"),
            "dask-gateway/templates/gateway/secret.yaml", 10,
            "gateway.auth.jupyterhub.apiToken must be defined when using jupyterhub auth",
        ),
        (
            ('Error: template: t2/templates/a.yaml:1:13: executing "t2/templates/a.yaml" at <.Values.x.y.z>: '
            "nil pointer evaluating interface {}.y\n\nUse --debug flag to render out invalid YAML\n"),
            "t2/templates/a.yaml", 1, "nil pointer evaluating",
        ),
        (
            ('Error: t2/templates/a.yaml:1:13\n  executing "t2/templates/a.yaml" at <.Values.x.y.z>:\n'
            "    nil pointer evaluating interface {}.y\n\nUse --debug flag to render out invalid YAML\n"),
            "t2/templates/a.yaml", 1, "nil pointer evaluating",
        ),
        (
            "Error: parse error at (t2/templates/a.yaml:2): unclosed action started at t2/templates/a.yaml:1",
            "t2/templates/a.yaml", 2, "unclosed action",
        ),
        (
            ("Error: YAML parse error on t2/templates/a.yaml: error converting YAML to JSON: yaml: line 2: mapping "
            "values are not allowed in this context"),
            "t2/templates/a.yaml", 2, "mapping values are not allowed",
        ),
    ],
)  # fmt: skip
def test_templates_that_fail(said: str, file: str, line: int, says: str) -> None:
    found = problem(said)
    assert isinstance(found, problems.TemplateFailed)
    assert (found.file, found.line) == (file, line)
    assert says in found.message and "--debug" not in str(found)


def test_another_version_of_kubernetes() -> None:
    found = problem(
        "Error: chart requires kubeVersion: >=1.28.0-0 which is incompatible with Kubernetes v1.25.0\n\n"
        "Use --debug flag to render out invalid YAML\n"
    )
    assert isinstance(found, problems.KubeVersionMismatch)
    assert (found.wanted, found.found) == (">=1.28.0-0", "v1.25.0")


OWNED = (
    'Error: {0}nable to continue with install: ConfigMap "hub" in namespace "site" exists and cannot be imported into '
    "the current release: invalid ownership metadata; {1}"
)


@pytest.mark.parametrize("letter", ["u", "U"])
@pytest.mark.parametrize(
    ("rest", "owner"),
    [
        (
            (
                'label validation error: missing key "app.kubernetes.io/managed-by": must be set to "Helm"; annotation '
                'validation error: missing key "meta.helm.sh/release-name": must be set to "b"; annotation validation '
                'error: missing key "meta.helm.sh/release-namespace": must be set to "site"'
            ),
            None,
        ),
        (
            'annotation validation error: key "meta.helm.sh/release-name" must equal "b": current value is "zzz"',
            "zzz",
        ),
        (
            (
                'annotation validation error: key "meta.helm.sh/release-name" must equal "b": current value is "zzz"; '
                'annotation validation error: key "meta.helm.sh/release-namespace" must equal "site": current value is '
                '"other"'
            ),
            "other/zzz",
        ),
        (
            (
                'annotation validation error: key "meta.helm.sh/release-namespace" must equal "site": current value is '
                '"other"'
            ),
            "of the same name in other",
        ),
    ],
)
def test_objects_of_somebody_else(letter: str, rest: str, owner: str | None) -> None:
    found = problem(OWNED.format(letter, rest))
    assert isinstance(found, problems.OwnershipConflict)
    assert (found.kind, found.name, found.owner) == ("ConfigMap", "hub", owner)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (
            "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress",
            "OperationInProgress",
        ),
        ("Error: release: not found", "ReleaseNotFound"),
        ('Error: UPGRADE FAILED: "hub" has no deployed releases', "NoDeployedRevision"),
        ('Error: create: failed to create: namespaces "none" not found', "NamespaceMissing"),
        (
            (
                'Error: query: failed to query with labels: secrets is forbidden: User "mallory" cannot list resource '
                '"secrets" in API group "" in the namespace "site"'
            ),
            "Forbidden",
        ),
        (
            (
                'Error: 1 error occurred:\n\t* configmaps "d-data" is forbidden: exceeded quota: q, requested: '
                "configmaps=1, used: configmaps=4, limited: configmaps=1\n\n"
            ),
            "QuotaExceeded",
        ),
        (
            (
                'Error: server-side apply failed for object site/d-data /v1, Kind=ConfigMap: configmaps "d-data" is '
                "forbidden: exceeded quota: q, requested: configmaps=1, used: configmaps=4, limited: configmaps=1"
            ),
            "QuotaExceeded",
        ),
        (
            (
                "Error: unable to build kubernetes objects from release manifest: resource mapping "
                'not found for name: "x" '
                'namespace: "" from "": no matches for kind "IngressRoute" in version "traefik.io/v1alpha1"\n'
                "ensure CRDs are installed first"
            ),
            "KindUnknown",
        ),
        (
            (
                'Error: UPGRADE FAILED: cannot patch "a" with kind Deployment: Deployment.apps "a" is invalid: '
                'spec.selector: Invalid value: {"matchLabels":{"app":"why"}}: field is immutable'
            ),
            "Invalid",
        ),
        (
            (
                'level=WARN msg="upgrade failed" name=a error="server-side apply failed"\nError: UPGRADE FAILED: '
                'server-side apply failed for object site/a apps/v1, Kind=Deployment: Deployment.apps "a" is invalid: '
                'spec.selector: Invalid value: {"matchLabels":{"app":"why"}}: field is immutable'
            ),
            "Invalid",
        ),
        (
            (
                "Error: server-side apply failed for object site/x /v1, Kind=ConfigMap: failed to create typed patch "
                "object (site/x; /v1, Kind=ConfigMap): .unheard: field not declared in schema"
            ),
            "Invalid",
        ),
        (
            (
                'Error: 1 error occurred:\n\t* ConfigMap in version "v1" cannot be handled as a '
                "ConfigMap: json: cannot "
                "unmarshal number into Go struct field ConfigMap.data of type string"
            ),
            "Invalid",
        ),
        (
            'Error: UPGRADE FAILED: admission webhook "policy.example.org" denied the request: no latest images',
            "Invalid",
        ),
        (
            (
                'Error: UPGRADE FAILED: failed to create resource: pods "x" is forbidden: violates PodSecurity '
                '"restricted:latest": allowPrivilegeEscalation != false'
            ),
            "Invalid",
        ),
        (
            (
                "Error: UPGRADE FAILED: conflict occurred while applying object site/q /v1, "
                "Kind=ConfigMap: Apply failed "
                'with 1 conflict: conflict with "human": .data.data'
            ),
            "FieldConflict",
        ),
        ("Error: UPGRADE FAILED: context deadline exceeded", "TimedOut"),
        (
            "Error: failed pre-install: 1 error occurred:\n\t* timed out waiting for the condition\n",
            "TimedOut",
        ),
        (
            (
                "Error: failed pre-install: resource Job/site/e-hook not ready. status: InProgress, message: Job in "
                "progress\ncontext deadline exceeded"
            ),
            "TimedOut",
        ),
        ("Release hub has been cancelled.\nError: release hub failed: context canceled", "Interrupted"),
        (
            "Error: Kubernetes cluster unreachable: the server has asked for the client to provide credentials",
            "Unauthorized",
        ),
        (
            'Error: kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": net/http: TLS handshake timeout',
            "Unreachable",
        ),
        (
            (
                'Error: kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": tls: failed to verify '
                "certificate: x509: certificate signed by unknown authority"
            ),
            "Unreachable",
        ),
        ('Error: kubernetes cluster unreachable: context "nope" does not exist', "Unreachable"),
        (
            (
                'Error: Kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": getting credentials: exec: '
                "executable no-such-plugin not found\n\nIt looks like you are trying to use a "
                "client-go credential plugin "
                "that is not installed."
            ),
            "Unreachable",
        ),
        (
            'Error: Kubernetes cluster unreachable: error loading config file "/k": yaml: line 1: did not find',
            "Unreachable",
        ),
        ("Error: file '/x.tgz' does not appear to be a gzipped archive; got 'text/plain'", "ChartUnreadable"),
        ('Error: path "/x.tgz" not found', "ChartUnreadable"),
        ("Error: something quite new", "HelmProblem"),
        ("", "HelmProblem"),
    ],
)
def test_every_sentence_has_its_type(said: str, kind: str) -> None:
    found = problem(said)
    assert type(found).__name__ == kind, str(found)
    assert found.fix
    assert "Error:" not in str(found) and "level=WARN" not in str(found)


def test_what_is_in_the_fields() -> None:
    refused = problem(
        'Error: secrets is forbidden: User "mallory" cannot list resource "secrets" in API group "" '
        'in the namespace "a"'
    )
    assert isinstance(refused, problems.Forbidden) and (refused.verb, refused.resource) == ("list", "secrets")
    full = problem('Error: pods "x" is forbidden: exceeded quota: compute, requested: cpu=1')
    assert isinstance(full, problems.QuotaExceeded) and full.quota == "compute"
    unknown = problem('Error: no matches for kind "Middleware" in version "traefik.io/v1alpha1"')
    assert isinstance(unknown, problems.KindUnknown)
    assert (unknown.kind, unknown.version) == ("Middleware", "traefik.io/v1alpha1")
    assert problem("Error: context canceled").exit_code == 130


def test_no_secret_gets_through_in_any_form() -> None:
    secret = 'pass"word\\with/signs'
    forms = [
        secret,
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
        json.dumps({"a": secret}),
    ]
    for form in forms:
        said = str(
            problem(f"Error: Secret is invalid: token: Invalid value: {form}: too short", secrets=[secret])
        )
        assert "word" not in said and REDACTED in said, said
    key = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\n-----END KEY-----"
    assert "MIIEvQ" not in str(problem("Error: line MIIEvQIBADANBgkq is bad", secrets=[key]))
    assert redact("a b c", ["a", "", "b c d"]) == "a b c"


def test_a_refused_object_is_not_repeated_whole() -> None:
    whole = json.dumps(json.dumps({"apiVersion": "v1", "kind": "Secret", "data": {"token": "c2VjcmV0" * 20}}))
    assert (
        short(f'"" is invalid: patch: Invalid value: {whole}: bad field')
        == '"" is invalid: patch: Invalid value: bad field'
    )
    assert "matchLabels" in short(
        'spec.selector: Invalid value: {"matchLabels":{"app":"why"}}: field is immutable'
    )
    assert len(short("x" * 10_000)) < 2_000
