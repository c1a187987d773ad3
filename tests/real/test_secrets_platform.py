"""Secrets of real platforms: rotated between two starts, and the client secret of a real provider from its file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from identity_process import HUB, HUB_SECRET, RunningProvider
from real_platform import RealPlatform, free_port, running_platform

from tidehub.checks.browser import Browser
from tidehub.checks.login import sign_in, who
from tidehub.checks.target import Account
from tidehub.cli import main
from tidehub.local.secrets import DECLARED, load_secrets

pytestmark = pytest.mark.real


def hub_knows(platform: RealPlatform, token: str) -> bool:
    answer = httpx.get(
        f"{platform.status()['address']}hub/api/users",
        headers={"Authorization": f"token {token}"},
        timeout=30,
    )
    assert answer.status_code in (200, 403), answer.text
    return answer.status_code == 200


def test_a_platform_with_all_its_secrets_replaced(capsys: pytest.CaptureFixture[str]) -> None:
    def rotate(name: str, *words: str) -> int:
        return main.run(["secrets", "rotate", name, *words, "--state", str(platform.state)])

    with running_platform("rotate") as platform:
        old = load_secrets(platform.places.secrets)
        assert hub_knows(platform, old.culler_token.reveal())
        assert rotate("gate_secret") == 1
        assert "runs, and its parts share gate_secret" in capsys.readouterr().err
        # What stays readable may be replaced under a running platform.
        assert rotate("gateway_database_key") == 0
        assert platform.down().returncode == 0

        for name in DECLARED:
            price = ["--accept", "logouts"] if name == "hub_cookie_secret" else []
            assert rotate(name, *price) == 0, capsys.readouterr().err
        platform.up()

        new = load_secrets(platform.places.secrets)
        assert all(getattr(old, name) != getattr(new, name) for name in DECLARED)
        assert len(new.ring("gateway_database_key")) == 3
        code, report = platform.check()
        assert code == 0, report
        assert hub_knows(platform, new.culler_token.reveal())
        assert not hub_knows(platform, old.culler_token.reveal()), "the hub still accepts the replaced token"
        _nowhere_to_be_read(platform, [value.reveal() for value in (*old, *new)])


def _nowhere_to_be_read(platform: RealPlatform, values: list[str]) -> None:
    for log in platform.places.logs.rglob("*.log*"):
        text = log.read_text(errors="replace")
        assert not any(value in text for value in values), f"{log} holds a secret"
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().decode(errors="replace")
        except OSError:
            continue
        assert not any(value in line for value in values), "a command line holds a secret"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[tuple[RunningProvider, int]]:
    port = free_port()
    client = {
        "client_id": HUB,
        "client_secret": HUB_SECRET,
        "redirect_uri": f"http://127.0.0.1:{port}/hub/oauth_callback",
    }
    running = RunningProvider(tmp_path, changes={"client": client})
    (tmp_path / "state").mkdir(mode=0o700)
    running.make_accounts()
    running.start()
    yield running, port
    running.kill()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that users' uids may walk through, as a state needs it."""
    made = Path(tempfile.mkdtemp(prefix="th-secret-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_the_client_secret_of_a_real_provider(
    provider: tuple[RunningProvider, int], place: Path
) -> None:
    running, port = provider
    site = place / "tidehub.yaml"
    site.write_text(
        f"site: {{name: Coast, url: 'http://127.0.0.1:{port}/'}}\n"
        f"login: {{provider: oidc, issuer: '{running.issuer}', client_id: {HUB}, allow: {{everyone: true}}}}\n"
        "notebooks: {profiles: [{name: Standard, default: true}]}\n"
    )
    secrets = place / "tidehub.secrets.yaml"
    platform = RealPlatform(
        place / "s",
        arguments=["--port", str(port), "--site", str(site)],
        environment={"HOME": str(place)},
    )
    for text, mode, words in (
        (None, 0, "the client secret of the identity provider is missing"),
        ("client_secret: <CLIENT_SECRET>\n", 0o600, "client_secret: this value is a placeholder"),
        (f"client_secret: {HUB_SECRET}\n", 0o644, "chmod 600"),
        (f"cleint_secret: {HUB_SECRET}\n", 0o600, "did you mean client_secret?"),
    ):
        if text is not None:
            secrets.write_text(text)
            secrets.chmod(mode)
        refused = platform.command("up", *platform.arguments, timeout=900)
        assert refused.returncode != 0
        assert words in refused.stderr
        assert HUB_SECRET not in refused.stdout + refused.stderr

    secrets.write_text(f"client_secret: {HUB_SECRET}\n")
    secrets.chmod(0o600)
    platform.up()
    try:
        async with Browser(f"http://127.0.0.1:{port}/") as browser:
            await sign_in(browser, Account("alice", running.passwords["alice"]))
            assert (await who(browser))["name"] == "alice"
        _nowhere_to_be_read(platform, [HUB_SECRET])
    finally:
        assert platform.down().returncode == 0
