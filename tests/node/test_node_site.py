"""ProtoCoast on a node: deployed with the published charts, a login at the provider, a server, a cluster that computes,
homes that last. `tidehub check` goes the same way by itself.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cluster_api import Object
from independent_provider import sign_in
from node_components import PROVIDER_ADDRESS
from protocoast import HOST, NAMESPACE, ProtoCoast

from tidehub.checks.browser import Browser

Phase = dict[str, Any]
_CLUSTER = """
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(2)
client = cluster.get_client()
client.wait_for_workers(2, timeout=200)
total = client.submit(sum, client.map(lambda n: n * n, range(1000))).result(timeout=100)
hosts = sorted(set(client.run(lambda: __import__("socket").gethostname()).values()))
client.close(); cluster.shutdown()
print(total, len(hosts))
"""


def test_the_deployed_site_is_what_the_file_says(protocoast: ProtoCoast) -> None:
    planned = protocoast.tidehub("plan")
    assert planned.returncode == 0, f"{planned.stdout}{planned.stderr}"
    status = protocoast.tidehub("status", "--target", "kubernetes", "--json")
    assert status.returncode == 0, f"{status.stdout}{status.stderr}"
    pods = [pod for pod in protocoast.node.api.list("Pod", NAMESPACE) if pod["status"]["phase"] == "Running"]
    assert len(pods) >= 5, "hub, proxy, gateway api, controller and traefik"


async def test_a_member_computes_and_finds_the_home_again(protocoast: ProtoCoast) -> None:
    async with protocoast.at_work("alice") as alice:
        output = await alice.run("print(sum(n * n for n in range(1000)))")
        assert output.stdout.strip() == "332833500", output
        written = await alice.run("from pathlib import Path; Path.home().joinpath('kept').write_text('mine')")
        assert not written.error, written.error
        pod = _server_pod(protocoast, "alice")
    async with protocoast.at_work("alice") as alice:
        assert _server_pod(protocoast, "alice")["metadata"]["uid"] != pod["metadata"]["uid"], "another pod"
        output = await alice.run("from pathlib import Path; print(Path.home().joinpath('kept').read_text())")
        assert output.stdout.strip() == "mine", output


async def test_a_cluster_of_two_workers_computes(protocoast: ProtoCoast) -> None:
    async with protocoast.at_work("alice") as alice:
        output = await alice.run(_CLUSTER)
        assert not output.error, output.error
        assert output.stdout.split() == ["332833500", "2"], output
    protocoast.node.api.wait(
        "the cluster's pods are gone",
        lambda: not protocoast.node.api.list("Pod", NAMESPACE, selector="gateway.dask.org/cluster"),
    )


_REACHED = """
def reached(targets):
    import socket
    found = {}
    for name, (host, port) in targets.items():
        try:
            socket.create_connection((host, port), timeout=3).close()
            found[name] = True
        except OSError:
            found[name] = False
    return found
"""
_WITH_CLUSTER = """
import json
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
cluster.scale(1)
client = cluster.get_client()
client.wait_for_workers(1, timeout=200)
(worker,) = client.scheduler_info()["workers"]
print(json.dumps({"worker": worker.rpartition("/")[2], "name": cluster.name}))
"""
_SEEN = """
import json, os, urllib.error, urllib.request
found = {}
for way in ("TIDEHUB_DASHBOARDS", "DASK_GATEWAY__ADDRESS"):
    url = f"{os.environ[way]}/clusters/NAME/individual-plots.json"
    token = {"Authorization": "token " + os.environ["JUPYTERHUB_API_TOKEN"]}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=token), timeout=60) as answer:
            found[way] = answer.status
    except urllib.error.HTTPError as error:
        found[way] = error.code
    except OSError:
        found[way] = None
print(json.dumps(found))
"""
_FROM = {
    # Target: whether alice's notebook server reaches it, carol's scheduler, and carol's worker.
    "hub": (True, False, False),
    "gateway, by its proxy": (True, False, False),
    "gateway itself": (False, True, False),
    "the hub's proxy, where routes are set": (False, False, False),
    "notebook server of another user": (False, False, False),
    "carol's scheduler": (False, True, True),
    "carol's worker": (False, True, True),
    "carol's dashboard": (False, True, True),
    "the gate before dashboards": (True, False, False),
    "a pod of another namespace": (False, False, False),
    "internet": (True, True, True),
}


async def test_who_reaches_whom(protocoast: ProtoCoast) -> None:
    """From alice's server and from carol's cluster. The node, which no policy holds, reaches all of it.

    Nor does a policy guard the node's own programs here, and so not the API server.
    """
    async with protocoast.at_work("carol") as carol, protocoast.at_work("alice") as alice:
        kernel = await carol.kernel()
        made = await kernel.result(_WITH_CLUSTER)
        host, _, port = made["worker"].rpartition(":")
        gateway = "gateway.dask.org/instance=dask-gateway,app.kubernetes.io/component"
        targets = {
            "hub": (protocoast.address("component=hub"), 8081),
            "gateway, by its proxy": (protocoast.address(f"{gateway}=traefik"), 8000),
            "gateway itself": (protocoast.address(f"{gateway}=gateway"), 8000),
            "the hub's proxy, where routes are set": (protocoast.address("component=proxy"), 8001),
            "notebook server of another user": (_address_of_server(protocoast, "carol.coast"), 8888),
            "carol's scheduler": (protocoast.address(f"{gateway}=dask-scheduler"), 8786),
            "carol's worker": (host, int(port)),
            "carol's dashboard": (protocoast.address(f"{gateway}=dask-scheduler"), 8787),
            "the gate before dashboards": (protocoast.address("component=hub"), 10101),
            "a pod of another namespace": (_dns_pod(protocoast), 8181),
            "internet": (PROVIDER_ADDRESS, 443),
        }
        here: dict[str, Any] = {}
        exec(_REACHED, here)
        assert here["reached"](targets) == dict.fromkeys(targets, True)
        asked = f"{_REACHED}\nimport json\ntargets = {targets!r}\n"
        alone = await (await alice.kernel()).result(f"{asked}print(json.dumps(reached(targets)))")
        assert alone == {name: row[0] for name, row in _FROM.items()}
        targets["notebook server of another user"] = (_address_of_server(protocoast, "alice"), 8888)
        asked = f"{_REACHED}\ntargets = {targets!r}\n"
        runs = "[client.run_on_scheduler(reached, targets), client.submit(reached, targets).result()]"
        scheduler, worker = (await kernel.result(f"{asked}print(json.dumps(dict(found={runs})))"))["found"]
        assert scheduler == {name: row[1] for name, row in _FROM.items()}
        assert worker == {name: row[2] for name, row in _FROM.items()}
        # Her notebook server, for JupyterLab's panel, comes by the gate; nobody comes past it.
        seen = _SEEN.replace("NAME", made["name"])
        hers, others = await kernel.result(seen), await (await alice.kernel()).result(seen)
        assert hers["TIDEHUB_DASHBOARDS"] == 200 and hers["DASK_GATEWAY__ADDRESS"] != 200, hers
        assert others["TIDEHUB_DASHBOARDS"] == 403 and others["DASK_GATEWAY__ADDRESS"] != 200, others
        await kernel.run("client.close(); cluster.shutdown()")


_HOSTILE = """
def flood(dask_scheduler):
    from tornado import websocket
    class Zeros(websocket.WebSocketHandler):
        def get_compression_options(self):
            return {"compression_level": 1}
        async def open(self):
            while True:
                await self.write_message(b"0" * (4 << 20), binary=True)
    dask_scheduler.http_application.add_handlers(".*$", [("/zeros", Zeros)])

import json, os, socket
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
client = cluster.get_client()
client.run_on_scheduler(flood)
host = os.environ["TIDEHUB_DASHBOARDS"].split("/")[2]
request = "\\r\\n".join([
    f"GET /services/dask-gateway/clusters/{cluster.name}/zeros HTTP/1.1",
    "Host: x", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Extensions: permessage-deflate",
    "Authorization: token " + os.environ["JUPYTERHUB_API_TOKEN"], "", ""])
open_ones = []
for _ in range(40):
    one = socket.create_connection((host, 80), timeout=30)
    one.sendall(request.encode())
    open_ones.append(one)
first = [one.recv(12).decode() for one in open_ones]
print(json.dumps({"first": sorted(set(first))}))
"""
_GATE = """
for place in /proc/[0-9]*; do
    if tr '\\0' ' ' < $place/cmdline | grep -q '^python3 .*dashboards/gate.py'; then
        echo $(grep VmHWM $place/status) nice $(cut -d' ' -f19 $place/stat)
    fi
done
"""


async def test_a_hostile_dashboard_leaves_the_hub_its_memory(protocoast: ProtoCoast) -> None:
    """Forty WebSockets that nobody reads, with messages packed a thousandfold: gigabytes where they are unpacked."""
    async with protocoast.at_work("carol") as carol:
        kernel = await carol.kernel()
        assert await kernel.result(_HOSTILE) == {"first": ["HTTP/1.1 101"]}
        said = protocoast.node.kubectl(
            "exec", "-n", NAMESPACE, "deploy/hub", "--", "bash", "-c", _GATE
        ).stdout
        _, most, _, _, nice = said.split()
        assert int(most) < 256 << 10, f"{most} KiB"
        assert nice == "10"
        assert (await carol.browser.open("services/dask-gateway/")).status == 200
        await kernel.run("for one in open_ones: one.close()\nclient.close(); cluster.shutdown()")


async def test_who_is_no_member_is_refused_with_a_reason(protocoast: ProtoCoast) -> None:
    async with Browser(f"https://{HOST}/", certificate=protocoast.node.trusted) as browser:
        page = await sign_in(browser, "bob")
    assert page.status == 403, page.words


@pytest.fixture(scope="module")
def phases(protocoast: ProtoCoast) -> dict[str, Phase]:
    """What `tidehub check` said of each phase, with the token that a user made."""

    async def made() -> str:
        async with protocoast.signed_in("carol") as carol:
            return await carol.token()

    token = asyncio.run(made())
    checked = protocoast.tidehub("check", "--target", "kubernetes", "--json", TIDEHUB_CHECK_TOKEN=token)
    assert token not in checked.stdout + checked.stderr
    return {phase["name"]: phase for phase in json.loads(checked.stdout)["phases"]}


def test_check_goes_the_whole_path_with_a_users_token(phases: dict[str, Phase]) -> None:
    states = {name: phase["state"] for name, phase in phases.items() if name != "dashboard"}
    left_out = {"spawn_page": "skipped", "logout": "skipped"}
    assert states == dict.fromkeys(states, "ok") | left_out, json.dumps(phases, indent=1)
    assert phases["compute"]["detail"] == "on 2 workers"


def test_check_finds_the_dashboard_closed_to_strangers(phases: dict[str, Phase]) -> None:
    assert phases["dashboard"]["state"] == "ok", phases["dashboard"]["why"]


def _address_of_server(site: ProtoCoast, user: str) -> str:
    return next(
        str(pod["status"]["podIP"])
        for pod in site.node.api.list("Pod", NAMESPACE, selector="component=singleuser-server")
        if pod["metadata"]["annotations"]["hub.jupyter.org/username"] == user
    )


def _dns_pod(site: ProtoCoast) -> str:
    (pod,) = site.node.api.list("Pod", "kube-system", selector="k8s-app=kube-dns")
    return str(pod["status"]["podIP"])


def _server_pod(site: ProtoCoast, user: str) -> Object:
    (pod,) = site.node.api.list("Pod", NAMESPACE, selector=f"hub.jupyter.org/username={user}")
    return pod
