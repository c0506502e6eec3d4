"""Whose request it is, by address: the peer's, or what the load balancers in front of the gateway say it is."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address
Networks = Sequence[IPv4Network | IPv6Network]


def client_address(peer: str, forwarded_for: bytes, trusted: Networks) -> str:
    """The client's address. ``forwarded_for``: all of X-Forwarded-For, in order, joined by commas.

    Only what a trusted proxy appended is believed: from the right, the first address that is not a trusted proxy's
    own. Where an entry is no address, the last one that was is all that is known.
    """
    client = _read(peer)
    if client is None:
        return peer
    for entry in reversed(forwarded_for.split(b",")):
        if not any(client in network for network in trusted):
            break
        before = _read(entry.decode("latin-1").strip())
        if before is None:
            break
        client = before
    return str(client)


def _read(text: str) -> Address | None:
    """An address, also as ``192.0.2.1:443`` or ``[2001:db8::1]:443``; IPv4 within IPv6 as what it is."""
    host = text
    if text.startswith("["):
        host = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        host = text.partition(":")[0]
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
