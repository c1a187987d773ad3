"""Who is behind a user name: the subject, not the name."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import Session

from tidehub.login.users import Identity, KnownUsers, NameTaken

ALICE = Identity("https://op.example.org", "1@op")
SECOND = Identity("https://op.example.org", "2@op")
ELSEWHERE = Identity("https://other.example.org", "1@op")


@pytest.fixture
def session() -> Any:
    with Session(sa.create_engine("sqlite://")) as session:
        yield session


def test_a_name_is_the_first_users_who_comes_with_it(session: Any) -> None:
    users = KnownUsers(session)
    users.bind("alice", ALICE)
    users.bind("alice", ALICE)
    for other in (SECOND, ELSEWHERE):
        with pytest.raises(NameTaken, match="1@op"):
            users.bind("alice", other)
    assert users.owner_of("alice") == ALICE


def test_who_is_renamed_at_the_provider_keeps_the_name_here(session: Any) -> None:
    users = KnownUsers(session)
    users.bind("alice", ALICE)
    assert users.name_of(ALICE, "alicia") == "alice"
    assert users.name_of(SECOND, "alicia") == "alicia"
    assert users.name_of(ELSEWHERE, "alice") == "alice"


def test_the_operator_gives_a_second_user_another_name(session: Any) -> None:
    KnownUsers(session).bind("alice", ALICE)
    users = KnownUsers(session, {SECOND.sub: "Alice2"})
    assert users.name_of(SECOND, "alice") == "alice2"
    users.bind("alice2", SECOND)


def test_the_operator_gives_an_old_name_to_a_new_account(session: Any) -> None:
    KnownUsers(session).bind("alice", ALICE)
    users = KnownUsers(session, {SECOND.sub: "alice"})
    users.bind(users.name_of(SECOND, "alice.new"), SECOND)
    assert users.owner_of("alice") == SECOND
    with pytest.raises(NameTaken):
        users.bind("alice", ALICE)


def test_the_table_outlives_the_hub_and_knows_when_a_user_was_confirmed(session: Any) -> None:
    KnownUsers(session).bind("alice", ALICE)
    again = KnownUsers(session)
    since = again.unconfirmed_for("alice")
    assert since is not None and 0 <= since < 60
    assert again.unconfirmed_for("nobody") is None
