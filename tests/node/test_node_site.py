"""ProtoCoast on a node: deployed with the published charts, a login at the provider, a server, a cluster that computes,
homes that last. `tidehub check` goes the same way by itself.
"""

from __future__ import annotations

import json

from cluster_api import Object
from independent_provider import sign_in
from protocoast import HOST, NAMESPACE, ProtoCoast

from tidehub.checks.browser import Browser

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
    status = protocoast.tidehub("status", "--json")
    assert status.returncode == 0, f"{status.stdout}{status.stderr}"
    pods = [pod for pod in protocoast.node.api.list("Pod", NAMESPACE) if pod["status"]["phase"] == "Running"]
    assert len(pods) >= 5, "hub, proxy, gateway api, controller and traefik"


async def test_a_member_computes_and_finds_the_home_again(protocoast: ProtoCoast) -> None:
    async with protocoast.signed_in("alice") as alice:
        await alice.start()
        output = await alice.run("print(sum(n * n for n in range(1000)))")
        assert output.stdout.strip() == "332833500", output
        written = await alice.run("from pathlib import Path; Path.home().joinpath('kept').write_text('mine')")
        assert not written.error, written.error
        pod = _server_pod(protocoast, "alice")
        await alice.stop()
        await alice.start()
        assert _server_pod(protocoast, "alice")["metadata"]["uid"] != pod["metadata"]["uid"], "another pod"
        output = await alice.run("from pathlib import Path; print(Path.home().joinpath('kept').read_text())")
        assert output.stdout.strip() == "mine", output
        await alice.stop()


async def test_a_cluster_of_two_workers_computes(protocoast: ProtoCoast) -> None:
    async with protocoast.signed_in("alice") as alice:
        await alice.start()
        try:
            output = await alice.run(_CLUSTER)
            assert not output.error, output.error
            assert output.stdout.split() == ["332833500", "2"], output
        finally:
            await alice.stop()
    protocoast.node.api.wait(
        "the cluster's pods are gone",
        lambda: not protocoast.node.api.list("Pod", NAMESPACE, selector="gateway.dask.org/cluster"),
    )


async def test_who_is_no_member_is_refused_with_a_reason(protocoast: ProtoCoast) -> None:
    async with Browser(f"https://{HOST}/", certificate=protocoast.node.trusted) as browser:
        page = await sign_in(browser, "bob")
    assert page.status == 403, page.words


async def test_check_goes_the_whole_path_with_a_users_token(protocoast: ProtoCoast) -> None:
    async with protocoast.signed_in("carol") as carol:
        token = await carol.token()
    checked = protocoast.tidehub("check", "--target", "kubernetes", "--json", TIDEHUB_CHECK_TOKEN=token)
    assert token not in checked.stdout + checked.stderr
    states = {phase["name"]: phase["state"] for phase in json.loads(checked.stdout)["phases"]}
    expected = dict.fromkeys(states, "ok") | {"spawn_page": "skipped", "logout": "skipped"}
    assert states == expected, checked.stdout


def _server_pod(site: ProtoCoast, user: str) -> Object:
    (pod,) = site.node.api.list("Pod", NAMESPACE, selector=f"hub.jupyter.org/username={user}")
    return pod
