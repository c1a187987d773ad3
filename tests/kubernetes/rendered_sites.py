"""Sites rendered through the real `helm`: the two examples with made secrets, and questions to what came out."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tidehub.helm.command_line import HelmCommandLine
from tidehub.helm.program import checked
from tidehub.kubernetes.objects import Object
from tidehub.kubernetes.rendering.model import Rendered
from tidehub.kubernetes.rendering.render import render
from tidehub.kubernetes.session import open_session

ROOT = Path(__file__).resolve().parents[2]
PLACES = {"pangeo": ROOT / "tests" / "data" / "sites"}
"""Pangeo in its layout of 2022, with the charts of that time; "pangeo, split" is that of the example."""
SECRETS = {
    "client_secret": "kT3-client-secret-of-the-tests",
    **{
        name: hashlib.sha256(name.encode()).hexdigest()
        for name in ("hub_cookie_secret", "hub_crypt_key", "proxy_auth_token", "gateway_token")
    },
}
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "protocoast": ("protocoast", {}),
    "protocoast, the seed's gateway": ("protocoast", {"kubernetes.charts": {"dask-gateway": "2022.6.1"}}),
    "protocoast, jupyterhub 3.3.8": (
        "protocoast",
        {"kubernetes.charts": {"jupyterhub": "3.3.8", "dask-gateway": "2022.6.1"}},
    ),
    "protocoast, daskhub": ("protocoast", {"kubernetes.model": "daskhub"}),
    "pangeo": ("pangeo", {}),
    "pangeo, 2024.1.1": ("pangeo", {"kubernetes.charts": {"daskhub": "2024.1.1"}}),
    "pangeo, split": ("pangeo", {"kubernetes.model": "split", "kubernetes.charts": {}}),
}
"""Both examples in both models, with today's charts and the seeds'."""


def site_folder(directory: Path, example: str, secrets: Mapping[str, str] = SECRETS) -> Path:
    """A copy of an example with its secrets beside it; the path of the site file."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "tidehub.yaml"
    file.write_text((PLACES.get(example, ROOT / "examples") / example / "tidehub.yaml").read_text())
    hidden = directory / "tidehub.secrets.yaml"
    hidden.touch(mode=0o600)
    hidden.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in secrets.items()))
    return file


def rendered_site(
    file: Path,
    settings: Mapping[str, Any],
    helm: Path,
    charts: Path,
    *,
    api_versions: Sequence[str] | None = None,
    kube_version: str | None = None,
) -> Rendered:
    """A site file through this `helm`, with the archives of `charts` only."""
    session = open_session(
        file,
        tuple(settings.items()),
        charts=charts,
        connect=False,
        offline=True,
        environ={"TIDEHUB_HELM": str(helm), "PATH": "/usr/bin:/bin"},
        say=lambda line: None,
    )
    engine = HelmCommandLine(checked(str(helm)))
    return render(
        session.platform, session.archives, engine, kube_version=kube_version, api_versions=api_versions
    )


class Objects:
    """Everything that was rendered, by kind and name."""

    def __init__(self, rendered: Rendered) -> None:
        self.rendered = rendered
        self.all: list[Object] = [obj for _, obj in rendered.everything()]

    def get(self, kind: str, name: str) -> Object:
        found = [obj for obj in self.all if obj["kind"] == kind and obj["metadata"]["name"] == name]
        assert len(found) == 1, f"{len(found)} of {kind} {name}; there are {sorted(self.names(kind))}"
        return found[0]

    def names(self, kind: str) -> set[str]:
        return {str(obj["metadata"]["name"]) for obj in self.all if obj["kind"] == kind}

    def of_kind(self, kind: str) -> list[Object]:
        return [obj for obj in self.all if obj["kind"] == kind]

    def secret(self, name: str) -> dict[str, str]:
        """A Secret's data, decoded."""
        data = self.get("Secret", name).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def hub_values(self) -> dict[str, Any]:
        """What the hub reads of its chart's values; secrets are in it, so it is a Secret."""
        from tidehub.charts.documents import read_one

        read: dict[str, Any] = read_one(self.secret("hub")["values.yaml"])
        return read

    def container(self, kind: str, name: str, container: str) -> dict[str, Any]:
        pods = self.get(kind, name)["spec"]["template"]["spec"]["containers"]
        return next(dict(one) for one in pods if one["name"] == container)


def secret_free(objects: Sequence[Object]) -> str:
    """All objects but Secrets as one text."""
    return json.dumps([obj for obj in objects if obj["kind"] != "Secret"])


def set_namespace(file: Path, namespace: str) -> None:
    """For the commands that take their namespace from the file."""
    text = file.read_text()
    assert "  namespace:" in text
    lines = [
        f"  namespace: {namespace}" if line.startswith("  namespace:") else line for line in text.splitlines()
    ]
    file.write_text("\n".join(lines) + "\n")
