"""What one user's notebook can do to another's: every attempt is made from a real cell, and once by its owner."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from real_platform import RealPlatform
from real_user import User, login

from tidehub.checks.kernel import Kernel

pytestmark = [pytest.mark.real, pytest.mark.asyncio(loop_scope="module")]

_KINDS = ["platform", "sandboxed_platform"] if os.geteuid() == 0 else ["sandboxed_platform"]

_PROBES = """
import json, os, signal, socket, urllib.request, urllib.error
given = json.loads(GIVEN)

def attempt(what):
    try:
        return what()
    except urllib.error.HTTPError as error:
        return f"refused: {error.code}"
    except OSError as error:
        return f"refused: {type(error).__name__}"

def read(path):
    with open(path, "rb") as stream:
        stream.read(16)
    return "got in"

def connect(path):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(5)
        probe.connect(path)
    return "got in"

def fetch(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return "got in" if b"bokeh" in answer.read().lower() else "refused: no dashboard"

def signal_to(pid):
    os.kill(pid, 0)
    return "got in"

do = {"list": lambda path: os.listdir(path) and "got in", "read": read, "connect": connect,
      "fetch": fetch, "kill": signal_to, "write": lambda path: open(path, "a").close() or "got in"}
print(json.dumps({name: attempt(lambda: do[how](what)) for name, (how, what) in given.items()}))
"""

_START = """
import json, os
with open(os.path.expanduser("~/secret.txt"), "w") as stream:
    stream.write("mine")
from dask_gateway import GatewayCluster
cluster = GatewayCluster()
client = cluster.get_client()
port = client.scheduler_info(n_workers=0)["services"]["dashboard"]
print(json.dumps({"port": port, "name": cluster.name, "link": cluster.dashboard_link, "pid": os.getpid(),
                  "home": os.path.expanduser("~"), "token": os.environ["JUPYTERHUB_API_TOKEN"]}))
"""


class Two:
    """Alice at work with a cluster, and Bob, who is curious."""

    def __init__(self, alice: User, bob: User, hers: Kernel, his: Kernel, facts: dict[str, Any]) -> None:
        self.alice, self.bob, self.hers, self.his, self.facts = alice, bob, hers, his, facts
        self.platform = alice.platform


@pytest.fixture(scope="module", params=_KINDS)
def users_platform(request: pytest.FixtureRequest) -> Iterator[RealPlatform]:
    yield request.getfixturevalue(request.param)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def two(users_platform: RealPlatform) -> AsyncIterator[Two]:
    async with login(users_platform, "alice") as alice, login(users_platform, "bob") as bob:
        await alice.start()
        await bob.start("minimal")
        hers, his = await alice.kernel(), await bob.kernel()
        facts = await hers.result(_START)
        yield Two(alice, bob, hers, his, facts)
        await hers.run("cluster.shutdown()")


async def tried(kernel: Kernel, probes: dict[str, tuple[str, Any]]) -> dict[str, str]:
    outcome: dict[str, str] = await kernel.result(_PROBES.replace("GIVEN", repr(json.dumps(probes))))
    return outcome


def sockets_of(platform: RealPlatform, user: str) -> tuple[str, str]:
    """A kernel's and the notebook server's socket of a user, as the operator finds them."""
    [notebook] = [path for path in platform.run.rglob("nb.sock:80") if _owner(path, platform, user)]
    kernels = [path for path in (notebook.parent / "rt").rglob("*ipc*") if path.is_socket()]
    return str(kernels[0]), str(notebook)


def _owner(path: Path, platform: RealPlatform, user: str) -> bool:
    log = platform.places.server_logs / user / "default.log"
    return str(path.parent).replace("/", "%2F") in log.read_text() or str(path.parent) in log.read_text()


async def test_the_owner_can_and_another_user_cannot(two: Two) -> None:
    kernel_socket, notebook_socket = sockets_of(two.platform, "alice")
    home = two.facts["home"]
    server = next(each["pid"] for each in two.platform.status()["servers"] if "alice" in each["id"])  # type: ignore[index]
    hers = {
        "home": ("list", home),
        "file": ("read", f"{home}/secret.txt"),
        "change": ("write", f"{home}/secret.txt"),
        "kernel socket": ("connect", kernel_socket),
        "notebook socket": ("connect", notebook_socket),
    }
    assert set((await tried(two.hers, hers)).values()) == {"got in"}
    foreign = hers | {
        "server environ": ("read", f"/proc/{server}/environ"),
        "server files": ("list", f"/proc/{server}/cwd/"),
        "server kill": ("kill", server),
    }
    if two.platform.status()["isolation"] == "root":
        # In a sandbox the number means another process, or none.
        own = {"environ": ("read", f"/proc/{two.facts['pid']}/environ"), "kill": ("kill", two.facts["pid"])}
        assert set((await tried(two.hers, own)).values()) == {"got in"}
        foreign |= {f"kernel {name}": probe for name, probe in own.items()}
    outcome = await tried(two.his, foreign)
    assert not [name for name, what in outcome.items() if not what.startswith("refused")], outcome


async def test_nobody_reaches_the_platforms_own_things(two: Two) -> None:
    places = two.platform.places
    proxy_socket = two.platform.run / "proxy" / places.proxy_api_socket.name
    probes: dict[str, tuple[str, Any]] = {
        "proxy api": ("connect", str(proxy_socket)),
        "control": ("connect", str(places.control)),
        "private": ("list", str(places.private)),
        "hub database": ("read", str(places.hub_database)),
        "gateway database": ("read", str(places.gateway_database)),
        "ledger": ("read", str(places.ledger)),
        "people": ("read", str(places.users)),
        "secrets": ("read", str(places.secrets)),
        "accounts": ("read", str(places.identity / "demo-accounts.json")),
        "what the identity provider is told": ("read", str(places.identity_config)),
        "what the dashboards' gate is told": ("read", str(places.dashboards_config)),
        "hub log": ("read", str(places.logs / "hub.log")),
        "server logs": ("list", str(places.server_logs)),
    }
    for path in (
        places.secrets,
        places.hub_database,
        places.gateway_database,
        places.identity / "demo-accounts.json",
        places.identity_config,
        places.dashboards_config,
    ):
        assert path.is_file(), f"{path} is not where this test looks"
    assert proxy_socket.is_socket()
    parts = {part["name"]: part["pid"] for part in two.platform.status()["parts"]}
    probes |= {f"environ of {name}": ("read", f"/proc/{pid}/environ") for name, pid in parts.items()}
    probes |= {f"kill {name}": ("kill", pid) for name, pid in parts.items()}
    outcome = await tried(two.his, probes)
    assert not [name for name, what in outcome.items() if not what.startswith("refused")], outcome


async def test_a_dashboard_is_for_its_owner(two: Two) -> None:
    link = two.alice.browser.url(two.facts["link"])
    shown = await two.alice.open(link)
    assert shown.status == 200 and "bokeh" in shown.html.lower()
    curious = await two.bob.open(link)
    assert curious.status in (403, 404) and "bokeh" not in curious.html.lower(), curious.words
    port = two.facts["port"]
    direct = {
        path: ("fetch", f"http://127.0.0.1:{port}{path}") for path in ("/status", "/info/main/workers.html")
    }
    outcome = await tried(two.his, direct)
    assert not [path for path, what in outcome.items() if not what.startswith("refused")], outcome


async def test_a_cluster_is_for_its_owner(two: Two) -> None:
    listed = (
        "import json; from dask_gateway import Gateway; "
        "print(json.dumps({'names': [each.name for each in Gateway().list_clusters()]}))"
    )
    assert two.facts["name"] in (await two.hers.result(listed))["names"]
    assert two.facts["name"] not in (await two.his.result(listed))["names"]
    for call in ("connect", "stop_cluster"):
        output = await two.his.run(
            f"from dask_gateway import Gateway; Gateway().{call}({two.facts['name']!r})"
        )
        assert output.error, f"{call} of another user's cluster succeeded"
    assert two.facts["name"] in (await two.hers.result(listed))["names"]


async def test_a_server_is_for_its_owner(two: Two) -> None:
    path = f"{two.alice.base}api/contents/secret.txt"
    assert (await two.alice.call("GET", path)).json()["content"] == "mine"
    assert (await two.bob.call("GET", path)).status_code in (302, 403, 404)
    page = await two.bob.open(f"{two.alice.base}lab")
    assert page.status == 403, page.words
    mine = two.facts["token"]
    fetched = await two.bob.browser.http.get(
        two.bob.browser.url(f"{two.bob.base}api/contents"),
        headers={"Authorization": f"token {mine}"},
        cookies={},
    )
    assert fetched.status_code in (302, 403), "the token of one server opens another user's"


async def test_nobody_lifts_their_own_limit(two: Two) -> None:
    if two.platform.status()["isolation"] != "root":
        pytest.skip("memory is limited as root only")
    groups = (await two.his.run("print(open('/proc/self/cgroup').read())")).stdout.split()
    memory = next(line.split(":")[2] for line in groups if line.split(":")[1] in ("memory", ""))
    mounts = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
    files = [
        f"{mount}{memory}/{name}"
        for mount in mounts
        for name in ("memory.limit_in_bytes", "memory.max", "cgroup.procs")
    ]
    real = [path for path in files if Path(path).exists()]
    assert real, files
    outcome = await tried(two.his, {path: ("write", path) for path in real})
    assert set(outcome.values()) == {"refused: PermissionError"}, outcome
