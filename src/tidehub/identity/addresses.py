"""Where a request comes from, when proxies stand before the provider."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from tidehub.loopback import is_loopback

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def client_address(peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network] = ()) -> str:
    """The address to hold responsible for a request.

    `peer` is the socket's other end, `forwarded_for` the values of all X-Forwarded-For headers in order. They
    count only when the peer is on loopback. Each proxy appends the address it saw, so the last entry is the one
    our own proxy wrote; what stands left of it is the client's claim, unless that entry is a trusted proxy.
    """
    if not is_loopback(peer):
        return peer
    entries = [entry.strip() for value in forwarded_for for entry in value.split(",") if entry.strip()]
    for entry in reversed(entries):
        address = _parsed(entry)
        if address is None:
            return peer
        if not any(address in network for network in trusted):
            return str(address)
    return peer


def _parsed(entry: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(entry.strip("[]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
