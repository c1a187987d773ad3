from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tidehub.identity.config import Lifetimes
from tidehub.identity.database import Database
from tidehub.identity.grants import Grants, InvalidGrant, Tokens, s256
from tidehub.identity.sessions import Session, Sessions

NOW = 1_800_000_000.0
VERIFIER = "v" * 43
URI = "https://hub.example.org/cb"
OFFLINE = ("openid", "email", "offline_access")


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def grants(database: Database) -> Grants:
    return Grants(database, Lifetimes())


def code(grants: Grants, *, scopes: tuple[str, ...] = OFFLINE, sid: str = "sid") -> str:
    return grants.issue_code(
        client_id="hub",
        session=Session(sid, "sub", int(NOW)),
        scopes=scopes,
        nonce="n",
        redirect_uri=URI,
        challenge=s256(VERIFIER),
        now=NOW,
    )


def redeem(
    grants: Grants, value: str, *, now: float = NOW, verifier: str = VERIFIER, client: str = "hub"
) -> Tokens:
    return grants.redeem_code(value, client_id=client, redirect_uri=URI, verifier=verifier, now=now)


def refresh(grants: Grants, token: str | None, *, now: float = NOW) -> Tokens:
    assert token is not None
    return grants.refresh(token, client_id="hub", scopes=None, now=now)


def test_s256_is_the_rfc_example() -> None:
    # RFC 7636, appendix B.
    challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
    assert s256("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk") == challenge


def test_code_lives_sixty_seconds(grants: Grants) -> None:
    redeem(grants, code(grants), now=NOW + 59)
    with pytest.raises(InvalidGrant, match="expired"):
        redeem(grants, code(grants), now=NOW + 60)


def test_access_token_lives_an_hour(grants: Grants) -> None:
    tokens = redeem(grants, code(grants))
    found = grants.find_access(tokens.access_token, NOW + 3599)
    assert found is not None
    assert (found[0].sub, found[1]) == ("sub", OFFLINE)
    assert grants.find_access(tokens.access_token, NOW + 3600) is None


def test_refresh_token_lives_thirty_days_from_its_issue(grants: Grants) -> None:
    month = 30 * 86400
    tokens = redeem(grants, code(grants))
    later = refresh(grants, tokens.refresh_token, now=NOW + month - 1)
    again = refresh(grants, later.refresh_token, now=NOW + 2 * month - 2)
    assert again.grant.auth_time == int(NOW)
    with pytest.raises(InvalidGrant, match="expired"):
        refresh(grants, again.refresh_token, now=NOW + 4 * month)


def test_replay_is_noticed_long_after(grants: Grants) -> None:
    """Cleaning up must not forget spent codes and tokens of a living family."""
    value = code(grants)
    first = redeem(grants, value)
    newest = refresh(grants, first.refresh_token, now=NOW + 86400)
    grants.purge(NOW + 2 * 86400)
    with pytest.raises(InvalidGrant, match="used before"):
        redeem(grants, value, now=NOW + 2 * 86400)
    with pytest.raises(InvalidGrant, match="revoked"):
        refresh(grants, newest.refresh_token, now=NOW + 2 * 86400)


def test_purge_drops_dead_families_only(grants: Grants, database: Database) -> None:
    def count(table: str) -> int:
        return int(database.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    redeem(grants, code(grants))
    code(grants)
    redeem(grants, code(grants, scopes=("openid",)))
    grants.purge(NOW + 30)
    assert count("grants") == 3
    grants.purge(NOW + 7200)
    assert (count("grants"), count("codes"), count("access_tokens")) == (1, 1, 0)
    grants.purge(NOW + 31 * 86400)
    assert (count("grants"), count("codes"), count("refresh_tokens")) == (0, 0, 0)


def test_foreign_scopes_spend_nothing(grants: Grants) -> None:
    tokens = redeem(grants, code(grants))
    assert tokens.refresh_token is not None
    with pytest.raises(ValueError, match="more than was granted"):
        grants.refresh(tokens.refresh_token, client_id="hub", scopes=("openid", "profile"), now=NOW)
    refresh(grants, tokens.refresh_token)


def test_foreign_client_with_a_spent_code_still_revokes(grants: Grants) -> None:
    value = code(grants)
    tokens = redeem(grants, value)
    with pytest.raises(InvalidGrant, match="unknown"):
        redeem(grants, value, client="other")
    assert grants.find_access(tokens.access_token, NOW) is None


def test_signing_out_ends_what_is_not_offline(grants: Grants) -> None:
    online = redeem(grants, code(grants, scopes=("openid",)))
    offline = redeem(grants, code(grants))
    elsewhere = redeem(grants, code(grants, scopes=("openid",), sid="another"))
    pending = code(grants)
    grants.end_session("sid")
    assert grants.find_access(online.access_token, NOW) is None
    assert grants.find_access(offline.access_token, NOW) is not None
    assert grants.find_access(elsewhere.access_token, NOW) is not None
    with pytest.raises(InvalidGrant):
        redeem(grants, pending)


def test_only_digests_are_stored(grants: Grants, database: Database) -> None:
    value = code(grants)
    tokens = redeem(grants, value)
    dump = "\n".join(database.connection.iterdump())
    assert "hub.example.org" in dump
    for secret in (value, tokens.access_token, tokens.refresh_token):
        assert secret is not None
        assert secret not in dump


def test_sessions_expire_and_are_replaced(database: Database) -> None:
    sessions = Sessions(database, 100)
    cookie, session = sessions.begin("sub", NOW)
    assert sessions.find(cookie, NOW + 99) == session
    assert sessions.find(cookie, NOW + 100) is None
    assert sessions.find("guess", NOW) is None
    assert sessions.find(None, NOW) is None
    same_cookie, same = sessions.begin("sub", NOW + 10, replaces=cookie)
    assert same_cookie != cookie
    assert same == Session(session.sid, "sub", int(NOW + 10)), "what was granted before stays reachable"
    assert sessions.find(cookie, NOW + 10) is None
    _, other = sessions.begin("another", NOW + 20, replaces=same_cookie)
    assert other.sid != session.sid
    sessions.end(other.sid)
    assert database.connection.execute("SELECT count(*) FROM sessions").fetchone()[0] == 0


def test_a_failing_step_leaves_nothing_behind(database: Database) -> None:
    with pytest.raises(RuntimeError):
        with database.transaction() as connection:
            connection.execute("INSERT INTO failures VALUES ('k', 1, 1.0, 1.0)")
            raise RuntimeError
    assert database.connection.execute("SELECT count(*) FROM failures").fetchone()[0] == 0
