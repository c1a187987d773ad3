"""Secrets in values go to the secrets file, and are shown nowhere."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest
from helm_values import PANGEO, VALUES, VARIED, fate, from_text, imported

from tidehub.cli.main import run
from tidehub.importing.fates import Kind
from tidehub.importing.secrets_found import code_holds_secret, holds_secret, is_secret
from tidehub.secrets.store import beside, parse

SECRET = re.compile(r"canary-?[0-9A-Za-z]+")
HEX = "5f0c9a7be2d14863a1f7cc0e9d2b6458f1a3e07d94cb6825d0e7f31a86c94b2d"
# Not kept at all: the password of an authentication that is not used any more.
UNUSED = {"canary-Mn8Bv5Cx2z"}


@pytest.mark.parametrize("name", VARIED)
@pytest.mark.parametrize("more", [[], ["--json"], ["--verbose"], ["--dry-run"]], ids=lambda more: str(more))
def test_secrets_are_shown_nowhere(
    name: str, more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canaries = set(SECRET.findall((VALUES / name).read_text(encoding="utf-8")))
    run(["import", str(VALUES / name), "-o", str(tmp_path / "out"), *more])
    said = capsys.readouterr()
    assert not SECRET.search(said.out + said.err)
    if "--dry-run" in more:
        assert not (tmp_path / "out").exists()
        return
    assert not SECRET.search((tmp_path / "out" / "tidehub.yaml").read_text(encoding="utf-8"))
    file = tmp_path / "out" / "tidehub.secrets.yaml"
    kept = set(SECRET.findall(file.read_text(encoding="utf-8"))) if file.exists() else set()
    assert kept == canaries - UNUSED


def test_the_test_files_hold_secrets() -> None:
    found = [name for name in VARIED if SECRET.search((VALUES / name).read_text(encoding="utf-8"))]
    assert len(found) >= 12


@pytest.mark.parametrize("name", VARIED)
def test_the_secrets_file_is_one_that_tidehub_reads(name: str, tmp_path: Path) -> None:
    run(["import", str(VALUES / name), "-o", str(tmp_path)])
    file = beside(tmp_path / "tidehub.yaml")
    if not file.exists():
        return
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    stored = parse(file.read_bytes(), file.name, tmp_path)
    assert stored.problems == ()
    found = imported(name)
    assert set(stored.entries) == set(found.secrets)
    assert set(stored.overrides) == set(found.secret_overrides)


_WHOLE = f"""
hub:
  cookieSecret: "{HEX}"
  db: {{type: postgres, password: "a password"}}
  config:
    CryptKeeper: {{keys: ["{HEX}", "{HEX[::-1]}"]}}
    GenericOAuthenticator: {{client_secret: S3cr3t-of-the-client}}
  services:
    dask-gateway: {{apiToken: "{HEX}"}}
    grader: {{apiToken: "{HEX[::-1]}", url: http://grader}}
proxy: {{secretToken: "{HEX}"}}
gateway: {{auth: {{jupyterhub: {{apiToken: "{HEX}"}}}}}}
"""


def test_declared_secrets_have_their_names() -> None:
    found = from_text(_WHOLE)
    assert {name: len(one.values) for name, one in found.secrets.items()} == {
        "hub_cookie_secret": 1,
        "hub_crypt_key": 2,
        "proxy_auth_token": 1,
        "gateway_token": 1,
        "database_password": 1,
        "client_secret": 1,
    }
    assert found.secret_overrides == {
        "jupyterhub": {"hub": {"services": {"grader": {"apiToken": HEX[::-1]}}}}
    }
    assert found.site["overrides"]["helm"]["jupyterhub"]["hub"]["services"] == {
        "grader": {"url": "http://grader"}
    }


def test_values_do_not_show_in_a_repr() -> None:
    assert HEX not in repr(from_text(_WHOLE).secrets)


def test_tokens_that_differ_are_told() -> None:
    found = from_text(
        _WHOLE.replace(
            f'gateway: {{auth: {{jupyterhub: {{apiToken: "{HEX}"',
            f'gateway: {{auth: {{jupyterhub: {{apiToken: "{HEX[::-1]}"',
        )
    )
    remark = next(one.fate.remark for one in found.leaves if one.path[0] == "gateway")
    assert "not the same as in values.yaml:" in str(remark)


def test_a_secret_of_another_form_is_kept_for_the_chart() -> None:
    found = from_text("proxy: {secretToken: short-but-real-4711}\n")
    assert found.secrets == {}
    assert found.secret_overrides == {"jupyterhub": {"proxy": {"secretToken": "short-but-real-4711"}}}
    assert fate(found, "proxy.secretToken") is Kind.SECRET


def test_placeholders_are_all_named_and_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(["import", str(VALUES / "pangeo-guide-inline.yaml"), "-o", str(tmp_path)])
    said = capsys.readouterr().out
    assert code == 1, "the placeholder of the client id makes the site incomplete"
    section = said.split("Placeholders, to be replaced by real values:")[1].split("\n\n")[0]
    assert [line.rsplit(": ", 1)[1] for line in section.strip().splitlines()] == [
        "proxy_auth_token",
        "login.client_id",
        "client_secret",
    ]
    assert not (tmp_path / "tidehub.secrets.yaml").exists()


def test_the_unused_password_is_not_kept(tmp_path: Path) -> None:
    run(["import", str(VALUES / "dask-gateway-2022.6.1-string.yaml"), "-o", str(tmp_path)])
    assert not (tmp_path / "tidehub.secrets.yaml").exists()
    assert imported(*PANGEO).secret_overrides == {}


def test_secrets_that_are_there_stay(tmp_path: Path) -> None:
    file = tmp_path / "tidehub.secrets.yaml"
    file.write_text(f"# mine\nclient_secret: an-older-secret-1\nproxy_auth_token: '{HEX}'\n")
    file.chmod(0o600)
    values = tmp_path / "values.yaml"
    values.write_text("hub: {config: {GenericOAuthenticator: {client_secret: a-newer-secret-2}}}\n")
    assert run(["import", str(values), "-o", str(tmp_path), "--force"]) == 1
    text = file.read_text()
    assert "# mine" in text
    stored = parse(text.encode(), file.name, tmp_path)
    assert stored.entries["client_secret"].values[0].reveal() == "a-newer-secret-2"
    assert stored.entries["proxy_auth_token"].values[0].reveal() == HEX


def test_git_ignores_the_secrets(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    values = tmp_path / "values.yaml"
    values.write_text(_WHOLE)
    run(["import", str(values), "-o", str(tmp_path / "site")])
    ignored = subprocess.run(
        ["git", "check-ignore", "-q", "site/tidehub.secrets.yaml"], cwd=tmp_path, check=False
    )
    assert ignored.returncode == 0


def test_json_says_names_and_places_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = tmp_path / "values.yaml"
    values.write_text(_WHOLE)
    run(["import", str(values), "-o", str(tmp_path / "site"), "--json"])
    account = json.loads(capsys.readouterr().out)
    assert HEX not in json.dumps(account)
    assert account["counts"]["secret"] == 9
    token = next(one for one in account["values"] if one["key"] == "proxy.secretToken")
    assert token == {
        "file": str(values),
        "line": 11,
        "column": 9,
        "chart": "jupyterhub",
        "key": "proxy.secretToken",
        "fate": "secret",
        "site_key": "proxy_auth_token",
        "remark": None,
    }


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("password", "hunter2hunter2", True),
        ("clientSecret", "x9f3kd02", True),
        ("AWS_SECRET_ACCESS_KEY", "abcd1234efgh", True),
        ("GITHUB_TOKEN", "abcd1234efgh", True),
        ("api_key", "abcd1234efgh", True),
        ("apiToken", "abcd1234efgh", True),
        ("anything", "postgresql://hub:pw4711@db/hub", True),
        ("anything", "-----BEGIN RSA PRIVATE KEY-----\nx", True),
        ("anything", "postgresql://hub@db/hub", False),
        ("secretName", "tls-cert", False),
        ("existingSecret", "hub-secrets", False),
        ("apiTokenFromSecretName", "hub", False),
        ("imagePullSecrets", "registry", False),
        ("token_url", "https://example.org/token", False),
        ("passwordFile", "/run/secrets/pw", False),
        ("password", "<password>", False),
        ("password", "", False),
        ("password", "$(DB_PASSWORD)", False),
        ("token", True, False),
        ("image", "example/token-service:1", False),
    ],
)
def test_what_counts_as_a_secret(name: str, value: object, secret: bool) -> None:
    assert is_secret(name, value) is secret


@pytest.mark.parametrize(
    ("code", "secret"),
    [
        ("c.GitHubOAuthenticator.client_secret = 'x9f3kd02'", True),
        ("f(password='x9f3kd02')", True),
        ("x = {'api_token': 'x9f3kd02'}", True),
        ("c.CryptKeeper.keys = ['x']\nc.X.tokens = ['x9f3kd02']", True),
        ("env['AWS_SECRET_ACCESS_KEY'] = 'x9f3kd02'", True),
        ("url = 'https://u:p4711@example.org'", True),
        ("c.GitHubOAuthenticator.client_secret = os.environ['CLIENT_SECRET']", False),
        ("c.X.client_secret = get_config('custom.secret')", False),
        ("c.X.token_url = 'https://example.org/token'", False),
        ("c.JupyterHub.template_vars = {'a': 'b'}", False),
    ],
)
def test_secrets_in_code(code: str, secret: bool) -> None:
    assert code_holds_secret(code) is secret


def test_secrets_in_lists_and_files() -> None:
    assert holds_secret([{"name": "DB_PASSWORD", "value": "x9f3kd02"}])
    assert not holds_secret(
        [{"name": "DB_PASSWORD", "valueFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]
    )
    assert holds_secret({"stringData": "[db]\npassword = x9f3kd02\n"})
    assert not holds_secret({"stringData": "[db]\nhost = db.example.org\n"})
    assert holds_secret(["--password=x9f3kd02"])
