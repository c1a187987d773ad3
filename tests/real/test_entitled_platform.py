"""Who may start what, on a real platform: by page, by API, in the gateway, and after a membership is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from real_platform import SOURCE, RealPlatform, running_platform
from real_user import User, eventually, login

from tidehub.checks.browser import Browser
from tidehub.checks.login import sign_in
from tidehub.checks.report import PhaseFailed
from tidehub.checks.target import Account
from tidehub.identity.accounts import AccountStore
from tidehub.local.secrets import load_secrets

pytestmark = pytest.mark.real

VO = "urn:mace:egi.eu:group:vo.coast.eu"
SITE = f"""
site: {{name: Policy Coast, contact: help@coast.example.org}}
login:
  provider: demo
  scopes: [openid, profile, email, entitlements, eduperson_assurance]
  refresh: 5 s
  enrolment_url: https://coast.example.org/join
  allow:
    groups: ["{VO}:*"]
    assurance: ["https://aai.egi.eu/LoA#Substantial", "https://aai.egi.eu/LoA#High"]
  groups:
    - group: {VO}:role=vm_operator
      profiles: [large]
      notebooks: {{memory: {{limit: 3 GiB}}, cpu: {{limit: 2}}}}
      dask: {{enabled: true, worker: {{memory: {{max: 768 MiB}}}}, per_user: {{max_clusters: 2}}}}
    - group: {VO}:role=admin
      dask: {{enabled: true}}
notebooks:
  cpu: {{guarantee: 0.5, limit: 1}}
  memory: {{guarantee: 256 MiB, limit: 1 GiB}}
  profiles:
    - {{name: Main, default: true}}
    - {{name: Large}}
    - {{name: Hers, allow: {{users: [bob]}}}}
dask:
  access: groups
  worker: {{memory: {{min: 256 MiB, max: 512 MiB, default: 256 MiB}}}}
  scheduler: {{memory: 256 MiB}}
  cluster: {{max_workers: 2, max_cores: 4, max_memory: 3 GiB}}
  per_user: {{max_clusters: 1}}
"""
_ASKED = """
import json, os
from dask_gateway import Gateway
fields = {}
try:
    with Gateway() as gateway:
        options = gateway.cluster_options()
        fields = dict(options.items())
    said = ""
except Exception as error:
    said = str(error)
print(json.dumps({"said": said, "fields": fields, "memory": os.environ.get("MEM_LIMIT"),
                  "address": os.environ.get("DASK_GATEWAY__ADDRESS", "")}))
"""


@pytest.fixture(scope="module")
def entitled_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealPlatform]:
    file = tmp_path_factory.mktemp("site") / "tidehub.yaml"
    file.write_text(SITE)
    with running_platform("rules", "--site", str(file)) as started:
        yield started


def _profiles(user: User, html: str) -> list[str]:
    return [slug for slug in ("main", "large", "hers") if f'value="{slug}"' in html]


async def _scopes(user: User) -> list[str]:
    code = (
        "import json, os, urllib.request as u\n"
        "r = u.Request(os.environ['JUPYTERHUB_API_URL'] + '/user', "
        "headers={'Authorization': 'token ' + os.environ['JUPYTERHUB_API_TOKEN']})\n"
        "print(json.dumps({'scopes': json.load(u.urlopen(r))['scopes']}))"
    )
    return list((await user.run(code)).value()["scopes"])


async def _start(user: User) -> None:
    """What the site promises this user decides whether there is a form."""
    user.journey.is_user(await user.record())
    await user.start()


async def test_a_member_without_more_sees_and_starts_the_open_profile_only(
    entitled_platform: RealPlatform,
) -> None:
    async with login(entitled_platform, "alice") as alice:
        for slug in ("large", "hers", "none-such"):
            refused = await alice.call("POST", "hub/api/users/alice/server", json={"profile": slug})
            assert refused.status_code == 403, refused.text
            assert (
                refused.json()["message"]
                == f"there is no profile '{slug}' that you may start; possible: main"
            )
        # Nothing of what was refused is stored, so nothing of it is asked again.
        me = (await alice.call("GET", "hub/api/users/alice?include_stopped_servers")).json()
        assert not any(server["user_options"] for server in me.get("servers", {}).values()), me
        # One profile alone: the hub asks nothing and starts it.
        alice.journey.target = replace(entitled_platform.target, profiles=("main",), default_profile="main")
        await alice.start("main")
        found = (await alice.run(_ASKED)).value()
        assert found["memory"] == str(2**30)
        assert found["address"] == ""
        assert not [scope for scope in await _scopes(alice) if "dask-gateway" in scope]


async def test_a_token_of_ones_own_opens_no_way_around(entitled_platform: RealPlatform) -> None:
    async with login(entitled_platform, "alice") as alice:
        made = await alice.call(
            "POST", "hub/api/users/alice/tokens", json={"scopes": ["access:services!service=dask-gateway"]}
        )
        token = made.json()["token"]
        headers = {"Authorization": f"jupyterhub {token}"}
        base = f"{entitled_platform.address}services/dask-gateway/api/v1"
        options = await alice.browser.http.get(f"{base}/options", headers=headers)
        created = await alice.browser.http.post(f"{base}/clusters/", headers=headers, json={})
        words = (
            "Dask clusters are not open to your account at Policy Coast. Questions: help@coast.example.org"
        )
        assert (options.status_code, options.json()["error"]) == (403, words)
        assert (created.status_code, created.json()["error"]) == (422, words)


async def test_a_profile_for_one_user(entitled_platform: RealPlatform) -> None:
    async with login(entitled_platform, "bob") as bob:
        page = await bob.open("hub/spawn")
        assert _profiles(bob, page.html) == ["main", "hers"]


async def test_a_group_has_its_profile_its_sizes_and_dask_until_it_loses_them(
    entitled_platform: RealPlatform,
) -> None:
    async with login(entitled_platform, "olga") as olga:
        page = await olga.open("hub/spawn")
        assert _profiles(olga, page.html) == ["main", "large"]
        assert "up to 3 GiB memory" in page.html
        olga.journey.is_user(await olga.record())
        await olga.start("large")
        found = (await olga.run(_ASKED)).value()
        assert found["memory"] == str(3 * 2**30)
        assert found["fields"]["profile"] == "large"
        assert "access:services!service=dask-gateway" in await _scopes(olga)
        kernel = await olga.kernel()
        try:
            made = await kernel.run(
                "from dask_gateway import Gateway\n"
                "gateway = Gateway()\n"
                "clusters = [gateway.new_cluster(worker_memory=0.75) for _ in range(2)]\n"
                "clusters[0].scale(1)\n"
                "clusters[0].get_client().wait_for_workers(1, timeout=120)"
            )
            assert not made.error, made.error
            third = await kernel.run("gateway.new_cluster()")
            assert "this site allows 2 for each user" in third.error, third.error
            large = await kernel.run("gateway.new_cluster(worker_memory=1)")
            assert "this site allows 256 MiB to 768 MiB" in large.error, large.error
            _explained(entitled_platform)
            await _loses_the_group(olga, kernel.run)
        finally:
            await kernel.stop()
            _entitle(entitled_platform, "olga", _OPERATOR)


_MEMBER = [f"{VO}:role=member#aai.egi.eu"]
_OPERATOR = [*_MEMBER, f"{VO}:role=vm_operator#aai.egi.eu"]


def _entitle(platform: RealPlatform, name: str, entitlements: list[str]) -> None:
    with AccountStore.open(platform.places.identity) as store:
        store.set_entitlements(name, entitlements)


def _explained(platform: RealPlatform) -> None:
    done = platform.command("explain-login", "--user", "olga", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["rule"] == "login.allow.groups"
    assert [one["slug"] for one in told["profiles"]] == ["main", "large"]
    assert told["dask"]["per_user"]["max_clusters"] == 2
    assert "https://aai.egi.eu/LoA#Substantial" in told["assurance"]


async def _loses_the_group(olga: User, run: object) -> None:
    _entitle(olga.platform, "olga", _MEMBER)

    async def without() -> bool:
        record = await olga.record()
        return f"{VO}:role=vm_operator" not in record["groups"]

    await eventually(without, within=30, saying="the hub knows that the membership is lost")

    async def ended() -> bool:
        answer = await olga.call("GET", "hub/api/user")
        assert answer.status_code == 200, "she is still a member"
        log = (olga.platform.places.logs / "gateway.log").read_text()
        return log.count("is ended: its owner may not have clusters now") >= 2

    await eventually(ended, within=120, every=1, saying="her clusters are ended")
    refused = await olga.run("from dask_gateway import Gateway; Gateway().new_cluster()")
    assert "not open to your account" in refused.error, refused.error


async def test_who_is_no_member_reads_what_is_missing_and_where_to_ask(
    entitled_platform: RealPlatform,
) -> None:
    said = await _refused(entitled_platform, "nora")
    assert "This site admits members of vo.coast.eu, and nora does not hold that membership" in said
    assert "https://coast.example.org/join" in said
    assert "help@coast.example.org" in said
    assert "Large" not in said and "Hers" not in said


async def test_who_lacks_the_assurance_reads_that(entitled_platform: RealPlatform) -> None:
    with AccountStore.open(entitled_platform.places.identity) as store:
        store.set_assurance("rita", ["https://aai.egi.eu/LoA#Low"])
    said = await _refused(entitled_platform, "rita")
    assert "https://aai.egi.eu/LoA#Substantial or https://aai.egi.eu/LoA#High" in said
    assert "says https://aai.egi.eu/LoA#Low" in said
    assert "does not hold that membership" not in said


async def _refused(platform: RealPlatform, name: str) -> str:
    async with Browser(platform.address) as browser:
        with pytest.raises(PhaseFailed) as refused:
            await sign_in(browser, Account(name, platform.accounts[name]))
        assert (await browser.call("GET", "hub/api/user")).status_code == 403
        return refused.value.why


async def test_explain_login_of_users_and_of_tokens(entitled_platform: RealPlatform) -> None:
    platform = entitled_platform
    nobody = platform.command("explain-login", "--user", "nobody-here")
    assert nobody.returncode == 2
    assert "the hub has no user nobody-here" in nobody.stderr
    async with login(platform, "alice"):
        explained = platform.command("explain-login", "--user", "Alice")
        assert explained.returncode == 0, explained.stderr
        assert "Dask clusters: no, only for other groups" in explained.stdout
        assert "large  not shown to them, and refused" in explained.stdout
        token = _access_token(platform, "alice")
        by_token = _explain_token(platform, token)
        assert (by_token.returncode, by_token.stdout) == (0, explained.stdout)
        assert token not in by_token.stdout + by_token.stderr
    refused = _explain_token(platform, "not-a-token-of-anybody")
    assert refused.returncode == 2
    assert "refuses this token (401)" in refused.stderr
    assert "not-a-token" not in refused.stderr


def _access_token(platform: RealPlatform, name: str) -> str:
    operator = load_secrets(platform.places.secrets).operator_token.reveal()
    answer = httpx.get(
        f"{platform.address}hub/api/users/{name}", headers={"Authorization": f"token {operator}"}
    )
    return str(answer.json()["auth_state"]["access_token"])


def _explain_token(platform: RealPlatform, token: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidehub", "explain-login", "--token-stdin", "--state", str(platform.state)],
        input=f"{token}\n",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_check_goes_the_path_of_each(entitled_platform: RealPlatform) -> None:
    for name, dask in (("alice", "skipped"), ("ada", "ok")):
        code, report = entitled_platform.check("--user", name)
        states = {phase["name"]: phase["state"] for phase in report["phases"]}
        assert code == 0, report
        assert states["cluster"] == dask, (name, states)
