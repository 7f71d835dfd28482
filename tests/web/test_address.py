"""Where a request comes from: what trusted proxies say, and no more than that."""

import pytest
from fastapi import Request

from nexusrag.settings.outbound import parse_networks
from nexusrag.settings.web import WebSettings
from nexusrag.web.address import client_address, network_of

TRUSTED = "10.0.0.0/8, fd00::/8"


def request(peer: str | None, *forwarded: str) -> Request:
    headers = [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded]
    return Request({"type": "http", "headers": headers, "client": (peer, 1234) if peer else None})


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        (None, ["1.2.3.4"], None),
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["1.2.3.4"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4, 10.2.2.2"], "1.2.3.4"),
        ("10.0.0.1", ["6.6.6.6, 1.2.3.4 , 10.2.2.2", "10.9.9.9"], "1.2.3.4"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense, 10.2.2.2"], "10.2.2.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", ["1.2.3.4:5678"], "1.2.3.4"),
        ("10.0.0.1", ["[2001:db8::1]:5678"], "2001:db8::1"),
        ("10.0.0.1", ["2001:DB8::1"], "2001:db8::1"),
        ("10.0.0.1", ["::ffff:1.2.3.4"], "1.2.3.4"),
        ("::ffff:10.0.0.1", ["1.2.3.4"], "1.2.3.4"),
        ("fd00::1", ["1.2.3.4"], "1.2.3.4"),
        ("unix", ["1.2.3.4"], "unix"),
    ],
)
def test_the_address_is_the_first_from_the_right_that_is_no_trusted_proxy(
    peer: str | None, forwarded: list[str], address: str | None
) -> None:
    assert client_address(request(peer, *forwarded), parse_networks(TRUSTED)) == address


def test_without_trusted_proxies_it_is_the_peers() -> None:
    assert client_address(request("10.0.0.1", "1.2.3.4"), ()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"), ("", ""),
        ("unix", "unix"),
    ],
)  # fmt: skip
def test_one_client_is_an_address_or_a_network_of_ipv6(address: str, network: str) -> None:
    assert network_of(address) == network


def test_what_is_no_network_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match=r"'10\.0\.0\.1/8' is no network"):
        WebSettings(trusted_proxies="10.0.0.1/8")
    assert len(WebSettings(trusted_proxies=TRUSTED).trusted_networks) == 2
