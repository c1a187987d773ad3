"""Where a request comes from, when proxies stand before the provider."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Sequence

from tidehub.loopback import is_loopback

FRONT_HEADER = "X-Tidehub-Front"
"""With `front_proof` in it: the request came through the proxy in front, which has set X-Forwarded-For. After a space
the uid of the program of this machine that sent it, where the kernel told."""
USER = "uid "
"""What stands before a user's uid where other clients have an address."""
UNIX_PEER = "0.0.0.0"
"""What tornado says of the other end of a Unix socket."""

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def front_proof(client_secret: str) -> str:
    """What the proxy in front knows, and users of this machine, who reach the provider's port as it does, do not."""
    return hmac.new(client_secret.encode(), b"front of the identity provider", hashlib.sha256).hexdigest()


def client_address(
    peer: str, forwarded_for: Sequence[str], trusted: Sequence[Network] = (), *, proven: bool, uid: str = ""
) -> str:
    """The address to hold responsible for a request; "" for that of whoever came past the proxy on this machine.

    Users of this machine, and those who come through SSH tunnels, have one address together: a `proven` request with a
    `uid` is that user's, `uid 1000` for example.

    `peer` is the socket's other end, `forwarded_for` the values of all X-Forwarded-For headers in order. They
    count only when the request is `proven` to come from our own proxy. Each proxy appends the address it saw, so the
    last entry is the one that ours wrote; what stands left of it is the client's claim, unless that entry is a trusted
    proxy.
    """
    if not proven:
        return "" if is_loopback(peer) or peer == UNIX_PEER else peer
    if uid.isascii() and uid.isdigit():
        return f"{USER}{uid}"
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
