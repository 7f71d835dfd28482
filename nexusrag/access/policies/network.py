"""Networks for `ip_in`."""

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nexusrag.access.policies.attributes import unmapped

_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


@dataclass(frozen=True, slots=True)
class Networks:
    """Version, number and mask of each."""

    members: tuple[tuple[int, int, int], ...]

    def holds(self, address: tuple[int, int]) -> bool:
        """Whether the address, as version and number, lies in one of them."""
        version, number = address
        return any(version == sort and number & mask == network for sort, network, mask in self.members)


def read_networks(given: Any) -> Networks:
    """From a list of networks in CIDR notation or of single addresses. Raises ValueError that says what to do."""
    if not isinstance(given, list) or not given:
        raise ValueError('Give a list of networks, such as ["10.0.0.0/8", "2001:db8::/32"].')
    return Networks(tuple(_networks(given)))


def _networks(given: list[Any]) -> Iterator[tuple[int, int, int]]:
    for place, text in enumerate(given):
        try:
            if not isinstance(text, str) or "%" in text:
                raise ValueError
            network = ipaddress.ip_network(text)
        except ValueError as error:
            message = "is no network in CIDR notation, such as 10.0.0.0/8 (its host bits are zero) or 2001:db8::/32"
            raise ValueError(f"Number {place + 1} of the list {message}.") from error
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
            version, number = unmapped(network.network_address)
            yield version, number, int(network.netmask) & 0xFFFFFFFF
        else:
            yield network.version, int(network.network_address), int(network.netmask)
