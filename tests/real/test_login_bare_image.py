"""The login's text where nothing of ours is installed: JupyterHub and oauthenticator alone, as in the hub image."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import httpx
import pytest
from bare_hub import BareHub
from identity_process import GROUP, HUB, HUB_SECRET, RunningProvider, free_port, hidden_fields

from tidehub.local.software import Software

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the hub's two packages and what they need."""
    home = tmp_path_factory.mktemp("bare") / "venv"
    uv = next(iter(sorted((Software().root / "uv").glob("*/uv"))), Path("uv"))
    wanted = [f"{name}=={version(name)}" for name in ("jupyterhub", "oauthenticator")]
    for command in (
        [uv, "venv", "-q", "--python", sys.executable, home],
        [uv, "pip", "install", "-q", "-p", home / "bin" / "python", *wanted],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True)
        except FileNotFoundError:
            pytest.skip("uv is not here; ./tidehub --version brings it")
        if done.returncode != 0:
            pytest.skip(f"no network for a bare environment: {done.stderr.strip().splitlines()[-1]}")
    return str(home / "bin" / "python")


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProvider]:
    port = free_port()
    client = {
        "client_id": HUB,
        "client_secret": HUB_SECRET,
        "redirect_uri": f"http://127.0.0.1:{port}/hub/oauth_callback",
    }
    running = RunningProvider(tmp_path_factory.mktemp("identity"), {"client": client})
    running.hub_port = port  # type: ignore[attr-defined]
    running.make_accounts()
    running.start()
    yield running
    running.stop()


def test_the_interpreter_knows_nothing_of_ours(python: str) -> None:
    for module in ("tidehub", "aarc_entitlement", "joserfc", "httpx"):
        done = subprocess.run([python, "-I", "-c", f"import {module}"], capture_output=True, text=True)
        assert "ModuleNotFoundError" in done.stderr, module


def test_a_member_enters_and_another_reads_why(
    python: str, provider: RunningProvider, tmp_path: Path
) -> None:
    login = {
        "allow": {"groups": [GROUP.partition("#")[0]]},
        "scopes": ["openid", "profile", "entitlements", "offline_access"],
    }
    port = provider.hub_port  # type: ignore[attr-defined]
    hub = BareHub(tmp_path / "hub", provider.issuer, (HUB, HUB_SECRET), login, port=port, python=python)
    hub.start()
    try:
        for name, status in (("alice", 200), ("nora", 403)):
            with httpx.Client(follow_redirects=True, timeout=30) as browser:
                page = browser.get(f"{hub.url}hub/oauth_login", params={"next": "/hub/home"})
                password = provider.passwords[name]
                fields = {**hidden_fields(page.text), "username": name, "password": password}
                answer = browser.post(f"{provider.inside}/login", data=fields)
                assert answer.status_code == status, answer.text
                assert name in answer.text
        assert hub.names() == {"alice"}
        assert "refused nora" in hub.log and "eyJ" not in hub.log
    finally:
        hub.stop()
