"""Executed by the Python of a dask-gateway image, without tidehub: what its server makes of the carried text.

`python -I gateway_image.py` reads questions as JSON lines and answers each with one. `policy` in a question is the
text of `gateway.extraConfig`, which the chart's configuration executes with `c`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from types import SimpleNamespace


class NoTidehub:
    """What is not carried is not there, whatever is installed."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tidehub", "pydantic", "jupyterhub", "ruamel"):
            raise ModuleNotFoundError(f"the image has no {name}")


class Kubernetes:
    """The API as far as the backend asks: DaskCluster objects, and what it was told."""

    def __init__(self):
        self.objects, self.told, self.pods, self.refuses, self.shown = {}, [], 0, (), True

    async def create_namespaced_custom_object(self, group, version, namespace, plural, body):
        name = body["metadata"]["name"]
        body["metadata"].update(
            namespace=namespace, uid=f"uid-{name}", creationTimestamp=f"{len(self.told):020d}Z"
        )
        self.objects[f"{namespace}.{name}"] = body
        self.told.append("cluster")

    async def get_namespaced_custom_object(self, group, version, namespace, plural, name):
        return self.objects[f"{namespace}.{name}"]

    async def patch_namespaced_custom_object(self, group, version, namespace, plural, name, body):
        (change,) = body
        self.objects[f"{namespace}.{name}"]["spec"][change["path"].rpartition("/")[2]] = change["value"]

    async def create_namespaced_network_policy(self, namespace, body):
        if "network" in self.refuses:
            from kubernetes_asyncio.client.rest import ApiException

            raise ApiException(status=403, reason="Forbidden")
        self.told.append(body)

    async def list_namespaced_pod(self, namespace, label_selector):
        metadata = SimpleNamespace(deletion_timestamp="now")
        pod = SimpleNamespace(status=SimpleNamespace(phase="Running"), metadata=metadata)
        return SimpleNamespace(items=[pod] * self.pods)


def configured(policy):
    from traitlets.config import Config

    c = Config()
    c.KubeBackend.gateway_instance = "dask-gateway"
    c.KubeClusterConfig.namespace = "daskhub"
    c.KubeClusterConfig.image = "chart/default:1"
    exec(compile(policy, "extraConfig", "exec"), {"c": c})
    return c


def backend_of(c, kubernetes):
    """The configured backend as `setup` leaves it, with `kubernetes` for the API and its informer's cache."""
    from dask_gateway_server.backends.kubernetes.backend import KubeBackend

    async def setup(self, app):
        self.custom_client = self.core_client = kubernetes
        self.api_client, self.clusters, self.username_to_clusters = None, {}, {}
        self.informer = SimpleNamespace(cache=kubernetes.objects if kubernetes.shown else {})

    KubeBackend.setup = setup
    vars(sys.modules["tidehub.kubernetes.api_pod.backend"])["NetworkingV1Api"] = lambda api_client: kubernetes
    c.SiteBackend.reaper_token = ""
    return c.DaskGateway.backend_class(parent=None, config=c, log=logging.getLogger("silent"))


async def answer(question):
    c = configured(question["policy"])
    kubernetes = Kubernetes()
    kubernetes.shown = question.get("shown", True)
    kubernetes.refuses = question.get("refuses", ())
    backend = backend_of(c, kubernetes)
    backend.middlewares = []
    await backend.setup(SimpleNamespace(middlewares=backend.middlewares, add_routes=lambda routes: None))
    said = []
    for step in question["steps"]:
        user = SimpleNamespace(name=step.get("who", "ann"), groups=step.get("groups", []))
        try:
            said.append(await STEPS[step["do"]](backend, kubernetes, user, step))
        except Exception as error:
            said.append({"refused": str(error), "kind": type(error).__name__})
    return {"said": said, "told": kubernetes.told, "objects": kubernetes.objects}


async def options(backend, kubernetes, user, step):
    return (await backend.get_cluster_options(user)).get_specification()


async def config(backend, kubernetes, user, step):
    chosen, made = await backend.process_cluster_options(user, step["chosen"])
    return {"chosen": chosen, "config": made.to_dict()}


async def start(backend, kubernetes, user, step):
    return await backend.start_cluster(user, step.get("chosen", {}))


async def both(backend, kubernetes, user, step):
    made = await asyncio.gather(
        *(backend.start_cluster(user, {}) for _ in range(step["count"])), return_exceptions=True
    )
    return [str(one) if isinstance(one, Exception) else "made" for one in made]


async def heartbeat(backend, kubernetes, user, step):
    name = list(kubernetes.objects)[step["cluster"]]
    backend.clusters[name] = SimpleNamespace(config=kubernetes.objects[name]["spec"]["config"])
    workers = [str(number) for number in range(step.get("active", 0))]
    msg = {"count": step["count"], "active_workers": workers, "closing_workers": [], "closed_workers": []}
    await backend.on_cluster_heartbeat(name, msg)
    return kubernetes.objects[name]["spec"]["replicas"]


async def pods(backend, kubernetes, user, step):
    kubernetes.pods = step["count"]


async def stop(backend, kubernetes, user, step):
    await backend.stop_cluster(list(kubernetes.objects)[step["cluster"]])


async def most(backend, kubernetes, user, step):
    """What upstream's scale would clamp to, and that its own record stays."""
    name = list(kubernetes.objects)[step["cluster"]]
    record = SimpleNamespace(
        name=name, username="ann", config=dict(kubernetes.objects[name]["spec"]["config"])
    )
    backend.clusters[name] = record
    before = dict(record.config)
    model = await backend.get_cluster(name)
    return {"most": model.config["cluster_max_workers"], "untouched": record.config == before}


async def shown_late(backend, kubernetes, user, step):
    """Whether a request for a new cluster is answered before the informer shows it, and what it finds then."""
    name = list(kubernetes.objects)[step["cluster"]]
    asking = asyncio.ensure_future(backend.get_cluster(name))
    await asyncio.sleep(0.05)
    early = asking.done()
    spec = kubernetes.objects[name]["spec"]
    backend.clusters[name] = SimpleNamespace(name=name, username="ann", config=spec["config"])
    return {"early": early, "found": getattr(await asking, "name", None) == name}


async def scale(backend, kubernetes, user, step):
    """What the answer to a scale request says, given upstream's own words."""
    from aiohttp import web
    from aiohttp.test_utils import make_mocked_request

    name = list(kubernetes.objects)[step["cluster"]]
    request = make_mocked_request("POST", f"/api/v1/clusters/{name}/scale")
    resource = SimpleNamespace(canonical="/api/v1/clusters/{cluster_name}/scale")
    request._match_info = type("Match", (dict,), {"route": SimpleNamespace(resource=resource)})(
        cluster_name=name
    )

    async def upstream(request):
        return web.json_response({"ok": not step["said"], "msg": step["said"]})

    (words,) = backend.middlewares
    return json.loads((await words(request, upstream)).text)


STEPS = {
    one.__name__: one
    for one in (options, config, start, both, heartbeat, pods, stop, most, scale, shown_late)
}


def main():
    sys.meta_path.insert(0, NoTidehub())
    logging.disable(logging.CRITICAL)
    os.environ["JUPYTERHUB_API_TOKEN"] = "token-of-the-service"
    for line in sys.stdin:
        print(json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)


if __name__ == "__main__":
    main()
