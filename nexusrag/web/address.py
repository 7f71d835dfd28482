"""Where a request comes from: the peer of the connection, or what a trusted proxy says of it."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from fastapi import Request

from nexusrag.infra.addresses import Network

HEADER = "x-forwarded-for"


def client_address(request: Request, trusted: Sequence[Network]) -> str | None:
    """The address of the client.

    Each proxy adds the address that it was called from at the right of X-Forwarded-For. It is read from there, as long as whoever
    wrote it is trusted; what stands further left may be made up.
    """
    peer = request.client.host if request.client else None
    if peer is None or not trusted:
        return peer
    hops = [hop for value in request.headers.getlist(HEADER) for hop in value.split(",")]
    nearest = _parsed(peer)
    while nearest is not None and _within(nearest, trusted) and hops:
        told = _parsed(hops.pop())
        if told is None:
            break
        nearest = told
    return peer if nearest is None else str(nearest)


def network_of(address: str) -> str:
    """What counts as one client: an IPv4 address, or the /64 that one IPv6 client chooses its addresses from."""
    parsed = _parsed(address)
    if isinstance(parsed, IPv6Address):
        return str(IPv6Network((int(parsed) >> 64 << 64, 64)))
    return address if parsed is None else str(parsed)


def _parsed(hop: str) -> IPv4Address | IPv6Address | None:
    """An address with or without brackets and port, as proxies write it."""
    text = hop.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        parsed = ip_address(text)
    except ValueError:
        return None
    return parsed.ipv4_mapped or parsed if isinstance(parsed, IPv6Address) else parsed


def _within(address: IPv4Address | IPv6Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
