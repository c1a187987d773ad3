"""The real provider under `kill -9`, at a wrong start, and at its end."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
from identity_process import HUB, HUB_SECRET, Browser, RunningProvider, answer_of, pkce

pytestmark = pytest.mark.real


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[RunningProvider]:
    running = RunningProvider(tmp_path)
    running.make_accounts()
    running.start()
    yield running
    running.stop()


def test_killed_provider_loses_nothing(provider: RunningProvider) -> None:
    browser, at_the_form = Browser(provider), Browser(provider)
    tokens = browser.tokens()
    verifier, challenge = pkce()
    code = answer_of(browser.authorize(challenge))["code"]
    form_verifier, form_challenge = pkce()
    page = at_the_form.authorize(form_challenge)
    guesser = Browser(provider)
    for _ in range(6):
        throttled = guesser.submit(guesser.authorize(pkce()[1]), "nora", "wrong")
    assert throttled.status_code in (403, 429)
    keys = httpx.get(f"{provider.inside}/jwks").json()

    provider.kill()
    provider.start()

    assert httpx.get(f"{provider.inside}/jwks").json() == keys
    assert provider.userinfo(str(tokens["access_token"])).json()["preferred_username"] == "alice"
    assert "code" in answer_of(browser.authorize(pkce()[1])), "the session lives"
    provider.redeem(code, verifier)
    fresh = provider.token(grant_type="refresh_token", refresh_token=str(tokens["refresh_token"]))
    assert fresh.status_code == 200
    key = jwt.PyJWKClient(f"{provider.inside}/jwks").get_signing_key_from_jwt(str(tokens["id_token"]))
    assert (
        jwt.decode(str(tokens["id_token"]), key.key, algorithms=["RS256"], audience=HUB)["nonce"]
        == "the nonce"
    )
    answer = at_the_form.submit(page, "bob", provider.passwords["bob"])
    provider.redeem(answer_of(answer)["code"], form_verifier)
    again = guesser.submit(guesser.authorize(pkce()[1]), "nora", "wrong")
    assert "You can try again in" in again.text, "guesses are not forgiven"


def test_spent_things_stay_spent_after_a_kill(provider: RunningProvider) -> None:
    browser = Browser(provider)
    code, verifier = browser.sign_in()
    tokens = provider.redeem(code, verifier)
    provider.kill()
    provider.start()
    replayed = provider.token(
        grant_type="authorization_code",
        code=code,
        redirect_uri="http://127.0.0.1:9999/hub/oauth_callback",
        code_verifier=verifier,
    )
    assert replayed.json()["error"] == "invalid_grant"
    assert provider.userinfo(str(tokens["access_token"])).status_code == 401


def test_sigterm_ends_it_cleanly_and_the_port_is_free(provider: RunningProvider) -> None:
    assert provider.stop() == 0
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", provider.port))
    assert "Traceback" not in provider.log


def run(config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tidehub.identity", "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"listen": {"host": "0.0.0.0", "port": 8999}}, "would listen on 0.0.0.0"),
        ({"issuer": "https://hub.example.org/services/identity"}, "public address"),
        ({"issuer": "http://hub.example.org/services/identity"}, "must use https"),
        ({"unknown": "key"}, "unknown"),
        ({"client": {}}, "client.client_id"),
    ],
)
def test_wrong_configuration_is_explained(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    done = run(RunningProvider(tmp_path, changes).write_config())
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "state").exists(), "nothing half-written"


def test_taken_port_and_open_files_are_explained(tmp_path: Path) -> None:
    provider = RunningProvider(tmp_path)
    config = provider.write_config()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", provider.port))
        listener.listen()
        done = run(config)
    assert (done.returncode, "another program" in done.stderr) == (1, True)
    config.chmod(0o644)
    done = run(config)
    assert (done.returncode, f"chmod 600 {config}" in done.stderr) == (2, True)
    config.chmod(0o600)
    config.write_text(json.dumps(provider.config())[:-20])
    done = run(config)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert HUB_SECRET not in done.stderr


def test_damaged_state_is_explained(tmp_path: Path) -> None:
    provider = RunningProvider(tmp_path)
    config = provider.write_config()
    provider.state_dir.mkdir(mode=0o700)
    for name in ("identity.sqlite", "signing-keys.json"):
        path = provider.state_dir / name
        path.touch(mode=0o600)
        path.write_text("not what it should be, and long enough to be looked at" * 10)
        done = run(config)
        assert done.returncode == 1, done.stderr
        assert str(path) in done.stderr
        assert "to do:" in done.stderr
        assert "Traceback" not in done.stderr
        path.unlink()


def test_it_stands_without_jupyterhub() -> None:
    code = (
        "import sys\n"
        "for name in ('jupyterhub', 'oauthenticator', 'traitlets', 'sqlalchemy'): sys.modules[name] = None\n"
        "import tidehub.identity.__main__\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
