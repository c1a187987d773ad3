from __future__ import annotations

import json
from pathlib import Path

import pytest
from secret_site import CLIENT, HEX, OTHER, SITE, secrets_file, site_file

from tidehub.cli import main
from tidehub.secrets.redaction import known
from tidehub.secrets.secret import Secret

VALUES = (CLIENT, HEX, OTHER)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("TIDEHUB_CLIENT_SECRET", "TIDEHUB_SECRETS_DIR", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return site_file(tmp_path)


def complete(directory: Path) -> Path:
    return secrets_file(
        directory,
        f"client_secret: {CLIENT}\nhub_cookie_secret: {HEX}\nhub_crypt_key: [{HEX}, {OTHER}]\n"
        f"proxy_auth_token: {OTHER}\ngateway_token: {HEX}\n",
    )


def said(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert not any(value in text for value in VALUES)
    return text


def test_show_create_check(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["secrets", "check"]) == 1
    assert "missing: it signs the hub's login cookies" in said(capsys)
    assert main.run(["secrets", "show"]) == 0
    assert "gateway_token         MISSING (tidehub secrets create makes it)" in said(capsys)
    assert main.run(["secrets", "create"]) == 0
    told = said(capsys)
    assert "made hub_cookie_secret, hub_crypt_key, proxy_auth_token, gateway_token" in told
    assert "still to be given by you: client_secret" in told
    assert main.run(["secrets", "check"]) == 1
    assert "client_secret: this value is a placeholder" in said(capsys)
    path = site.with_name("tidehub.secrets.yaml")
    path.write_text(path.read_text().replace('"<CLIENT_SECRET>"', CLIENT))
    assert main.run(["secrets", "check"]) == 0
    assert said(capsys) == "5 needed, all there.\n"
    assert main.run(["secrets", "show"]) == 0
    told = said(capsys)
    assert "client_secret         set in tidehub.secrets.yaml:" in told
    assert "-> Kubernetes: dask-gateway: gateway.auth.jupyterhub.apiToken" in told


def test_json_holds_everything_but_values(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete(site.parent)
    assert main.run(["secrets", "show", "--json"]) == 0
    captured = capsys.readouterr().out
    assert not any(value in captured for value in VALUES)
    shown = {one["name"]: one for one in json.loads(captured)["secrets"]}
    assert shown["hub_crypt_key"]["values"] == 2
    assert shown["gateway_token"]["state"] == "set"
    assert shown["gateway_token"]["kubernetes"][1] == {
        "release": "dask-gateway",
        "value": "gateway.auth.jupyterhub.apiToken",
        "secret_key": "jupyterhub-api-token",
    }
    assert main.run(["secrets", "check", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "ok": True,
        "missing": [],
        "placeholders": [],
        "problems": [],
    }
    assert main.run(["secrets", "rotate", "hub_crypt_key", "--json"]) == 0
    captured = capsys.readouterr().out
    assert not any(value in captured for value in VALUES)
    assert json.loads(captured)["old_values"] == 2
    assert main.run(["secrets", "create", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["made"] == []


def test_rotate_says_what_it_does_and_what_to_start_anew(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    complete(site.parent)
    assert main.run(["secrets", "rotate", "hub_cookie_secret"]) == 2
    assert "--accept logouts" in said(capsys)
    assert main.run(["secrets", "rotate", "hub_cookie_secret", "--accept", "logouts"]) == 0
    assert "everyone logs in again" in said(capsys)
    assert main.run(["secrets", "rotate", "gateway_token"]) == 0
    told = said(capsys)
    assert "upgrade the Helm release jupyterhub" in told
    assert "upgrade the Helm release dask-gateway" in told
    assert "goes on accepting the old token" in told


def test_a_site_without_secrets(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.write_text(
        SITE.replace("egi-check-in, client_id: coast-hub", "demo").replace(
            ', url: "https://hub.example.org"', ""
        )
    )
    assert main.run(["secrets", "show"]) == 0
    assert main.run(["secrets", "check"]) == 0
    assert main.run(["secrets", "create"]) == 0
    assert said(capsys).count("needs no secrets of its own") == 2
    assert [one.name for one in site.parent.iterdir()] == ["tidehub.yaml"]


def test_what_cannot_be_read_is_not_called_missing(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    complete(site.parent).chmod(0o644)
    assert main.run(["secrets", "show"]) == 1
    told = said(capsys)
    assert "client_secret         UNKNOWN" in told
    assert "chmod 600" in told
    assert main.run(["secrets", "check", "--json"]) == 1


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["secrets"], 2, ""),
        (["secrets", "nonsense"], 2, ""),
        (["secrets", "rotate"], 2, ""),
        (["secrets", "show", "no.yaml"], 2, "the file does not exist"),
        (["secrets", "rotate", "zebra"], 2, "no secret of a site has that name"),
        (["secrets", "show", "--state", "nowhere"], 1, "no platform was set up"),
        (["secrets", "rotate", "gate_secret", "--state", "nowhere"], 1, "no platform was set up"),
    ],
)
def test_wrong_usage(
    site: Path, words: list[str], code: int, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(words) == code
    assert expected in said(capsys)
    assert not (site.parent / "nowhere").exists()


def test_another_site_file_by_name(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = site.with_name("coast.yaml")
    site.rename(other)
    assert main.run(["secrets", "check"]) == 2
    assert main.run(["secrets", "create", "coast.yaml"]) == 0
    assert site.with_name("coast.secrets.yaml").exists()


def test_an_error_would_not_show_a_secret_even_by_mistake(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tidehub.errors import TidehubError
    from tidehub.secrets import site_secrets

    def careless(*_: object) -> None:
        known.add([Secret("carelessly-shown-9")])
        raise TidehubError("it was carelessly-shown-9")

    monkeypatch.setattr(site_secrets, "problems_of", careless)
    assert main.run(["secrets", "check"]) == 1
    assert capsys.readouterr().err == "tidehub: it was [secret]\n"
