"""Dask Gateway's own server and controller as processes here, with the chart's configuration and service accounts, on
the test cluster; and a hub that knows three users.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import tarfile
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cluster_api import Api

from tidehub.kubernetes.objects import Object, read_manifest
from tidehub.kubernetes.values import build, gateway
from tidehub.kubernetes.values.merge import merge
from tidehub.site.model import Site
from tidehub.site.reading.load import load_text

TOKEN = "0123456789abcdef" * 4
ACCESS = "access:services!service=dask-gateway"
SITE = """
site: {{name: Coast, url: "https://hub.example.org"}}
login: {{provider: egi-check-in, client_id: x, allow: {{everyone: true}}}}
notebooks: {{profiles: [{{name: Main, default: true, image: "quay.io/x/main:1"}}]}}
dask:
  worker: {{cores: {{min: 1, max: 2, default: 1}}, memory: {{min: 1 GiB, max: 4 GiB, default: 4 GiB}}}}
  scheduler: {{cores: 1, memory: 2 GiB}}
  cluster: {{max_workers: 3, max_cores: 9, max_memory: 24 GiB, orphan_grace: 1 s}}
  per_user: {{max_clusters: 2, max_memory: 20 GiB}}
kubernetes: {{namespace: {namespace}, charts: {{dask-gateway: {version}}}}}
"""


class Hub:
    """What the gateway asks a hub: whose token this is, and who has a server."""

    def __init__(self) -> None:
        self.tokens = {"ann-token": ["self", ACCESS], "bob-token": ["self", ACCESS], "shut-token": ["self"]}
        self.present = {"ann", "bob"}
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                token = self.headers.get("Authorization", "").removeprefix("token ")
                if self.path == "/hub/api/user" and token in outer.tokens:
                    name = token.removesuffix("-token")
                    self.say(200, {"kind": "user", "name": name, "groups": [], "scopes": outer.tokens[token]})
                elif self.path.startswith("/hub/api/users?") and token == TOKEN:
                    items = [{"name": name, "groups": []} for name in sorted(outer.present)]
                    self.say(200, {"items": items, "_pagination": {"next": None}})
                else:
                    self.say(403, {})

            def say(self, status: int, what: Any) -> None:
                body = json.dumps(what).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hub/api"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class GatewayOnCluster:
    """One installation in `namespace`; a context manager. `python` has dask-gateway-server in that `version`."""

    def __init__(
        self,
        cluster: Any,
        namespace: str,
        folder: Path,
        *,
        helm: Path,
        charts: Path,
        version: str,
        python: str,
        hub: Any = None,
        more: str = "",
    ) -> None:
        self.api: Api = cluster.api
        self.namespace, self.folder, self.hub, self.more = namespace, folder, hub or Hub(), more
        self.site: Site = load_text(SITE.format(namespace=namespace, version=version), "tidehub.yaml").site
        archive = charts / f"dask-gateway-{build.chart_version(self.site, 'dask-gateway')}.tgz"
        objects = self._rendered(helm, archive)
        self._install(archive, objects)
        self.address = f"127.0.0.1:{_free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._configs = {
            one["metadata"]["name"]: one["data"] for one in objects if one["kind"] == "ConfigMap"
        }
        self._cluster, self._python = cluster, python

    def __enter__(self) -> GatewayOnCluster:
        here = f"""
c.DaskGateway.address = {self.address!r}
# The chart of 2022.6.1 states it within DaskGateway, which counts before the plain name.
c.DaskGateway.HubAuthenticator.jupyterhub_api_url = {self.hub.url!r}
c.SiteBackend.hub_api_url = {self.hub.url!r}
c.SiteBackend.reap_period = 0.5
{self.more}
"""
        self._start("api-dask-gateway", here)
        self._start(
            "controller-dask-gateway",
            f"c.KubeController.address = '127.0.0.1:{_free_port()}'\n",
            "kube-controller",
        )
        self.api.wait("the gateway's server answers", lambda: self.ask("GET", "/api/health")[0] == 200)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.hub.server.shutdown()
        self.hub.server.server_close()
        for one in self.everywhere:
            self.api.delete(one["kind"], one["metadata"]["name"], version=one["apiVersion"])

    def ask(self, method: str, path: str, body: Any = None, authorization: str = "") -> tuple[int, Any]:
        """Status and JSON of an answer of the gateway's server; 0 where it does not answer."""
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Content-Type": "application/json",
                **({"Authorization": authorization} if authorization else {}),
            },
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")
        except OSError:
            return 0, None

    def as_user(self, name: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """The same, as a notebook of that user asks."""
        return self.ask(method, f"/api/v1{path}", body, f"jupyterhub {name}-token")

    def heartbeat(self, cluster: str, workers: int) -> int:
        """What a scheduler says; the number of workers that it got."""
        name = cluster.partition(".")[2]
        secret = self.api.get("Secret", f"dask-credentials-{name}", self.namespace)
        token = base64.b64decode(secret["data"]["api-token"]).decode()
        body = {"count": workers, "active_workers": [], "closing_workers": [], "closed_workers": []}
        status, _ = self.ask("POST", f"/api/v1/clusters/{cluster}/heartbeat", body, f"token {token}")
        assert status == 200, status
        return int(self.cluster(cluster)["spec"]["replicas"])

    def cluster(self, cluster: str) -> Object:
        """The DaskCluster object."""
        found = self.api.get(
            "DaskCluster", cluster.partition(".")[2], self.namespace, version="gateway.dask.org/v1alpha1"
        )
        assert found is not None
        return found

    def workers(self, cluster: str) -> list[Object]:
        """The pods of a cluster's workers."""
        selector = (
            f"gateway.dask.org/cluster={cluster.partition('.')[2]},app.kubernetes.io/component=dask-worker"
        )
        return self.api.list("Pod", self.namespace, selector=selector)

    def log(self) -> str:
        """The ends of both logs."""
        return "\n".join(path.read_text()[-3000:] for path in sorted(self.folder.glob("*.log")))

    def _start(self, name: str, more: str, *command: str) -> None:
        config = self.folder / f"{name}.py"
        config.write_text(self._configs[name]["dask_gateway_config.py"] + "\n" + more, encoding="utf-8")
        account = f"system:serviceaccount:{self.namespace}:{name}"
        kubeconfig = self._cluster.kubeconfig_for(account, ["system:serviceaccounts"])
        env: Mapping[str, str] = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "KUBECONFIG": str(kubeconfig),
            "JUPYTERHUB_API_TOKEN": TOKEN,
        }
        argv = [self._python, "-m", "dask_gateway_server", *command, "--config", str(config)]
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(argv, env=env, cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)
            )

    def _rendered(self, helm: Path, archive: Path) -> list[Object]:
        secret = {"gateway": {"auth": {"jupyterhub": {"apiToken": TOKEN}}}}
        # The namespace of new clusters comes from a service account's files, which are not here.
        more = {"gateway": {"backend": {"namespace": self.namespace}}}
        values = self.folder / "values.json"
        values.write_text(json.dumps(merge(gateway.values(self.site), secret, more)), encoding="utf-8")
        command = [
            helm,
            "template",
            "dask-gateway",
            archive,
            "-n",
            self.namespace,
            "-f",
            values,
            "--kube-version",
            "1.34.0",
        ]
        env = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=env, check=False)
        assert done.returncode == 0, done.stderr
        return read_manifest(done.stdout)

    def _install(self, archive: Path, objects: list[Object]) -> None:
        with tarfile.open(archive) as chart:
            members = [one for one in chart.getmembers() if "/crds/" in one.name and one.isfile()]
            for one in members:
                text = chart.extractfile(one).read().decode()  # type: ignore[union-attr]
                self.api.apply(text)
        wanted = {"ServiceAccount", "ClusterRole", "ClusterRoleBinding"}
        chosen = [one for one in objects if one["kind"] in wanted]
        self.everywhere = [one for one in chosen if one["kind"] != "ServiceAccount"]
        self.api.apply([*chosen, *gateway.objects(self.site)], self.namespace)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
