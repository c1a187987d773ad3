"""The login on the real platform: both example sites at an independent provider, revocation with clusters, scripts."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from identity_process import free_port
from independent_provider import CLIENT, MEMBER, SECRET, IndependentProvider, sign_in, user
from playwright.async_api import async_playwright
from real_platform import REPOSITORY, RealPlatform, running_platform
from real_user import User, eventually, login
from ruamel.yaml import YAML

from tidehub.checks.browser import Browser
from tidehub.checks.login import who
from tidehub.identity.accounts import AccountStore
from tidehub.local.software import Software

pytestmark = pytest.mark.real
GROUP = MEMBER.partition("#")[0]
USERS = {
    "1": user("alice", MEMBER),
    "2": user("olga", MEMBER, MEMBER.replace("member", "vm_operator")),
    "3": user("nora", "urn:mace:egi.eu:group:other.vo:role=member#aai.egi.eu"),
    "4": user("rita", MEMBER.replace("member", "vm_operator")),
    "5": user("zoe"),
}
ADMITTED = {"1", "2"}


# --- both example sites at the independent provider ---------------------------------------------


def with_other_provider(example: str, directory: Path, issuer: str, port: int) -> Path:
    """The example's own file, but for the issuer and the address."""
    yaml = YAML()
    site = yaml.load((REPOSITORY / "examples" / example / "tidehub.yaml").read_text())
    base = "/jupyterhub/" if example == "pangeo" else "/"
    site["site"]["url"] = f"http://127.0.0.1:{port}{base}"
    site["login"] |= {"provider": "oidc", "issuer": issuer, "client_id": CLIENT}
    site["login"].pop("instance", None)
    path = directory / "tidehub.yaml"
    with path.open("w") as file:
        yaml.dump(site, file)
    return path


@pytest.fixture(scope="module", params=["pangeo", "protocoast"])
def example(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RealPlatform, IndependentProvider]]:
    directory, port = tmp_path_factory.mktemp("site"), free_port()
    base = f"http://127.0.0.1:{port}{'/jupyterhub' if request.param == 'pangeo' else ''}/hub"
    # The claim by which the memberships come is the one whose scope the example asks for.
    provider = IndependentProvider(
        directory, [f"{base}/oauth_callback"], [f"{base}/login"], accounts=dict(USERS)
    )
    provider.start()
    site = with_other_provider(request.param, directory, provider.issuer, port)
    try:
        with running_platform(
            request.param[:5],
            "--site",
            str(site),
            "--fit",
            demo=False,
            port=port,
            TIDEHUB_CLIENT_SECRET=SECRET,
        ) as started:
            yield started, provider
    finally:
        provider.stop()


def address(platform: RealPlatform) -> str:
    return str(platform.status()["address"])


async def test_exactly_the_members_enter(example: tuple[RealPlatform, IndependentProvider]) -> None:
    platform, _ = example
    for sub, claims in USERS.items():
        async with Browser(address(platform)) as browser:
            page = await sign_in(browser, sub, start=f"hub/oauth_login?next={browser.url('hub/home')}")
            if sub in ADMITTED:
                assert page.status == 200, page.words
                assert (await who(browser))["name"] == claims["preferred_username"]
            else:
                assert page.status == 403
                assert f"signed in as {claims['preferred_username']}" in page.words
                assert "vo.pangeo.eu" in page.words


async def test_in_chromium(example: tuple[RealPlatform, IndependentProvider]) -> None:
    platform, _ = example
    async with async_playwright() as playwright:
        chromium = await playwright.chromium.launch(
            executable_path="/usr/bin/chromium" if Path("/usr/bin/chromium").exists() else None,
            args=["--no-sandbox"],
        )
        try:
            page = await chromium.new_page()
            await page.goto(f"{address(platform)}hub/home")
            await (
                page.get_by_role("link", name="Sign in")
                .or_(page.locator("a[href*=oauth_login]"))
                .first.click()
            )
            await page.fill("input[name=login]", "1")
            await page.fill("input[name=password]", "any")
            await page.click("button[type=submit]")
            await page.click("button[type=submit]")  # consent
            await page.wait_for_url("**/hub/home")
            assert "alice" in await page.content()
            # Refused, with the button that leads out again.
            await page.goto(f"{address(platform)}hub/logout")
            await page.click("button[value=yes]")
            await page.wait_for_url("**/hub/login*")
            await page.goto(f"{address(platform)}hub/oauth_login")
            await page.fill("input[name=login]", "3")
            await page.fill("input[name=password]", "any")
            await page.click("button[type=submit]")
            await page.click("button[type=submit]")
            await page.get_by_text("You are signed in as").wait_for()
            words = await page.inner_text("body")
            assert "nora" in words and "vo.pangeo.eu" in words
            await page.get_by_text("Sign in with another account").click()
            await page.click("button[value=yes]")
            await page.wait_for_url("**/hub/login*")
        finally:
            await chromium.close()


def test_no_part_logs_a_code_or_token(example: tuple[RealPlatform, IndependentProvider]) -> None:
    platform, _ = example
    seen = 0
    for path in platform.places.logs.rglob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            seen += 1
            assert SECRET not in line and "eyJ" not in line, (path, line)
            assert "code=" not in line or "code=[" in line, (path, line)
    assert seen > 50


# --- the built-in site: what goes when a membership goes; scripts from outside ------------------


@pytest.fixture(scope="module")
def quick() -> Iterator[RealPlatform]:
    """The built-in site with a rule by group, asking every few seconds, schedulers shown to programs outside."""
    global SCHEDULER_PORT
    SCHEDULER_PORT = free_port()
    settings = ["login.refresh=5 s", f"machine.scheduler_port={SCHEDULER_PORT}"]
    settings += ["login.allow.everyone=false", f'login.allow.groups=["{GROUP}"]']
    words = [word for setting in settings for word in ("--set", setting)]
    with running_platform("quick", *words) as started:
        yield started


SCHEDULER_PORT = 0
OUTSIDE = """
import json, sys
from dask_gateway import Gateway, JupyterHubAuth

address, schedulers, token = json.load(sys.stdin)
with Gateway(address, proxy_address=schedulers, auth=JupyterHubAuth(api_token=token)) as gateway:
    cluster = gateway.new_cluster(shutdown_on_close=%s)
    with cluster.get_client() as client:
        print(client.submit(lambda x: x + 1, 41).result(timeout=120) if %s else "connected")
    print(cluster.name, cluster.dashboard_link)
"""


async def token_of(someone: User, **wish: Any) -> str:
    answer = await someone.call("POST", f"hub/api/users/{someone.name}/tokens", json=wish)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["token"])


def outside(platform: RealPlatform, token: str, *, end: bool, scale: bool) -> list[str]:
    """What a plain process prints that knows a token and the public addresses: environment empty, as on a laptop."""
    code = OUTSIDE % (end, scale)
    if scale:
        code = code.replace(
            "    with cluster.get_client", "    cluster.scale(1)\n    with cluster.get_client"
        )
    told = [f"{platform.address}services/dask-gateway", f"gateway://127.0.0.1:{SCHEDULER_PORT}", token]
    done = subprocess.run(
        ["env", "-i", str(Software().environment().python), "-c", code],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


async def test_a_laptop_reaches_scheduler_and_dashboard_with_a_token(quick: RealPlatform) -> None:
    async with login(quick, "alice") as alice:
        token = await token_of(alice, note="laptop", scopes=["access:services!service=dask-gateway"])
        import asyncio

        result, name, link = await asyncio.to_thread(outside, quick, token, end=False, scale=True)
        assert result == "42"
        status = f"{quick.address}services/dask-gateway/clusters/{name}/status"
        assert link == status
        async with httpx.AsyncClient() as plain:
            seen = await plain.get(status, headers={"Authorization": f"token {token}"})
            assert seen.status_code == 200 and "Dask" in seen.text
            unseen = await plain.get(status)
            assert unseen.status_code in (302, 403)
            # The token is for clusters and for nothing else.
            servers = await plain.post(
                f"{quick.address}hub/api/users/alice/server", headers={"Authorization": f"token {token}"}
            )
            assert servers.status_code in (403, 404)
        useless = await token_of(alice, note="reads", scopes=["read:users:name!user"])
        async with httpx.AsyncClient() as plain:
            refused = await plain.get(
                f"{quick.address}services/dask-gateway/api/v1/clusters/",
                headers={"Authorization": f"jupyterhub {useless}"},
            )
            assert refused.status_code == 401


async def test_a_lost_membership_ends_session_token_server_and_clusters(quick: RealPlatform) -> None:
    import asyncio

    async with login(quick, "olga") as olga:
        token = await token_of(olga, note="laptop")
        await olga.start()
        _, name, _ = await asyncio.to_thread(outside, quick, token, end=False, scale=False)
        assert name in clusters(quick) and servers(quick)
        with AccountStore.open(quick.places.identity) as accounts:
            kept = accounts.get("olga")
            assert kept is not None
            accounts.set_entitlements("olga", ["urn:mace:egi.eu:group:other.vo:role=member#aai.egi.eu"])
        try:

            async def ended() -> bool:
                headers = {"Authorization": f"token {token}"}
                async with httpx.AsyncClient() as plain:
                    answer = await plain.get(f"{quick.address}hub/api/user", headers=headers)
                return answer.status_code == 403 and name not in clusters(quick) and not servers(quick)

            seconds = await eventually(ended, within=40, saying="everything of olga ends")
            assert (await olga.call("GET", "hub/api/user")).status_code == 403
            print(f"ended after {seconds:.1f} s")
        finally:
            olga.journey.server_started = False
            with AccountStore.open(quick.places.identity) as accounts:
                accounts.set_entitlements("olga", kept.entitlements)
    log = (quick.places.logs / "hub.log").read_text()
    assert "ended everything of olga, because the membership is lost" in log


def servers(platform: RealPlatform) -> list[Any]:
    return list(platform.status().get("servers") or [])


def clusters(platform: RealPlatform) -> str:
    return json.dumps(platform.status().get("clusters") or [])
