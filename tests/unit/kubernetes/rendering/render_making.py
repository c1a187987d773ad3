"""A small platform, rendered without Helm: what the checks and the folder are tried on."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidehub.charts.fetch import ChartArchive
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.releases import Platform, Release
from tidehub.kubernetes.rendering.check import check
from tidehub.kubernetes.rendering.flaw import Flaw
from tidehub.kubernetes.rendering.model import Rendered, RenderedRelease
from tidehub.secrets.secret import Secret
from tidehub.site.model import Site
from tidehub.site.presets import text_of
from tidehub.site.reading.load import load_text

TOKEN = "5f1c8e0b7a694d2f3e1a0c9b8d7e6f5a"
LABELS = {"app": "hub"}


def site(preset: str = "protocoast", **values: Any) -> Site:
    overrides = [(key.replace("__", "."), value) for key, value in values.items()]
    return load_text(text_of(preset), preset, overrides=overrides).site


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def objects() -> list[Object]:
    """A hub as the charts make one, small: every kind of field that is checked is in it."""
    container = {
        "name": "hub",
        "image": "quay.io/jupyterhub/k8s-hub:4.4.0",
        "imagePullPolicy": "IfNotPresent",
        "args": ["jupyterhub", "--config", "/etc/jupyterhub_config.py"],
        "env": [
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "LEVEL", "value": "info"},
        ],
        "ports": [{"name": "http", "containerPort": 8081}],
        "readinessProbe": {"httpGet": {"path": "/hub/health", "port": "http"}},
        "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1Gi"}},
        "volumeMounts": [{"name": "config", "mountPath": "/etc"}],
    }
    pod = {
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "hub"}}],
    }
    return [
        _object("v1", "ConfigMap", "hub", data={"config.py": "c = get_config()"}),
        _object("v1", "Secret", "hub", data={"token": encoded(TOKEN)}),
        _object(
            "apps/v1",
            "Deployment",
            "hub",
            spec={
                "strategy": {"type": "Recreate"},
                "selector": {"matchLabels": LABELS},
                "template": {"metadata": {"labels": LABELS}, "spec": pod},
            },
        ),
        _object(
            "v1",
            "Service",
            "hub",
            spec={
                "type": "ClusterIP",
                "selector": LABELS,
                "ports": [{"name": "hub", "port": 8081, "targetPort": "http"}],
            },
        ),
        _object(
            "v1",
            "PersistentVolumeClaim",
            "hub-db-dir",
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        ),
        _object(
            "networking.k8s.io/v1",
            "Ingress",
            "hub",
            spec={
                "ingressClassName": "nginx",
                "rules": [
                    {
                        "host": "hub.example.org",
                        "http": {
                            "paths": [
                                {
                                    "path": "/",
                                    "pathType": "Prefix",
                                    "backend": {"service": {"name": "hub", "port": {"name": "hub"}}},
                                }
                            ]
                        },
                    }
                ],
            },
        ),
        _object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            "hub",
            spec={"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 8081}]}]},
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "ClusterRoleBinding",
            "system:hub",
            subjects=[{"kind": "ServiceAccount", "name": "hub", "namespace": "daskhub"}],
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
        ),
        _object("example.org/v1", "Tide", "high", spec={"metres": 4, "hours": "12", "open": {"any": 1}}),
    ]


def crd() -> Object:
    """The CRD of the kind `Tide`."""
    spec = {
        "type": "object",
        "required": ["metres"],
        "properties": {
            "metres": {"type": "integer", "minimum": 0, "maximum": 20},
            "hours": {"x-kubernetes-int-or-string": True},
            "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
        },
    }
    schema = {"type": "object", "properties": {"metadata": {"type": "object"}, "spec": spec}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "tides.example.org"},
        "spec": {
            "group": "example.org",
            "names": {"kind": "Tide", "plural": "tides"},
            "versions": [{"name": "v1", "served": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }


def rendered(
    made: Sequence[Object] | None = None,
    *,
    own: Sequence[Object] = (),
    hooks: Sequence[Object] = (),
    crds: Sequence[Object] | None = None,
    values: Mapping[str, Any] | None = None,
    secrets: Mapping[str, Any] | None = None,
    archive: Path = Path("jupyterhub-4.4.0.tgz"),
    kube_version: str = "1.34.0",
    given: Site | None = None,
) -> Rendered:
    """One release of these objects."""
    hidden = {"hub": {"token": Secret(TOKEN)}} if secrets is None else secrets
    release = Release("jupyterhub", "jupyterhub", "4.4.0", values or {"hub": {"baseUrl": "/"}}, hidden)
    platform = Platform(given or site(), "daskhub", "2026.11", "split", (release,), tuple(own))
    one = RenderedRelease(
        release,
        ChartArchive("jupyterhub", "4.4.0", archive, "0" * 64),
        tuple(objects() if made is None else made),
        tuple(hooks),
        tuple([crd()] if crds is None else crds),
    )
    return Rendered(platform, (one,), tuple(own), kube_version)


def changed(kind: str, change: Callable[[Object], Any]) -> list[Object]:
    """The objects, the one of this kind changed."""
    found = copy.deepcopy(objects())
    change(next(obj for obj in found if obj["kind"] == kind))
    return found


def flaws_of(made: Sequence[Object], **options: Any) -> list[Flaw]:
    return check(rendered(made, **options))


def _object(version: str, kind: str, name: str, **content: Any) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, **content}
