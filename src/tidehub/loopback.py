"""Whether an address is this machine's own. Pure: nothing is looked up, and nothing of tidehub is imported."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address never leaves the machine.

    Of names only `localhost` and what is below it (RFC 6761, section 6.3): what others resolve to may change. An
    IPv4 address written as IPv6 counts as what it is (RFC 4291, section 2.5.5.2), brackets as in addresses are fine.
    """
    name = host.strip("[]").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
