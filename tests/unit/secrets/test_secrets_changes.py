from __future__ import annotations

import multiprocessing
import os
import stat
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from secret_site import CLIENT, HEX, OTHER, SITE, secrets_file, site_file, wanted

from tidehub.errors import TidehubError, UsageError
from tidehub.secrets.changes import create, rotate, write
from tidehub.secrets.editing import edited
from tidehub.secrets.secret import Secret
from tidehub.secrets.site_secrets import SecretsError
from tidehub.secrets.sources import resolve
from tidehub.secrets.store import MOST_OLD, beside, parse

NOTHING: Mapping[str, str] = {}
NOW = datetime(2026, 11, 22, 6, 30, tzinfo=UTC)


def test_create_makes_what_is_missing_and_leaves_room_for_the_rest(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    created = create(site, wanted(site), NOTHING)
    path = beside(site)
    assert created.file == path
    assert created.made == ("hub_cookie_secret", "hub_crypt_key", "proxy_auth_token", "gateway_token")
    assert created.to_give == ("client_secret",)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    names = [".gitignore", "tidehub.secrets.yaml", "tidehub.yaml"]
    assert sorted(one.name for one in tmp_path.iterdir()) == names
    resolved = resolve(site, NOTHING)
    assert resolved.placeholders == ["client_secret"]
    assert set(resolved.found) == {one.name for one in wanted(site)}
    assert resolved.found["gateway_token"].made is not None


def test_create_changes_nothing_that_is_there(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    path = secrets_file(
        tmp_path,
        f"# mine\nclient_secret: {CLIENT}   # from the federation registry\n\nhub_cookie_secret: '{HEX}'\n",
    )
    create(site, wanted(site), NOTHING)
    text = path.read_text()
    assert text.startswith(
        f"# mine\nclient_secret: {CLIENT}   # from the federation registry\n\nhub_cookie_secret: '{HEX}'\n"
    )
    again = create(site, wanted(site), NOTHING)
    assert (again.made, again.to_give) == ((), ())
    assert path.read_text() == text


def test_what_another_source_gives_is_not_made(tmp_path: Path) -> None:
    site = site_file(tmp_path, SITE)
    created = create(site, wanted(site), {"TIDEHUB_SECRET_CLIENT_SECRET": CLIENT})
    assert (created.made, created.to_give) == ((), ())
    assert not beside(site).exists()


def test_a_name_without_a_value_is_filled(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    path = secrets_file(tmp_path, f"gateway_token:   # later\nclient_secret: {CLIENT}\n")
    assert "gateway_token" in create(site, wanted(site), NOTHING).made
    assert path.read_text().count("gateway_token") == 2  # the value, and when it was made


@pytest.mark.parametrize("mode", [0o644, 0o640])
def test_create_refuses_an_open_file_and_leaves_it_alone(tmp_path: Path, mode: int) -> None:
    site = site_file(tmp_path)
    path = secrets_file(tmp_path, "client_secret: real-Value-9\n", mode)
    with pytest.raises(SecretsError):
        create(site, wanted(site), NOTHING)
    assert path.read_text() == "client_secret: real-Value-9\n"


def test_create_refuses_a_file_that_it_does_not_understand(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    path = secrets_file(tmp_path, "client_secret: 'open\n")
    with pytest.raises(SecretsError):
        create(site, wanted(site), NOTHING)
    assert path.read_text() == "client_secret: 'open\n"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = site_file(tmp_path)
    path = secrets_file(tmp_path, f"client_secret: {CLIENT}\n")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TidehubError, match="No space left") as refused:
        create(site, wanted(site), NOTHING)
    assert "nothing was half-written" in str(refused.value)
    assert path.read_text() == f"client_secret: {CLIENT}\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tidehub.secrets.yaml", "tidehub.yaml"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    vault = tmp_path / "vault"
    vault.mkdir()
    target = vault / "mine.yaml"
    target.write_text(f"client_secret: {CLIENT}\n")
    target.chmod(0o600)
    beside(site).symlink_to(target)
    create(site, wanted(site), NOTHING)
    assert beside(site).is_symlink()
    assert "gateway_token" in target.read_text()


def _create(path: str, results: Any) -> None:
    site = Path(path)
    created = create(site, wanted(site), NOTHING)
    results.put(
        (created.made, {name: found.value.reveal() for name, found in resolve(site, NOTHING).found.items()})
    )


def test_of_two_processes_one_makes_and_the_other_finds(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    context = multiprocessing.get_context("spawn")
    results: Any = context.Queue()
    children = [context.Process(target=_create, args=(str(site), results)) for _ in range(4)]
    for child in children:
        child.start()
    answers = [results.get(timeout=120) for _ in children]
    for child in children:
        child.join(30)
    assert sorted(len(made) for made, _ in answers) == [0, 0, 0, 4]
    assert all(values == answers[0][1] for _, values in answers)


# --- rotation ---------------------------------------------------------------------------


def ready(tmp_path: Path) -> Path:
    site = site_file(tmp_path)
    secrets_file(
        tmp_path,
        f"client_secret: {CLIENT}\nhub_cookie_secret: {HEX}\nhub_crypt_key: {HEX}  # first\n"
        f"proxy_auth_token: {OTHER}\ngateway_token: {HEX}\n",
    )
    return site


def test_a_key_keeps_its_old_value_behind_the_new_one(tmp_path: Path) -> None:
    site = ready(tmp_path)
    before = resolve(site, NOTHING)
    rotated = rotate(site, "hub_crypt_key", NOTHING)
    after = resolve(site, NOTHING)
    assert rotated.old_values == 1
    new, old = after.found["hub_crypt_key"].values
    assert old == Secret(HEX)
    assert new != old
    others = set(after.found) - {"hub_crypt_key"}
    assert all(after.found[name].values == before.found[name].values for name in others)
    for _ in range(MOST_OLD + 3):
        rotate(site, "hub_crypt_key", NOTHING)
    assert len(resolve(site, NOTHING).found["hub_crypt_key"].values) == MOST_OLD + 1
    rotate(site, "hub_crypt_key", NOTHING, forget_old=True)
    assert len(resolve(site, NOTHING).found["hub_crypt_key"].values) == 1


def test_a_token_is_replaced(tmp_path: Path) -> None:
    site = ready(tmp_path)
    rotate(site, "gateway_token", NOTHING)
    (value,) = resolve(site, NOTHING).found["gateway_token"].values
    assert value != Secret(HEX)
    assert HEX in beside(site).read_text()  # the others that had it


def test_the_price_has_to_be_named(tmp_path: Path) -> None:
    site = ready(tmp_path)
    text = beside(site).read_text()
    for accept in (None, "everything", "yes"):
        with pytest.raises(UsageError, match="everyone logs in again") as refused:
            rotate(site, "hub_cookie_secret", NOTHING, accept=accept)
        assert "--accept logouts" in str(refused.value)
        assert beside(site).read_text() == text
    rotate(site, "hub_cookie_secret", NOTHING, accept="logouts")
    assert resolve(site, NOTHING).found["hub_cookie_secret"].value != Secret(HEX)


@pytest.mark.parametrize(
    ("name", "how", "words"),
    [
        ("client_secret", {}, "issued by somebody else"),
        ("database_password", {}, "issued by somebody else"),
        ("gateway_token", {"accept": "logouts"}, "leave --accept out"),
        ("gateway_token", {"forget_old": True}, "leave --forget-old out"),
        ("gateway_tokens", {}, "did you mean gateway_token?"),
        ("culler_token", {}, "--state"),
    ],
)
def test_what_is_not_rotated(tmp_path: Path, name: str, how: dict[str, Any], words: str) -> None:
    site = ready(tmp_path)
    text = beside(site).read_text()
    with pytest.raises(UsageError) as refused:
        rotate(site, name, NOTHING, **how)
    assert words in str(refused.value)
    assert beside(site).read_text() == text


def test_what_comes_from_elsewhere_is_not_rotated_here(tmp_path: Path) -> None:
    site = ready(tmp_path)
    with pytest.raises(UsageError, match="the variable TIDEHUB_SECRET_GATEWAY_TOKEN"):
        rotate(site, "gateway_token", {"TIDEHUB_SECRET_GATEWAY_TOKEN": OTHER})
    (tmp_path / "token").write_text(OTHER)
    (tmp_path / "token").chmod(0o600)
    path = secrets_file(tmp_path, "gateway_token: {file: token}\n")
    with pytest.raises(UsageError, match="not tidehub's to change"):
        rotate(site, "gateway_token", NOTHING)
    assert path.read_text() == "gateway_token: {file: token}\n"
    path.unlink()
    with pytest.raises(UsageError, match="does not exist yet"):
        rotate(site, "gateway_token", NOTHING)


# --- values that somebody brings ---------------------------------------------------------


def test_imported_values(tmp_path: Path) -> None:
    site = site_file(tmp_path)
    news = {"hub": {"services": {"news": {"apiToken": Secret("news-Token-9")}}}}
    path = write(
        site,
        {"client_secret": CLIENT, "gateway_token": "1" * 64, "hub_crypt_key": [HEX, OTHER]},
        overrides={"jupyterhub": news},
    )
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    resolved = resolve(site, NOTHING)
    assert resolved.placeholders == ["gateway_token"]
    assert resolved.found["hub_crypt_key"].values == (Secret(HEX), Secret(OTHER))
    assert resolved.overrides["jupyterhub"] == news
    write(site, {"client_secret": CLIENT}, overrides={"jupyterhub": {"hub": {"db": {"x": "y-Value-9"}}}})
    merged = resolve(site, NOTHING).overrides["jupyterhub"]["hub"]
    assert set(merged) == {"services", "db"}


def test_an_import_does_not_replace_what_is_there(tmp_path: Path) -> None:
    site = ready(tmp_path)
    text = beside(site).read_text()
    with pytest.raises(UsageError, match="other values already: client_secret") as refused:
        write(site, {"client_secret": "another-Client-9", "gateway_token": HEX})
    assert "another" not in str(refused.value)
    assert beside(site).read_text() == text
    write(site, {"client_secret": "another-Client-9"}, replace=True)
    assert resolve(site, NOTHING).found["client_secret"].value == Secret("another-Client-9")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"client_secret": "short"}, "wrong form"),
        ({"client_secret": []}, "wrong form"),
        ({"gateway_token": [HEX, OTHER]}, "takes one value"),
        ({"nonsense": HEX}, "has that name"),
    ],
)
def test_values_that_are_refused(tmp_path: Path, values: Any, words: str) -> None:
    site = site_file(tmp_path)
    with pytest.raises(UsageError, match=words):
        write(site, values)
    assert not beside(site).exists()


# --- the text ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "# only a comment\n",
        "---\n# begins\n",
        "client_secret: a-Client-9   # why\n",
        "# top\n\nclient_secret: 'a-Client-9'\n\n# end\n",
        "{client_secret: a-Client-9}\n",
        "client_secret: |-\n  a-Client-9\n",
        "client_secret: a-Client-9\r\nproxy_auth_token: " + OTHER + "\r\n",
        "client_secret: a-Client-9\nmade:\n",
        "client_secret: a-Client-9\nmade: {client_secret: 2026-01-01}\noverrides: {jupyterhub: {a: b}}\n",
        "client_secret: &c a-Client-9\ndatabase_password: *c\n",
        "\ufeffclient_secret: a-Client-9",
    ],
)
def test_other_values_in_any_text(text: str | None) -> None:
    after = edited(text, {"gateway_token": [Secret(HEX)]}, title="t.yaml", now=NOW, dated=["gateway_token"])
    before, found = parse((text or "").encode(), "", Path()), parse(after.encode(), "", Path())
    assert found.problems == ()
    assert found.entries["gateway_token"].values == (Secret(HEX),)
    assert found.entries["gateway_token"].made == NOW
    for name, entry in before.entries.items():
        assert found.entries[name].values == entry.values
    assert found.overrides == before.overrides
    for line in (text or "").splitlines():
        _, mark, comment = line.partition("#")
        assert not mark or f"#{comment}" in after


@pytest.mark.parametrize(
    "odd",
    ["2026-01-01", "2026-99-99", "2026-11-22T06:30:00Z", "0o17", "0x1f", "1_000", "1e3", ".inf", "yes", "~", "007",
     "12:30:45", "=", "<<", "'quoted'", "[a, b]", "2026-11-22 06:30:00 +01:00", "1.0", "1.10", "+1"],
)  # fmt: skip
def test_odd_values_elsewhere_stay_or_the_change_is_refused(odd: str) -> None:
    text = f"client_secret: a-Client-9\noverrides: {{jupyterhub: {{a: {odd}, b: c}}}}\n"
    before = parse(text.encode(), "", Path())
    try:
        after = edited(text, {"gateway_token": [Secret(HEX)]}, title="t", now=NOW, dated=["gateway_token"])
    except TidehubError as error:
        assert "between quotes" in str(error)
        assert odd not in str(error) or len(odd) < 4
        return
    assert parse(after.encode(), "", Path()).overrides == before.overrides


@given(
    st.dictionaries(
        st.sampled_from(["client_secret", "database_password"]),
        st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=8, max_size=80),
        min_size=1,
    ),
    st.sampled_from([None, "# c\n", f"hub_cookie_secret: {HEX}  # c\n"]),
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_value_holds_it_is_read_back(values: dict[str, str], text: str | None) -> None:
    wrapped = {name: [Secret(value)] for name, value in values.items()}
    after = edited(text, wrapped, title="t.yaml", now=NOW)
    found = parse(after.encode(), "", Path())
    assert {name: found.entries[name].values[0].reveal() for name in values} == values


PIECES = st.sampled_from(
    ["client_secret: ", "hub_crypt_key: ", "gateway_token: ", "made: ", "overrides: ", "jupyterhub: ", "file", ": ",
     " ", "\n", "- ", "[", "]", "{", "}", "'", '"', "&a ", "*a", "<<: ", "|\n", "# c", "---\n", "~", HEX, "a-Client-9",
     "2026-99-99", "  ", ",", "1e9", "? ", "!x "]
)  # fmt: skip


@given(st.lists(PIECES, max_size=25).map("".join))
@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_changed_rightly_or_not_at_all(text: str) -> None:
    before = parse(text.encode(), "", Path())
    if before.problems:
        return
    try:
        after = edited(
            text, {"proxy_auth_token": [Secret(OTHER)]}, title="t", now=NOW, dated=["proxy_auth_token"]
        )
    except TidehubError:
        return
    found = parse(after.encode(), "", Path())
    assert found.problems == ()
    assert found.entries["proxy_auth_token"].values == (Secret(OTHER),)
    assert found.overrides == before.overrides
    assert all(
        found.entries[name].values == entry.values
        for name, entry in before.entries.items()
        if name != "proxy_auth_token"
    )
