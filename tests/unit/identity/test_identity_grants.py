from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from identity_server import OFFLINE, SECRET, START, Hub, basic

from tidehub.identity.sessions import Session, Sessions

DAY = 86400


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    opened = Hub(tmp_path / "state")
    yield opened
    opened.accounts.close()


def count(hub: Hub, table: str) -> int:
    return int(hub.database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_code_lives_sixty_seconds(hub: Hub) -> None:
    early, late = hub.code(), hub.code()
    hub.now += 59
    assert hub.redeem(early)["status"] == 200
    hub.now += 1
    assert hub.redeem(late)["error"] == "invalid_grant"


def test_access_token_lives_an_hour(hub: Hub) -> None:
    tokens = hub.redeem(hub.code())
    assert tokens["expires_in"] == 3600
    hub.now += 3599
    assert hub.opens(tokens["access_token"])
    hub.now += 1
    assert not hub.opens(tokens["access_token"])


def test_refresh_token_lives_thirty_days_from_its_issue(hub: Hub) -> None:
    token = hub.redeem(hub.code())["refresh_token"]
    for _ in range(2):
        hub.now += 30 * DAY - 1
        token = hub.refresh(token)["refresh_token"]
    hub.now += 30 * DAY
    assert hub.refresh(token)["error"] == "invalid_grant"


def test_replay_is_noticed_long_after(hub: Hub) -> None:
    """Cleaning up must not forget spent codes and tokens of a living family."""
    code = hub.code()
    first = hub.redeem(code)
    hub.now += DAY
    newest = hub.refresh(first["refresh_token"])
    hub.now += DAY
    hub.grants.purge()
    assert hub.redeem(code)["error"] == "invalid_grant"
    assert hub.refresh(newest["refresh_token"])["error"] == "invalid_grant"


def test_purge_drops_dead_families_only(hub: Hub) -> None:
    hub.redeem(hub.code())
    hub.code()
    hub.redeem(hub.code(scope="openid"))
    hub.now = START + 30
    hub.grants.purge()
    assert count(hub, "grants") == 3
    hub.now = START + 7200
    hub.grants.purge()
    assert [count(hub, table) for table in ("grants", "codes", "access_tokens")] == [1, 1, 0]
    hub.now = START + 31 * DAY
    hub.grants.purge()
    assert [count(hub, table) for table in ("grants", "codes", "refresh_tokens")] == [0, 0, 0]


@pytest.mark.parametrize("changes", [{"scope": "openid profile"}, {"scope": "openid email admin"}])
def test_foreign_scopes_spend_nothing(hub: Hub, changes: dict[str, str]) -> None:
    token = hub.redeem(hub.code())["refresh_token"]
    assert hub.refresh(token, **changes)["error"] == "invalid_scope"
    narrower = hub.refresh(token, scope="openid")
    assert narrower["scope"] == "openid"
    assert hub.refresh(narrower["refresh_token"])["scope"] == OFFLINE


def test_spent_code_of_another_client_still_revokes(hub: Hub) -> None:
    code = hub.code()
    tokens = hub.redeem(code)
    hub.database.connection.execute("UPDATE grants SET client_id = 'other'")
    assert hub.redeem(code)["error"] == "invalid_grant"
    assert not hub.opens(tokens["access_token"])


@pytest.mark.parametrize(
    "changes",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": "short"},
        {"code_verifier": "é" * 43},
        {"redirect_uri": "https://hub.example.org/cb"},
    ],
)
def test_wrong_proof_spends_the_code(hub: Hub, changes: dict[str, str]) -> None:
    code = hub.code()
    assert hub.redeem(code, **changes)["error"] == "invalid_grant"
    assert hub.redeem(code)["error"] == "invalid_grant"
    assert count(hub, "access_tokens") == 0


def test_short_verifier_gives_nothing_even_where_it_matches(hub: Hub) -> None:
    # RFC 7636, 4.1: 43 characters at least. The challenge is that of "short".
    code = hub.authorize(code_challenge="-bAHi131ltLqGQEMABu9AJ5lHeLFfo-341XzHrnT9zk")["code"]
    assert hub.redeem(code, code_verifier="short")["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ???",
        basic("hub:"),
        basic("hub"),
        basic(f"other:{SECRET}"),
        basic(f"hub:{SECRET}x"),
        basic(f"hub:{SECRET}", "Bearer"),
        f"Bearer {SECRET}",
        "Basic é",
    ],
)
def test_client_refusals_spend_nothing(hub: Hub, authorization: str) -> None:
    code = hub.code()
    assert hub.redeem(code, authorization=authorization)["error"] == "invalid_client"
    assert hub.redeem(code, client_id="other")["error"] == "invalid_client"
    assert hub.redeem(code, authorization=basic(f"hub:{SECRET}", "basic"), client_id="hub")["status"] == 200


def test_client_secret_in_the_body_is_not_looked_at(hub: Hub) -> None:
    form = {"client_id": "hub", "client_secret": SECRET}
    assert hub.redeem(hub.code(), authorization="", **form)["error"] == "invalid_client"


def test_signing_out_ends_what_is_not_offline(hub: Hub) -> None:
    online = hub.redeem(hub.code(scope="openid"))
    offline = hub.redeem(hub.code())
    elsewhere = hub.redeem(hub.code("another", "openid"))
    pending = hub.code()
    assert "refresh_token" not in online
    hub.grants.end_session("sid")
    assert not hub.opens(online["access_token"])
    assert hub.opens(offline["access_token"])
    assert hub.opens(elsewhere["access_token"])
    assert hub.redeem(pending)["error"] == "invalid_grant"


def test_only_digests_are_stored(hub: Hub) -> None:
    code = hub.code()
    tokens = hub.redeem(code)
    dump = "\n".join(hub.database.connection.iterdump())
    assert "hub.example.org" in dump
    for secret in (code, tokens["access_token"], tokens["refresh_token"]):
        assert len(secret) >= 30
        assert secret not in dump


def test_sessions_expire_and_are_replaced(hub: Hub) -> None:
    sessions = Sessions(hub.database, 100)
    cookie, session = sessions.begin("sub", START)
    assert sessions.find(cookie, START + 99) == session
    assert sessions.find(cookie, START + 100) is None
    assert sessions.find("guess", START) is None
    assert sessions.find(None, START) is None
    same_cookie, same = sessions.begin("sub", START + 10, replaces=cookie)
    assert same_cookie != cookie
    assert same == Session(session.sid, "sub", int(START + 10)), "what was granted before stays reachable"
    assert sessions.find(cookie, START + 10) is None
    _, other = sessions.begin("another", START + 20, replaces=same_cookie)
    assert other.sid != session.sid
    sessions.end(other.sid)
    assert count(hub, "sessions") == 0


def test_a_failing_step_leaves_nothing_behind(hub: Hub) -> None:
    with pytest.raises(RuntimeError):
        with hub.database.transaction() as connection:
            connection.execute("INSERT INTO failures VALUES ('k', 1, 1.0, 1.0)")
            raise RuntimeError
    assert count(hub, "failures") == 0
