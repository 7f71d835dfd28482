"""Decides which addresses may be called: public ones and the operator's `OUTBOUND_ALLOWED_NETWORKS`, over http(s).

One parser (yarl, which aiohttp connects with) reads a URL, so that what is checked is what is called.
"""

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from yarl import URL

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

MAX_URL = 2048

# IANA special-purpose registries (RFC 6890 and successors), fixed here: `ipaddress.is_global` differs between Python releases.
_NOT_PUBLIC_V4 = [
    ip_network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # the host agent of Azure, on a public number
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
]
# Of IPv6 only global unicast is public, less what embeds or documents other addresses. 64:ff9b::/96 and the like lie outside.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_V6 = [ip_network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]

# Services that speak something else than HTTP and could be confused by it.
_OTHER_SERVICES = frozenset({1433, 1521, 2049, 2181, 3306, 3389, 5060, 5061, 5432, 5672, 5900, 6000, 6379, 6667, 6697, 9042, 11211, 27017})

_PLAIN = re.compile(r"[!-~]+")
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.?")
_NUMERIC_END = re.compile(r"(?:.*\.)?(?:[0-9]+|0x[0-9a-f]*)\.?")
_LOCAL_NAME = re.compile(r"[^.]+\.?|.*\.(?:localhost|local|internal|localdomain|lan|home\.arpa|intranet|corp|home)\.?")


class UrlRefused(ValueError):
    """The URL may not be called. The message says why, without repeating the URL."""


class AddressRules:
    """Public addresses, and those inside `allowed`."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def allows(self, address: str | Address) -> bool:
        """Whether a connection to `address` may be opened. An IPv4-mapped address counts as the IPv4 address in it."""
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        if isinstance(ip, IPv6Address):
            if ip.scope_id is not None:
                return False
            ip = ip.ipv4_mapped or ip
        return is_public(ip) or any(ip in network for network in self._allowed)

    def parse(self, url: str) -> URL:
        """`url` ready to be called, if everything that can be known without resolving its name allows it; else UrlRefused."""
        parsed = _parse(url)
        host = parsed.raw_host or ""
        literal = _literal(host)
        if literal is not None:
            if not self.allows(literal):
                raise UrlRefused("the address is not public")
        elif not _NAME.fullmatch(host) or _NUMERIC_END.fullmatch(host):
            raise UrlRefused("the host is neither a plain name nor a plain address")
        return parsed


def is_public(ip: Address) -> bool:
    """Whether `ip` is a globally reachable unicast address."""
    if isinstance(ip, IPv4Address):
        return not any(ip in network for network in _NOT_PUBLIC_V4)
    return ip in _GLOBAL_UNICAST and not any(ip in network for network in _NOT_PUBLIC_V6)


def is_local_name(host: str) -> bool:
    """Whether `host` can only mean something inside a local network: one label, or a suffix reserved for such use."""
    return _literal(host) is None and bool(_LOCAL_NAME.fullmatch(host))


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _parse(url: str) -> URL:
    if len(url) > MAX_URL or not _PLAIN.fullmatch(url) or "\\" in url:
        raise UrlRefused(f"an address is at most {MAX_URL} printable ASCII characters, without spaces and backslashes")
    scheme, separator, rest = url.partition("://")
    if scheme.lower() not in ("http", "https") or not separator:
        raise UrlRefused("an address begins with http:// or https://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority or "%" in authority or "#" in url:
        raise UrlRefused("an address holds no user name, no escapes in the host and no fragment")
    try:
        parsed = URL(url)
        port = parsed.port
    except ValueError:
        raise UrlRefused("the address cannot be read") from None
    if not parsed.host:
        raise UrlRefused("the address cannot be read")
    if port is None or (port < 1024 and port not in (80, 443)) or port in _OTHER_SERVICES:
        raise UrlRefused("the port is not one of a web server")
    return parsed
