from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from secret_site import CLIENT, HEX, ON_KUBERNETES, OTHER, SITE, secrets_file, site_file, site_of, wanted

from tidehub.errors import UsageError
from tidehub.secrets.charts import chart_values, revealed
from tidehub.secrets.secret import REDACTED, Secret
from tidehub.secrets.site_secrets import SecretsError, needed, problems, problems_of, require
from tidehub.secrets.sources import Resolved, resolve

NOTHING: Mapping[str, str] = {}


def all_words(resolved: Resolved) -> str:
    return "\n".join(str(problem) for problem in resolved.problems)


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


def test_precedence(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, f"client_secret: from-the-File-9\ngateway_token: {HEX}\n")
    write(tmp_path / "systemd" / "client_secret", "from-Systemd-9\n", 0o400)
    write(tmp_path / "mounted" / "client_secret", "from-a-Directory-9\n", 0o644)
    environ = {
        "TIDEHUB_SECRET_CLIENT_SECRET": "from-the-Environment-9",
        "CREDENTIALS_DIRECTORY": str(tmp_path / "systemd"),
        "TIDEHUB_SECRETS_DIR": str(tmp_path / "mounted"),
    }
    order = []
    for gone in ("TIDEHUB_SECRET_CLIENT_SECRET", "CREDENTIALS_DIRECTORY", "TIDEHUB_SECRETS_DIR", None):
        resolved = resolve(site, environ)
        found = resolved.found["client_secret"]
        order.append((found.kind, found.value.reveal(), len(resolved.shadowed)))
        assert resolved.found["gateway_token"].value == Secret(HEX)
        assert resolved.problems == []
        environ.pop(gone or "", None)
    assert order == [
        ("environment", "from-the-Environment-9", 3),
        ("systemd", "from-Systemd-9", 2),
        ("directory", "from-a-Directory-9", 1),
        ("file", "from-the-File-9", 0),
    ]


def test_a_value_that_is_not_used_is_told_where_it_differs(tmp_path: Path) -> None:
    site = site_file(tmp_path, SITE)
    secrets_file(tmp_path, "client_secret: from-the-File-9\n")
    told = problems(site, site_of(site), {"TIDEHUB_SECRET_CLIENT_SECRET": "another-Value-9"})
    assert [(one.severity, one.path) for one in told] == [("warning", ("client_secret",))]
    assert "is not used" in told[0].what
    assert problems(site, site_of(site), {"TIDEHUB_SECRET_CLIENT_SECRET": "from-the-File-9"}) == []


def test_the_older_variable_still_gives_the_client_secret() -> None:
    assert require(None, "client_secret", {"TIDEHUB_CLIENT_SECRET": f" {CLIENT}\n"}) == Secret(CLIENT)


def test_a_misspelt_variable_is_told(tmp_path: Path) -> None:
    resolved = resolve(site_file(tmp_path), {"TIDEHUB_SECRET_CLIENTSECRET": CLIENT})
    assert "did you mean TIDEHUB_SECRET_CLIENT_SECRET?" in all_words(resolved)
    assert CLIENT not in all_words(resolved)


def test_an_empty_variable_gives_nothing(tmp_path: Path) -> None:
    assert resolve(site_file(tmp_path), {"TIDEHUB_SECRET_CLIENT_SECRET": " "}).found == {}


def test_several_keys_from_the_environment() -> None:
    found = resolve(None, {"TIDEHUB_SECRET_HUB_CRYPT_KEY": f"{HEX};{OTHER}"}).found["hub_crypt_key"]
    assert found.values == (Secret(HEX), Secret(OTHER))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("short", "wrong form"),
        ("two words in it", "wrong form"),
        ("", "is empty"),
        ("\n", "is empty"),
        ("two\nlines-of-text", "wrong form"),
    ],
)
def test_wrong_values_in_files(tmp_path: Path, text: str, words: str) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, "client_secret: {file: below/value}\n")
    write(tmp_path / "below" / "value", text)
    said = all_words(resolve(site, NOTHING))
    assert words in said
    assert not text.strip() or text.strip() not in said


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, "client_secret: {file: value}\n")
    (tmp_path / "value").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "value").chmod(0o600)
    assert "not UTF-8" in all_words(resolve(site, NOTHING))


def test_a_file_that_is_missing_or_open_to_others(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, "client_secret: {file: value}\n")
    assert f"file {tmp_path / 'value'} does not exist" in all_words(resolve(site, NOTHING))
    write(tmp_path / "value", CLIENT, 0o644)
    said = all_words(resolve(site, NOTHING))
    assert "chmod 600" in said
    assert CLIENT not in said
    (tmp_path / "value").chmod(0o400)
    assert require(site, "client_secret", NOTHING) == Secret(CLIENT)


def test_a_kubernetes_mount_with_its_links(tmp_path: Path) -> None:
    real = write(tmp_path / "..2026" / "client_secret", CLIENT, 0o644)
    mount = tmp_path / "mount"
    mount.mkdir()
    (mount / "client_secret").symlink_to(real)
    assert require(None, "client_secret", {"TIDEHUB_SECRETS_DIR": str(mount)}) == Secret(CLIENT)


def test_a_mount_that_is_not_there(tmp_path: Path) -> None:
    said = all_words(
        resolve(None, {"TIDEHUB_SECRETS_DIR": str(tmp_path / "no"), "CREDENTIALS_DIRECTORY": "/no"})
    )
    assert "TIDEHUB_SECRETS_DIR names no directory" in said
    assert "CREDENTIALS_DIRECTORY" not in said


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o666, 0o620])
def test_a_secrets_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    site = site_file(tmp_path)
    path = secrets_file(tmp_path, f"client_secret: {CLIENT}\n", mode)
    with pytest.raises(SecretsError) as refused:
        require(site, "client_secret", NOTHING)
    assert f"chmod 600 {path}" in str(refused.value)
    assert CLIENT not in str(refused.value)
    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_what_is_not_a_file(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    path = tmp_path / "tidehub.secrets.yaml"
    path.mkdir()
    assert "is a directory" in all_words(resolve(site, NOTHING))
    path.rmdir()
    os.mkfifo(path, 0o600)
    assert "not a regular file" in all_words(resolve(site, NOTHING))
    path.unlink()
    path.symlink_to(tmp_path / "nowhere")
    assert "symbolic link to a file that does not exist" in all_words(resolve(site, NOTHING))
    path.unlink()
    path.symlink_to(path)
    assert "cannot be read" in all_words(resolve(site, NOTHING))
    path.unlink()
    path.write_bytes(b"#" * (300 * 1024))
    path.chmod(0o600)
    assert "larger than 256 KiB" in all_words(resolve(site, NOTHING))


def test_a_link_to_a_private_file_is_followed_and_to_an_open_one_is_not(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    target = write(tmp_path / "vault" / "mine.yaml", f"client_secret: {CLIENT}\n")
    (tmp_path / "tidehub.secrets.yaml").symlink_to(target)
    assert require(site, "client_secret", NOTHING) == Secret(CLIENT)
    target.chmod(0o644)
    with pytest.raises(SecretsError, match="1 error"):
        require(site, "client_secret", NOTHING)


def test_what_is_missing_says_where_it_is_expected(tmp_path: Path) -> None:
    site = site_file(tmp_path, SITE)
    with pytest.raises(UsageError) as refused:
        require(site, "client_secret", NOTHING)
    said = str(refused.value)
    assert "tidehub.secrets.yaml" in said
    assert "TIDEHUB_SECRET_CLIENT_SECRET" in said
    assert "--demo-login" in said
    with pytest.raises(UsageError, match="missing"):
        require(None, "client_secret", NOTHING)


def test_placeholders_are_named_all_at_once(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(
        tmp_path,
        f"client_secret: <CLIENT_SECRET>\nhub_cookie_secret: {'0' * 64}\ngateway_token: CHANGEME\n"
        f"hub_crypt_key: {HEX}\n",
    )
    with pytest.raises(SecretsError) as refused:
        require(site, "client_secret", NOTHING)
    said = str(refused.value)
    assert "3 errors" in said
    for name in ("client_secret", "hub_cookie_secret", "gateway_token"):
        assert f"{name}: this value is a placeholder" in said
    assert HEX not in said
    checked = problems_of(resolve(site, NOTHING), ())
    assert [one.path[0] for one in checked] == ["client_secret", "hub_cookie_secret", "gateway_token"]
    assert {one.severity for one in checked} == {"error"}
    # A site is valid before its secrets are there, and can be tried out.
    assert {one.severity for one in problems(site, site_of(site), NOTHING)} == {"warning"}


def test_another_secrets_placeholder_does_not_stop_who_needs_this_one(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, f"client_secret: {CLIENT}\ngateway_token: CHANGEME\n")
    assert require(site, "client_secret", NOTHING) == Secret(CLIENT)


def test_a_mistake_anywhere_in_the_file_stops(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, f"client_secret: {CLIENT}\ngateway_tokn: {HEX}\n")
    with pytest.raises(SecretsError) as refused:
        require(site, "client_secret", NOTHING)
    assert "did you mean gateway_token?" in str(refused.value)


def test_what_a_site_needs(tmp_path: Path) -> None:
    def names(text: str) -> list[str]:
        return [one.name for one in wanted(site_file(tmp_path, text))]

    assert names(SITE) == ["client_secret"]
    assert names(ON_KUBERNETES) == [
        "client_secret",
        "hub_cookie_secret",
        "hub_crypt_key",
        "proxy_auth_token",
        "gateway_token",
    ]
    assert "gateway_token" not in names(ON_KUBERNETES + "dask: {engine: none}\n")
    demo = SITE.replace("egi-check-in, client_id: coast-hub", "demo").replace(
        ', url: "https://hub.example.org"', ""
    )
    assert needed(site_of(site_file(tmp_path, demo))) == ()


def test_missing_is_a_warning_for_who_checks_the_site(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    told = problems(site, site_of(site), NOTHING)
    assert {one.severity for one in told} == {"warning"}
    assert [one.path[0] for one in told] == [one.name for one in wanted(site)]


def test_values_split_by_release(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    secrets_file(
        tmp_path,
        f"client_secret: {CLIENT}\nhub_cookie_secret: {HEX}\nhub_crypt_key: [{HEX}, {OTHER}]\n"
        f"proxy_auth_token: {OTHER}\ngateway_token: {HEX}\ndatabase_password: pg-Pass-9\n"
        "overrides: {jupyterhub: {hub: {services: {news: {apiToken: news-Token-9}}}}}\n",
    )
    values = chart_values(resolve(site, NOTHING))
    assert CLIENT not in repr(values)
    assert REDACTED in repr(values)
    assert revealed(values) == {
        "jupyterhub": {
            "hub": {
                "config": {
                    "GenericOAuthenticator": {"client_secret": CLIENT},
                    "JupyterHub": {"cookie_secret": HEX},
                    "CryptKeeper": {"keys": [HEX, OTHER]},
                    "ConfigurableHTTPProxy": {"auth_token": OTHER},
                },
                "services": {"dask-gateway": {"apiToken": HEX}, "news": {"apiToken": "news-Token-9"}},
                "db": {"password": "pg-Pass-9"},
            }
        },
        "dask-gateway": {"gateway": {"auth": {"jupyterhub": {"apiToken": HEX}}}},
    }


def test_a_foreign_owner_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_file(tmp_path)
    secrets_file(tmp_path, f"client_secret: {CLIENT}\n")
    owner = (tmp_path / "tidehub.secrets.yaml").stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    if owner != 0:
        assert f"belongs to uid {owner}" in all_words(resolve(site, NOTHING))
    else:
        assert resolve(site, NOTHING).problems == []
