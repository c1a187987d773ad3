"""A release's record after the cluster lost APIs."""

from __future__ import annotations

import pytest

from tidehub.kubernetes.cluster.port import ServedKind
from tidehub.kubernetes.deploying.steps.outdated import modernised
from tidehub.kubernetes.objects import read_manifest

SERVED = [
    ServedKind("v1", "ConfigMap", "configmaps", True),
    ServedKind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", True),
    ServedKind("networking.k8s.io/v1", "Ingress", "ingresses", True),
    ServedKind("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True),
    ServedKind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", True),
]
MANIFEST = """---
# Source: a
apiVersion: v1
kind: ConfigMap
metadata: {name: hub}
---
# Source: b
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: hub}
spec: {minAvailable: 1}
---
apiVersion: policy/v1beta1
kind: PodSecurityPolicy
metadata: {name: gone}
---
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: jupyterhub}
"""


def test_what_is_served_under_a_newer_api_gets_it_and_the_rest_goes() -> None:
    text, done = modernised(MANIFEST, SERVED)
    found = {(one["kind"], one["apiVersion"]) for one in read_manifest(text)}
    assert found == {
        ("ConfigMap", "v1"), ("PodDisruptionBudget", "policy/v1"), ("Ingress", "networking.k8s.io/v1"),
    }  # fmt: skip
    assert done == (
        "PodDisruptionBudget hub of policy/v1beta1 is policy/v1 now",
        "PodSecurityPolicy gone of policy/v1beta1 is not served any more",
        "Ingress jupyterhub of extensions/v1beta1 is networking.k8s.io/v1 now",
    )
    assert "# Source: a" in text
    assert modernised(text, SERVED) == (text, ())


@pytest.mark.parametrize("old", ["autoscaling/v2beta1", "autoscaling/v2beta2"])
def test_the_newest_stable_api_is_taken(old: str) -> None:
    text, _ = modernised(f"apiVersion: {old}\nkind: HorizontalPodAutoscaler\nmetadata: {{name: x}}\n", SERVED)
    assert read_manifest(text)[0]["apiVersion"] == "autoscaling/v2"
