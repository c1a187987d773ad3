"""An Ingress as `kubectl get -o yaml` prints it: in a list, with what the server, kubectl and Helm wrote into it."""

from __future__ import annotations

import pytest
from helm_values import from_text

from tidehub.importing.build import import_documents
from tidehub.importing.listed import of_list
from tidehub.importing.round_trip import explained, unaccounted
from tidehub.importing.values_yaml import ValuesError, read_values

VALUES = "hub: {config: {JupyterHub: {authenticator_class: generic-oauth}}}\n"
LIVE = """\
apiVersion: v1
items:
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata:
    name: grafana
    namespace: daskhub
  spec:
    rules:
    - host: grafana.example.org
      http: {paths: [{backend: {service: {name: grafana, port: {number: 80}}}, path: /, pathType: Prefix}]}
- apiVersion: networking.k8s.io/v1
  kind: Ingress
  metadata:
    annotations:
      cert-manager.io/cluster-issuer: letsencrypt-prod
      kubectl.kubernetes.io/last-applied-configuration: |
        {"apiVersion":"networking.k8s.io/v1"}
      meta.helm.sh/release-name: jupyterhub
      meta.helm.sh/release-namespace: daskhub
    name: jupyterhub
    namespace: daskhub
    resourceVersion: "538"
  spec:
    ingressClassName: nginx
    rules:
    - host: hub.example.org
      http: {paths: [{backend: {service: {name: proxy-public, port: {name: http}}}, path: /, pathType: Prefix}]}
  status:
    loadBalancer: {}
kind: List
metadata:
  resourceVersion: ""
"""


def test_the_hubs_ingress_is_taken_out_of_a_list() -> None:
    documents = [read_values(VALUES, "values.yaml"), *of_list(read_values(LIVE, "ingress.yaml"))]
    found = import_documents(documents, namespace=None, name=None)
    assert unaccounted(documents, found) == [] and explained(found)
    assert found.site["site"]["url"] == "https://hub.example.org"
    kubernetes = found.site["kubernetes"]
    assert kubernetes["exposure"] == {"kind": "ingress", "class": "nginx", "issuer": "letsencrypt-prod"}
    assert kubernetes["namespace"] == "daskhub"
    # Nobody wished for what kubectl and Helm write into an object.
    assert "overrides" not in found.site
    where = next(leaf.where for leaf in found.leaves if leaf.fate.key == "kubernetes.exposure.class")
    assert (where.file, where.line) == ("ingress.yaml", 25)


def test_a_list_without_the_hubs_ingress_is_refused() -> None:
    with pytest.raises(ValuesError, match="no Ingress in this list leads to the hub"):
        of_list(read_values(LIVE.replace("proxy-public", "other"), "ingress.yaml"))


def test_values_stay_as_they_are() -> None:
    document = read_values("hub: {}\nitems: [1]\n", "values.yaml")
    assert of_list(document) == [document]
    assert from_text(VALUES).site["site"]
