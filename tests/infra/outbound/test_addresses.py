"""Which addresses may be called."""

from ipaddress import ip_network

import pytest

from nexusrag.infra.addresses import AddressRules, UrlRefused

PUBLIC_ONLY = AddressRules()

REFUSED = [
    "http://127.0.0.1/",
    "http://127.1/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://0x7f000001/",
    "http://0177.1/",
    "http://0177.0.0.01/",
    "http://127.0.0.1./",
    "http://127.0.0.01/",
    "http://1.2.3/",
    "http://256.1.1.1/",
    "http://0.0.0.0/",
    "http://10.1.2.3/",
    "http://100.64.0.1/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://169.254.169.254/latest/meta-data/",
    "http://172.31.255.255/",
    "http://192.0.0.192/",
    "http://192.0.2.1/",
    "http://192.168.0.1/",
    "http://198.18.0.1/",
    "http://198.51.100.7/",
    "http://203.0.113.7/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[64:ff9b::808:808]/",
    "http://[64:ff9b:1::1]/",
    "http://[2002:7f00:1::]/",
    "http://[2001:0:1::1]/",
    "http://[2001:db8::1]/",
    "http://[3fff::1]/",
    "http://[fd00:ec2::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://[fec0::1]/",
    "http://[ff02::1]/",
    "http://[::ffff:127.0.0.1%25x]/",
    "http://a@127.0.0.1/",
    "http://example.com@127.0.0.1/",
    "http://example.com:pw@example.org/",
    "http://127.0.0.1#@example.com/",
    "http://example.com/#fragment",
    "http://example.com\\@127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http:/127.0.0.1/",
    "http:127.0.0.1",
    "//127.0.0.1/",
    "127.0.0.1",
    "",
    "http://",
    "http:///path",
    "http://①②⑦.0.0.1/",
    "http://еxample.com/",
    "http://127%2e0.0.1/",
    "http://exa mple.com/",
    "http://example.com/\r\nHost: x",
    "http://example.com/\x00",
    "http://example.com:25/",
    "http://example.com:6379/",
    "http://example.com:5432/",
    "http://example.com:22/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:80:80/",
    "gopher://example.com/",
    "file:///etc/passwd",
    "ftp://example.com/",
    "unix:///var/run/docker.sock",
    "http+unix://%2fvar%2frun%2fdocker.sock/",
    "javascript://example.com/",
    "http://-example.com/",
    "http://exam..ple.com/",
    "http://example.0x/",
    "http://example.12/",
    f"http://{'a' * 64}.com/",
    f"http://example.com/{'a' * 2048}",
]


@pytest.mark.parametrize("url", REFUSED)
def test_urls_that_reach_or_hide_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UrlRefused) as refusal:
        PUBLIC_ONLY.parse(url)
    assert not url or url not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/hook?token=a%20b&x=%2f",
        "https://EXAMPLE.com:8443/",
        "http://example.com:80/",
        "http://93.184.215.14/",
        "https://[2606:2800:21f:cb07:6820:80da:af6b:8b2c]/",
        "https://xn--bcher-kva.example/",
        "https://a_b.example.com./",
        "http://ollama:11434/v1",
        "http://3com.com/",
    ],
)
def test_plain_urls_pass_and_keep_their_host(url: str) -> None:
    assert (PUBLIC_ONLY.parse(url).raw_host or "") in url.lower()


def test_an_operator_allows_networks_and_nothing_beside_them() -> None:
    rules = AddressRules([ip_network("127.0.0.0/8"), ip_network("fd00::/8")])
    for url in ("http://127.0.0.1:9000/", "http://[::ffff:127.0.0.1]:9000/", "http://[fd00::1]/"):
        rules.parse(url)
    for url in ("http://10.0.0.1/", "http://[::1]/", "http://127.0.0.1:6379/", "http://127.1/"):
        with pytest.raises(UrlRefused):
            rules.parse(url)
    assert not rules.allows("fe80::1%eth0")
    assert not rules.allows("no address")
