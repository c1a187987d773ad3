from __future__ import annotations

import asyncio
import ipaddress
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidehub.identity import provider as provider_module
from tidehub.identity.accounts import Account
from tidehub.identity.addresses import client_address
from tidehub.identity.config import IdentityConfig
from tidehub.identity.database import Database
from tidehub.identity.provider import Provider
from tidehub.identity.throttle import ACCOUNT, ADDRESS, Throttle, in_words

NOW = 1_800_000_000.0


@pytest.fixture
def throttle(tmp_path: Path) -> Iterator[Throttle]:
    with Database(tmp_path / "state") as database:
        yield Throttle(database)


def fail(throttle: Throttle, times: int, *, address: str = "192.0.2.1", now: float = NOW) -> float:
    wait = 0.0
    for _ in range(times):
        wait = throttle.failed("alice", address, now)
    return wait


def test_delays_double_up_to_the_ceiling(throttle: Throttle) -> None:
    assert fail(throttle, 4) == 0
    assert [throttle.failed("alice", "192.0.2.1", NOW) for _ in range(4)] == [2, 4, 8, 16]
    assert fail(throttle, 8, address="192.0.2.2") == ACCOUNT.ceiling


@given(st.integers(0, 10**9))
def test_delay_never_shrinks_nor_passes_the_ceiling(failures: int) -> None:
    for limit in (ACCOUNT, ADDRESS):
        assert 0 <= limit.delay(failures) <= limit.delay(failures + 1) <= limit.ceiling


def test_wait_counts_down_and_applies_to_every_address(throttle: Throttle) -> None:
    fail(throttle, 6)
    assert throttle.wait("alice", "192.0.2.1", NOW) == 4
    assert throttle.wait(" ALICE", "198.51.100.7", NOW + 1) == 3
    assert throttle.wait("alice", "192.0.2.1", NOW + 4) == 0
    assert throttle.wait("bob", "192.0.2.1", NOW) == 0


def test_address_limit_applies_to_every_name(throttle: Throttle) -> None:
    for number in range(ADDRESS.free + 1):
        throttle.failed(f"name{number}", "192.0.2.1", NOW)
    assert throttle.wait("fresh", "192.0.2.1", NOW) == ADDRESS.first
    assert throttle.wait("fresh", "192.0.2.2", NOW) == 0


def test_success_forgives_the_account_not_the_address(throttle: Throttle) -> None:
    fail(throttle, ADDRESS.free + 1)
    throttle.succeeded("Alice")
    assert throttle.wait("alice", "198.51.100.7", NOW) == 0
    assert throttle.wait("alice", "192.0.2.1", NOW) == ADDRESS.first


def test_each_user_of_this_machine_counts_alone(throttle: Throttle) -> None:
    for number in range(ADDRESS.free + 1):
        throttle.failed(f"name{number}", "uid 71001", NOW)
    assert throttle.wait("fresh", "uid 71001", NOW) == ADDRESS.first
    for other in ("uid 7100", "uid 71002", "127.0.0.1", ""):
        assert throttle.wait("fresh", other, NOW) == 0


def test_failures_are_forgotten_after_an_hour(throttle: Throttle) -> None:
    fail(throttle, 4)
    assert fail(throttle, 1, now=NOW + ACCOUNT.forget + 1) == 0
    throttle.purge(NOW + 3 * ACCOUNT.forget)
    assert throttle._database.connection.execute("SELECT count(*) FROM failures").fetchone()[0] == 0


def test_clock_set_back_blocks_no_longer_than_the_ceiling(throttle: Throttle) -> None:
    fail(throttle, 12)
    assert throttle.wait("alice", "192.0.2.9", NOW - 10**6) <= ACCOUNT.ceiling


def test_ipv6_hosts_cannot_change_within_their_network(throttle: Throttle) -> None:
    for number in range(ADDRESS.free + 1):
        throttle.failed(f"name{number}", f"2001:db8::{number:x}", NOW)
    assert throttle.wait("fresh", "2001:db8::ffff", NOW) > 0
    assert throttle.wait("fresh", "2001:db8:1::1", NOW) == 0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.01, "1 second"), (1.2, "2 seconds"), (119, "119 seconds"), (120, "2 minutes"), (301, "6 minutes")],
)
def test_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


PROXY = [ipaddress.ip_network("203.0.113.0/24")]


@pytest.mark.parametrize(
    ("peer", "headers", "expected"),
    [
        ("198.51.100.1", [], "198.51.100.1"),
        ("127.0.0.1", [], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1"], "192.0.2.1"),
        ("::1", ["192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.66, 192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.66", "192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["192.0.2.66, 192.0.2.1, 203.0.113.5"], "192.0.2.1"),
        ("127.0.0.1", ["203.0.113.5"], "127.0.0.1"),
        ("127.0.0.1", ["192.0.2.1, nonsense"], "127.0.0.1"),
        ("127.0.0.1", ["::ffff:192.0.2.1"], "192.0.2.1"),
        ("127.0.0.1", ["[2001:db8::1]"], "2001:db8::1"),
    ],
)
def test_responsible_address(peer: str, headers: list[str], expected: str) -> None:
    assert client_address(peer, headers, PROXY, proven=True) == expected


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.9.9.9", "::1", "198.51.100.1"])
def test_what_did_not_come_through_our_proxy_says_nothing_of_its_address(peer: str) -> None:
    """Users of this machine reach the provider's port as the proxy does."""
    expected = peer if peer == "198.51.100.1" else ""
    assert client_address(peer, ["192.0.2.1"], PROXY, proven=False) == expected


@pytest.mark.parametrize(
    ("uid", "expected"), [("1000", "uid 1000"), ("0", "uid 0"), ("", "127.0.0.1"), ("x", "127.0.0.1")]
)
def test_a_user_of_this_machine_is_known_by_their_uid_if_our_proxy_says_it(uid: str, expected: str) -> None:
    assert client_address("0.0.0.0", ["127.0.0.1"], PROXY, proven=True, uid=uid) == expected
    assert client_address("0.0.0.0", ["127.0.0.1"], PROXY, proven=False, uid=uid) == ""


@pytest.fixture
def provider(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.setattr(provider_module, "hash_password", lambda password: "nobody's")
    client = {"client_id": "c", "client_secret": "x" * 16, "redirect_uri": "https://hub.example.org/cb"}
    config = IdentityConfig.model_validate(
        {
            "issuer": "http://127.0.0.1:8000/id",
            "listen": {"port": 1},
            "state_dir": tmp_path / "state",
            "site_name": "S",
            "client": client,
        }
    )
    opened = Provider(config)
    opened.accounts.add_hashed(Account("alice", "Alice", "a@example.org"), "alice's")
    yield opened
    opened.close()


async def test_many_guesses_at_once_do_not_outrun_the_counting(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def verify(password: str, stored: str) -> bool:
        looked_at.append(password)
        return False

    monkeypatch.setattr(provider_module, "verify_password", verify)
    outcomes = await asyncio.gather(
        *(provider.sign_in("alice", f"guess {n}", f"192.0.2.{n}") for n in range(30))
    )
    assert len(looked_at) == ACCOUNT.free + 1
    assert [outcome.tried for outcome in outcomes].count(False) == 30 - len(looked_at)
    assert not any(outcome.account for outcome in outcomes)


async def test_many_names_at_once_from_one_address_do_not_outrun_the_counting_nor_keep_others_waiting(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_at: list[str] = []

    def verify(password: str, stored: str) -> bool:
        time.sleep(0.01)
        looked_at.append(password)
        return password == "right"

    monkeypatch.setattr(provider_module, "verify_password", verify)
    guesses = [
        asyncio.create_task(provider.sign_in(f"name{n}", f"guess {n}", f"127.0.0.{n % 200}"))
        for n in range(200)
    ]
    while not looked_at:
        await asyncio.sleep(0.001)
    assert (await provider.sign_in("alice", "right", "192.0.2.1")).account is not None
    assert looked_at.index("right") <= 2 * provider_module.TOGETHER, "somebody else waited for the guesses"
    tried = [outcome.tried for outcome in await asyncio.gather(*guesses)].count(True)
    assert ADDRESS.free < tried < ADDRESS.free + provider_module.TOGETHER + 1


async def test_many_right_sign_ins_at_once_all_work(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider_module, "verify_password", lambda password, stored: True)
    outcomes = await asyncio.gather(*(provider.sign_in("alice", "right", "192.0.2.1") for _ in range(30)))
    assert all(outcome.account for outcome in outcomes)


async def test_unknown_names_cost_a_hash_too(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    stored_hashes: list[str] = []

    def verify(password: str, stored: str) -> bool:
        stored_hashes.append(stored)
        return True

    monkeypatch.setattr(provider_module, "verify_password", verify)
    assert (await provider.sign_in("nobody", "x", "192.0.2.1")).account is None, "even if the hash matched"
    assert (await provider.sign_in("alice", "x", "192.0.2.1")).account is not None
    assert stored_hashes == ["nobody's", "alice's"]
