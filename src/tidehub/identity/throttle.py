"""Slowing down those who guess passwords: per account and per address, with growing delays."""

from __future__ import annotations

import hashlib
import ipaddress
import math
import sqlite3
from dataclasses import dataclass

from tidehub.identity.accounts import canonical
from tidehub.identity.addresses import USER
from tidehub.identity.database import Database
from tidehub.loopback import is_loopback


@dataclass(frozen=True)
class Limit:
    """`free` failures cost nothing; the next costs `first` seconds, then each twice as much, up to `ceiling`.

    Everything is forgotten after `forget` seconds without a failure.
    """

    free: int
    first: float
    ceiling: float
    forget: float = 3600.0

    def delay(self, failures: int) -> float:
        """Seconds to wait after this many failures in a row."""
        if failures <= self.free:
            return 0.0
        return min(self.ceiling, self.first * 2.0 ** min(failures - self.free - 1, 60))


# Whoever guesses also holds up the owner of the account: hence a low ceiling there. Behind one address may sit
# a whole institute: it is allowed more failures, and then a higher ceiling.
ACCOUNT = Limit(free=4, first=2.0, ceiling=300.0)
ADDRESS = Limit(free=20, first=2.0, ceiling=900.0)


class Throttle:
    """Failed sign-ins in the database: neither a restart nor `kill -9` forgives them. Times in epoch seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def wait(self, username: str, address: str, now: float) -> float:
        """Seconds until `username`, known or not, may be tried from `address`; 0.0 means now."""
        connection = self._database.connection
        ends = [_failures(connection, key, limit, now)[1] for key, limit in _keys(username, address)]
        return max(0.0, *(end - now for end in ends))

    def failed(self, username: str, address: str, now: float) -> float:
        """Count a wrong password. Returns the seconds to wait before the next try."""
        longest = 0.0
        with self._database.transaction() as connection:
            for key, limit in _keys(username, address):
                count = _failures(connection, key, limit, now)[0] + 1
                delay = limit.delay(count)
                longest = max(longest, delay)
                connection.execute(
                    "INSERT OR REPLACE INTO failures (key, count, last, blocked_until) VALUES (?, ?, ?, ?)",
                    (key, count, now, now + delay),
                )
        return longest

    def succeeded(self, username: str) -> None:
        """Forgive the account. Not the address: one known password would buy endless guesses at the others."""
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM failures WHERE key = ?", (_account_key(username),))

    def purge(self, now: float) -> None:
        """Drop what is forgotten anyway."""
        forget = max(ACCOUNT.forget, ADDRESS.forget)
        with self._database.transaction() as connection:
            connection.execute("DELETE FROM failures WHERE last < ?", (now - forget,))


def in_words(seconds: float) -> str:
    """A wait for users: "12 seconds", "3 minutes"; rounded up, never "0 seconds"."""
    whole = max(1, math.ceil(seconds))
    if whole < 120:
        return "1 second" if whole == 1 else f"{whole} seconds"
    return f"{math.ceil(whole / 60)} minutes"


def _keys(username: str, address: str) -> tuple[tuple[str, Limit], tuple[str, Limit]]:
    return (_account_key(username), ACCOUNT), (address_key(address), ADDRESS)


def _failures(connection: sqlite3.Connection, key: str, limit: Limit, now: float) -> tuple[int, float]:
    """How many failures count, and when the wait for them ends."""
    row = connection.execute("SELECT * FROM failures WHERE key = ?", (key,)).fetchone()
    if row is None or now - row["last"] > limit.forget:
        return 0, now
    # A clock that was set back must not block anybody for longer than the limit does.
    return int(row["count"]), min(float(row["blocked_until"]), now + limit.ceiling)


def _account_key(username: str) -> str:
    # A digest, because users type passwords into the name field, and names may be any length.
    return "account:" + hashlib.sha256(canonical(username).encode()).hexdigest()


def address_key(address: str) -> str:
    """One key per user of this machine, IPv4 address or IPv6 /64: a host owns all of the latter, and a machine all of
    its loopback.
    """
    if address.startswith(USER):
        return f"address:{address}"
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "address:unknown"
    if is_loopback(address):
        return "address:loopback"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return f"address:{ipaddress.ip_network((parsed, 64), strict=False).network_address}"
        parsed = parsed.ipv4_mapped
    return f"address:{parsed}"
