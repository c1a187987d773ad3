"""The hub's values read by the real charts' hub, in packages of their hub images: login, profiles, sizes, scopes."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from chart_hub import ChartHub, environment
from identity_process import HUB, HUB_SECRET, RunningProvider, free_port, hidden_fields

from tidehub.charts.archive import Chart, open_chart
from tidehub.identity.accounts import AccountStore
from tidehub.kubernetes.values.build import platform
from tidehub.kubernetes.values.merge import merge
from tidehub.kubernetes.values.notebook_files import CONFIG, FOLDER, KEY
from tidehub.login.endpoints import discovered
from tidehub.secrets.charts import revealed
from tidehub.secrets.secret import Secret
from tidehub.site.model.overrides import Overrides
from tidehub.site.reading.load import load_text

pytestmark = pytest.mark.real

VO = "urn:mace:egi.eu:group:vo.pangeo.eu"
POWER = f"{VO}:role=power#aai.egi.eu"
MEMBER = f"{VO}:role=member#aai.egi.eu"
GIB = 2**30
SITE = """\
site: {{name: Coast, url: "{url}", contact: "Desk & Co, help@example.org"}}
login:
  provider: oidc
  issuer: {issuer}
  client_id: {client}
  scopes: [openid, profile, entitlements, offline_access]
  allow: {{groups: ["{vo}"]}}
  groups:
    - group: {vo}:role=power
      profiles: [large]
      notebooks: {{memory: {{limit: 16 GiB}}, cpu: {{limit: 8}}}}
      dask: {{enabled: true}}
notebooks:
  memory: {{guarantee: 1 GiB, limit: 4 GiB}}
  profiles:
    - {{name: Small, default: true, image: "quay.io/x/small:1"}}
    - {{name: Large, image: "quay.io/x/large:2"}}
dask: {{access: {access}, image: {{default: profile}}}}
kubernetes: {kubernetes}
"""


BROKEN = """
from jupyterhub.handlers import BaseHandler


class Broken(BaseHandler):
    def get(self):
        raise RuntimeError("words for the log")


c.JupyterHub.extra_handlers = [("/broken", Broken)]
"""
CONTACT = "Questions: Desk &amp; Co, help@example.org"
VERIFIER = "the-tests-own-verifier-which-is-the-same-for-everybody-here"
_HASH = hashlib.sha256(VERIFIER.encode()).digest()
CHALLENGE = base64.urlsafe_b64encode(_HASH).decode().rstrip("=")
PKCE = f"""
# The embedded provider asks for PKCE, which oauthenticator has from 17 on, and for the secret in the header.
c.GenericOAuthenticator.basic_auth = True
challenge = {{"code_challenge": "{CHALLENGE}", "code_challenge_method": "S256"}}
c.GenericOAuthenticator.extra_authorize_params = challenge
c.GenericOAuthenticator.%s = {{"code_verifier": "{VERIFIER}"}}
"""


@dataclass(frozen=True)
class Kind:
    """A chart, with what its hub image has (images/hub/requirements.txt of the chart's tag)."""

    kubernetes: str
    archive: tuple[str, str]
    image: tuple[str, ...]
    access: str = "groups"
    scopes: bool = True
    pages: bool = True
    """Whether the hub's own pages are those that ours extend."""
    pkce: str = ""
    """Code that makes an older oauthenticator send one."""


KINDS = {
    "4.4.0": Kind(
        "{model: split}",
        ("jupyterhub", "4.4.0"),
        ("jupyterhub==5.5.0", "oauthenticator==17.4.0", "jupyterhub-kubespawner==7.0.0"),
    ),
    "3.3.8": Kind(
        "{model: split, charts: {jupyterhub: 3.3.8}}",
        ("jupyterhub", "3.3.8"),
        ("jupyterhub==4.1.6", "oauthenticator==16.3.1", "jupyterhub-kubespawner==6.2.0", "sqlalchemy==2.0.31"),
        access="everyone",
        pkce=PKCE % "token_params",
    ),
    "daskhub 2024.1.1": Kind(
        "{model: daskhub}",
        ("daskhub", "2024.1.1"),
        ("jupyterhub==4.0.2", "oauthenticator==16.2.1", "jupyterhub-kubespawner==6.2.0", "sqlalchemy==2.0.23"),
        pkce=PKCE % "token_params",
    ),
    "daskhub 2022.6.0": Kind(
        "{model: daskhub, charts: {daskhub: 2022.6.0}}",
        ("daskhub", "2022.6.0"),
        (
            "jupyterhub==1.5.0", "oauthenticator==14.2.0", "jupyterhub-kubespawner==1.1.0", "pyjwt==1.7.1",
            # Not the image's, which has Python 3.8, but the nearest that today's Python takes.
            "sqlalchemy==1.4.54", "jinja2<3.1", "markupsafe<2.1", "tornado<6.3", "alembic<1.12",
            "kubernetes==12.0.1", "urllib3<2",
        ),
        access="everyone",
        scopes=False,
        pages=False,
        pkce=PKCE % "extra_params",
    ),
}  # fmt: skip


def archive(name: str, version: str) -> Chart:
    folder = os.environ.get("TIDEHUB_CHARTS", "")
    path = Path(folder) / f"{name}-{version}.tgz"
    if not folder or not path.is_file():
        pytest.skip(f"TIDEHUB_CHARTS names no directory with {name}-{version}.tgz")
    return open_chart(path)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


@pytest.fixture(scope="module")
def provider(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    archive(*kind.archive)
    port = free_port()
    callback = f"http://127.0.0.1:{port}/x/hub/oauth_callback"
    client = {"client_id": HUB, "client_secret": HUB_SECRET, "redirect_uri": callback}
    running = RunningProvider(tmp_path_factory.mktemp("identity"), {"client": client})
    running.hub_port = port  # type: ignore[attr-defined]
    running.make_accounts()
    with AccountStore.open(running.state_dir) as store:
        store.set_entitlements("bob", [MEMBER, POWER])
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def hub(
    kind: Kind, provider: RunningProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ChartHub]:
    home = tmp_path_factory.mktemp("hub")
    python = environment(home / "venv", [*kind.image, "pycurl", "pyyaml", "setuptools<70"])
    if python is None:
        pytest.skip("no network for the packages of a hub image")
    name, _ = kind.archive
    chart = archive(*kind.archive)
    inner = chart.subchart("jupyterhub") if name == "daskhub" else chart
    assert inner is not None
    port: int = provider.hub_port  # type: ignore[attr-defined]
    running = ChartHub(home, inner, python, base="/x/", with_roles=kind.scopes, port=port)
    text = SITE.format(
        url=running.url,
        issuer=provider.issuer,
        client=HUB,
        vo=VO,
        access=kind.access,
        kubernetes=kind.kubernetes,
    )
    site = load_text(text, "tidehub.yaml").site
    site = site.model_copy(update={"overrides": Overrides(hub_config=running.stand_in + BROKEN + kind.pkce)})
    secrets = {
        "jupyterhub": {
            "hub": {
                "config": {
                    "GenericOAuthenticator": {"client_secret": Secret(HUB_SECRET)},
                    "JupyterHub": {"cookie_secret": Secret("5d" * 32)},
                    "CryptKeeper": {"keys": [Secret("6e" * 32)]},
                },
                "services": {"dask-gateway": {"apiToken": Secret("7c" * 32)}},
            }
        }
    }
    document = httpx.get(f"{provider.issuer}/.well-known/openid-configuration").json()
    addresses = discovered(provider.issuer, document)
    release = platform(site, secrets, addresses=addresses).releases[0]
    values = merge(chart.values, release.values, revealed(release.secrets))
    running.lay_out(values["jupyterhub"] if name == "daskhub" else values)
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="module")
def browser(hub: ChartHub, provider: RunningProvider) -> Iterator[Callable[[str], httpx.Client]]:
    """Signs a user in, once, and keeps their cookies."""
    known: dict[str, httpx.Client] = {}

    def signed_in(name: str) -> httpx.Client:
        if name not in known:
            known[name] = httpx.Client(follow_redirects=True, timeout=60)
            page = known[name].get(f"{hub.url}hub/oauth_login", params={"next": "/x/hub/home"})
            fields = {
                **hidden_fields(page.text),
                "username": name,
                "password": provider.passwords[name],
            }
            known[name].answer = known[name].post(  # type: ignore[attr-defined]
                f"{provider.inside}/login", data=fields
            )
        return known[name]

    yield signed_in
    for one in known.values():
        one.close()


def started(hub: ChartHub, name: str, options: dict[str, str]) -> dict[str, Any] | None:
    """The pod after a start through the API, or None when it was refused."""
    (hub.directory / "pods" / f"{name}.json").unlink(missing_ok=True)
    hub.api("DELETE", f"users/{name}/server")
    answer = hub.api("POST", f"users/{name}/server", body=options)
    deadline = time.monotonic() + 60
    while answer.status_code == 202:
        assert time.monotonic() < deadline, hub.log[-3000:]
        server = hub.api("GET", f"users/{name}").json()
        if server.get("pending") is None:
            break
        time.sleep(0.1)
    return hub.pod(name)


def container(pod: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = pod["spec"]["containers"][0]
    return found


def env(pod: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one.get("value", "") for one in container(pod)["env"]}


def test_a_member_enters_and_another_does_not(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    assert browser("alice").answer.status_code == 200, hub.log[-3000:]  # type: ignore[attr-defined]
    assert browser("nora").answer.status_code == 403  # type: ignore[attr-defined]
    names = {user["name"] for user in hub.api("GET", "users").json()}
    assert "alice" in names
    assert "nora" not in names


def test_each_sees_their_profiles(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    pages = {name: browser(name).get(f"{hub.url}hub/spawn").text for name in ("alice", "bob")}
    assert "Small" in pages["alice"]
    assert "Large" not in pages["alice"], hub.log[-3000:]
    assert "Large" in pages["bob"]


def test_sizes_are_the_users(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    browser("alice"), browser("bob")
    small = started(hub, "alice", {"profile": "small"})
    large = started(hub, "bob", {"profile": "large"})
    assert small is not None, hub.log[-3000:]
    assert large is not None, hub.log[-3000:]
    assert container(small)["image"] == "quay.io/x/small:1"
    assert container(large)["image"] == "quay.io/x/large:2"
    assert int(container(small)["resources"]["limits"]["memory"]) == 4 * GIB
    assert int(container(large)["resources"]["limits"]["memory"]) == 16 * GIB
    assert float(container(large)["resources"]["limits"]["cpu"]) == 8


def test_a_forged_profile_starts_nothing(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    client = browser("alice")
    assert started(hub, "alice", {"profile": "large"}) is None
    page = client.get(f"{hub.url}hub/spawn")
    form = {**hidden_fields(page.text), "profile": "large"}
    if token := client.cookies.get("_xsrf"):
        form["_xsrf"] = token
    client.post(f"{hub.url}hub/spawn", data=form)
    assert hub.pod("alice") is None
    assert "There is no profile 'large' that you may start; possible: small." in hub.log
    assert started(hub, "alice", {"profile": "small"}) is not None


def title_of(page: httpx.Response) -> str:
    found = re.search(r"<title>(.*?)</title>", page.text, re.DOTALL)
    assert found is not None, page.text[:1000]
    return found[1].strip()


def test_every_failure_says_whom_to_ask(
    hub: ChartHub, kind: Kind, browser: Callable[[str], httpx.Client]
) -> None:
    if not kind.pages:
        pytest.skip("this hub keeps its own pages")
    member = browser("alice")
    browser("nora"), browser("bob")
    refused: httpx.Response = browser("nora").answer  # type: ignore[attr-defined]
    pages = {
        "No entry": (403, refused),
        "Not open to your account": (403, member.get(f"{hub.url}hub/admin")),
        "There is nothing at this address": (404, member.get(f"{hub.url}hub/nowhere")),
        "Something went wrong": (500, member.get(f"{hub.url}hub/broken")),
    }
    for title, (status, page) in pages.items():
        assert page.status_code == status, (title, hub.log[-3000:])
        assert title_of(page) == f"{title} – Coast", page.text
        assert page.text.count(CONTACT) == 1, page.text
        assert "words for the log" not in page.text
    assert "You are signed in as <strong>alice</strong>" in pages["There is nothing at this address"][1].text
    assert title_of(httpx.get(f"{hub.url}hub/nowhere")) == "There is nothing at this address – Coast"


def test_a_start_that_fails_says_whom_to_ask(
    hub: ChartHub, kind: Kind, browser: Callable[[str], httpx.Client]
) -> None:
    if not kind.pages:
        pytest.skip("this hub keeps its own pages")
    client = browser("alice")
    assert started(hub, "alice", {"profile": "large"}) is None
    page = client.get(f"{hub.url}hub/spawn-pending/alice")
    assert page.is_error
    assert title_of(page) == "Your server is not running – Coast", page.text
    assert page.text.count(CONTACT) == 1, page.text


def test_pages_have_titles_of_their_own(
    hub: ChartHub, kind: Kind, browser: Callable[[str], httpx.Client]
) -> None:
    if not kind.pages:
        pytest.skip("this hub keeps its own pages")
    client = browser("alice")
    titles = {path: title_of(client.get(f"{hub.url}hub/{path}")) for path in ("home", "spawn", "token")}
    assert titles == {
        "home": "Your servers – Coast",
        "spawn": "Choose your environment – Coast",
        "token": "Tokens – Coast",
    }


def test_the_dask_client_finds_the_gateway(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    browser("bob")
    pod = started(hub, "bob", {"profile": "large"})
    assert pod is not None, hub.log[-3000:]
    known = env(pod)
    service = known["DASK_GATEWAY__ADDRESS"].removesuffix("/x/services/dask-gateway")
    assert service.startswith("http://traefik-")
    assert service.endswith("dask-gateway.daskhub")
    assert known["DASK_GATEWAY__PROXY_ADDRESS"] == f"gateway://{service.removeprefix('http://')}:80"
    assert known["DASK_GATEWAY__PUBLIC_ADDRESS"] == "/x/services/dask-gateway/"
    assert known["DASK_GATEWAY__AUTH__TYPE"] == "jupyterhub"
    assert known["DASK_GATEWAY__CLUSTER__OPTIONS__IMAGE"] == "{JUPYTER_IMAGE_SPEC}"
    assert known["JUPYTER_IMAGE_SPEC"] == "quay.io/x/large:2"


def test_a_pod_has_the_files_of_notebook_servers(
    hub: ChartHub, browser: Callable[[str], httpx.Client]
) -> None:
    browser("alice")
    pod = started(hub, "alice", {"profile": "small"})
    assert pod is not None, hub.log[-3000:]
    (volume,) = [one for one in pod["spec"]["volumes"] if one["name"] == "files"]
    kept = {item["key"]: item["path"] for item in volume["secret"]["items"]}
    mounts = {
        mount["mountPath"]: kept[mount["subPath"]]
        for mount in container(pod)["volumeMounts"]
        if mount["name"] == "files"
    }
    for path in (f"{FOLDER}/busy_kernels.py", f"{FOLDER}/dask_dashboards.py", f"{CONFIG}/jupyter_config.py"):
        assert mounts[path] == f"{KEY}{path.rpartition('/')[2]}"


def test_only_who_may_start_clusters_has_a_token_for_the_gateway(
    hub: ChartHub, kind: Kind, browser: Callable[[str], httpx.Client]
) -> None:
    if not kind.scopes:
        pytest.skip("this hub has no scopes")
    browser("alice"), browser("bob")
    scopes = {}
    for name in ("alice", "bob"):
        pod = started(hub, name, {"profile": "small"})
        assert pod is not None, hub.log[-3000:]
        model = hub.api("GET", "user", token=env(pod)["JUPYTERHUB_API_TOKEN"]).json()
        scopes[name] = "access:services!service=dask-gateway" in model["scopes"]
        assert (f"{VO}:role=power" in model["groups"]) == (name == "bob")
    assert scopes == {"alice": kind.access == "everyone", "bob": True}


def test_nothing_secret_is_in_the_log(hub: ChartHub, browser: Callable[[str], httpx.Client]) -> None:
    browser("alice")
    assert HUB_SECRET not in hub.log
    assert "7c" * 32 not in hub.log
