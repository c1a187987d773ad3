"""The private /etc/passwd and /etc/group: names, lines, and whose come first."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidehub.local.isolation import User
from tidehub.local.isolation.accounts import ALONE, Accounts, account_name

SYSTEM = Accounts(
    "root:x:0:0:root:/root:/bin/bash\nsync:x:4:65534::/bin:/bin/sync\n", "root:x:0:\nusers:x:100:\n"
)


def user(name: str, directory: str) -> User:
    return User(name, 70001, 70001, Path("/h:o/homes") / directory)


def test_the_user_comes_first_and_the_system_stays() -> None:
    made = SYSTEM.with_user("alice", user("alice", "alice"), "/bin/sh\nroot:x")
    assert made.passwd.splitlines()[0] == "alice:x:70001:70001:alice:/h-o/homes/alice:/bin/sh-root-x"
    assert made.group.splitlines()[0] == "alice:x:70001:"
    assert made.passwd.endswith(SYSTEM.passwd) and made.group.endswith(SYSTEM.group)


@pytest.mark.parametrize(
    ("name", "directory", "expected"),
    [
        ("alice", "alice", "alice"),
        ("Alice@Example.org", "alice-example-org---0a", "Alice@Example.org"),
        ("Zo\u00eb M\u00fcller", "zoe-muller---0a", "zoe-muller---0a"),
        ("al:ice\nroot:x:0", "al-ice---0a", "al-ice---0a"),
        ("-rf", "rf---0a", "rf---0a"),
        ("x" * 200, "xx---0a", "xx---0a"),
        ("root", "root", "user-70001"),
        ("users", "users", "user-70001"),
    ],
)
def test_a_name_is_the_users_own_or_one_that_is_nobody_elses(
    name: str, directory: str, expected: str
) -> None:
    assert account_name(user(name, directory), SYSTEM.names()) == expected


def test_in_a_sandbox_nobody_is_not_the_user() -> None:
    assert account_name(user("nobody", "nobody"), ALONE.names()) == "user-70001"
