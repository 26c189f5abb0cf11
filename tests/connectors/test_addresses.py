import socket
from collections.abc import Sequence

import httpx
import pytest
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import example, given
from hypothesis import strategies as st

from libs.common.errors import MisconfiguredError, UnavailableError
from libs.common.settings import Environment
from libs.connectors.addresses import (
    CheckedResolver,
    check_loopback,
    check_url,
    is_public,
    open_socket,
)
from libs.connectors.http import HttpClient

HOSTS = ("api.hubapi.com", ".api-us1.com")
SANDBOX = ("http://127.0.0.1:8080",)


class LyingResolver(AbstractResolver):
    """A resolver that answers each question with the next of the addresses it was given."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.closed = False

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host, host=each, port=port, family=socket.AF_INET6 if ":" in each
                else socket.AF_INET, proto=0, flags=0,
            )
            for each in answer
        ]  # fmt: skip

    async def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://api.hubapi.com", "https://api.hubapi.com"),
        ("https://api.hubapi.com/", "https://api.hubapi.com"),
        ("https://api.hubapi.com:443/v3", "https://api.hubapi.com/v3"),
        ("HTTPS://API.HUBAPI.COM", "https://api.hubapi.com"),
        ("https://acme.api-us1.com/api/3", "https://acme.api-us1.com/api/3"),
        ("https://a.b.api-us1.com", "https://a.b.api-us1.com"),
        ("https://müller.api-us1.com", "https://xn--mller-kva.api-us1.com"),
        ("http://127.0.0.1:8080/v3", "http://127.0.0.1:8080/v3"),
    ],
)
def test_a_providers_address_is_allowed(url: str, origin: str) -> None:
    assert check_url(url, HOSTS, SANDBOX).origin == origin


HOSTILE = [
    "http://api.hubapi.com",
    "ftp://api.hubapi.com",
    "file:///etc/passwd",
    "gopher://api.hubapi.com",
    "javascript:alert(1)",
    "//api.hubapi.com",
    "api.hubapi.com",
    "",
    " https://api.hubapi.com",
    "https://api.hubapi.com\n.evil.com",
    "https://api.hubapi.com\t",
    "https://api.hubapi.com:8443",
    "https://api.hubapi.com:80",
    "https://api.hubapi.com:0",
    "https://api.hubapi.com:99999",
    "https://api.hubapi.com:x",
    "https://user@api.hubapi.com",
    "https://user:password@api.hubapi.com",
    "https://api.hubapi.com@evil.com",
    "https://api.hubapi.com:443@evil.com",
    "https://evil.com#@api.hubapi.com",
    "https://evil.com?@api.hubapi.com",
    "https://evil.com\\@api.hubapi.com",
    "https://api.hubapi.com\\@evil.com",
    "https://evil.com/api.hubapi.com",
    "https://api.hubapi.com.evil.com",
    "https://evilapi.hubapi.com",
    "https://hubapi.com",
    "https://api-us1.com",
    "https://.api-us1.com",
    "https://evilapi-us1.com",
    "https://acme.api-us1.com.evil.com",
    "https://acme.api-us1.com.",
    "https://api.hubapi.com.",
    "https://acme..api-us1.com",
    "https://-acme.api-us1.com",
    "https://acme%2eapi-us1.com",
    "https://%61pi.hubapi.com",
    "https://acme_1.api-us1.com",
    f"https://{'a' * 64}.api-us1.com",
    f"https://{'a.' * 130}api-us1.com",
    f"https://api.hubapi.com/{'a' * 3000}",
    "https://api.hubapi.com/?next=evil",
    "https://api.hubapi.com/#fragment",
    "https://api.hubapi.com?",
    "https://api.hubapi.com/../admin",
    "https://api.hubapi.com/%2e%2e/admin",
    "https://api.hubapi.com//evil.com",
    "https://localhost",
    "https://localhost.localdomain",
    "https://127.0.0.1",
    "https://127.1",
    "https://2130706433",
    "https://0x7f000001",
    "https://0177.0.0.1",
    "https://0",
    "https://[::1]",
    "https://[::ffff:127.0.0.1]",
    "https://[fe80::1%25eth0]",
    "https://169.254.169.254/latest/meta-data",
    "https://metadata.google.internal",
    "https://10.0.0.1",
    "https://192.168.1.1",
    "https://127.0.0.1.nip.io",
    "https://\u0430pi.hubapi.com",
    "https://ap\u0131.hubapi.com",
    "https://api.hubapi.com\u202e",
    "https://ünïcode@api-us1.com",
    "https://xn--.api-us1.com:443:443",
    "http://127.0.0.1:8081",
    "http://127.0.0.1",
    "http://user@127.0.0.1:8080",
    "https://127.0.0.1:8080",
    "http://localhost:8080",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused(url: str) -> None:
    """Proves API7 (SSRF): the name is checked before anything is resolved."""
    with pytest.raises(MisconfiguredError) as caught:
        check_url(url, HOSTS, SANDBOX)

    assert caught.value.what == "address_not_allowed"


PIECES = st.sampled_from(
    ["https://", "http://", "HTTPS://", "api.hubapi.com", "acme", ".api-us1.com", "evil.com",
     "127.0.0.1", "[::1]", ":443", ":80", "@", "#", "?", "/", "\\", "%2e", "%00", ".", "..", "//",
     "\u3002", "\uff0e", "\u0131", "\u212a", "\t", "\n", " ", "xn--", ";", "user:pass@", "a"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=9).map("".join))
@example("https://api.hubapi.com")
@example("https://acme\u3002api-us1.com")
def test_every_parser_sees_the_host_that_was_checked(url: str) -> None:
    """Proves API7: who checks a URL and who connects must not read it differently."""
    try:
        site = check_url(url, HOSTS)
    except MisconfiguredError:
        return

    assert site.host == "api.hubapi.com" or site.host.endswith(".api-us1.com")
    for host, port in (
        (httpx.URL(site.origin).host, httpx.URL(site.origin).port),
        (yarl.URL(site.origin).host, yarl.URL(site.origin).port),
    ):
        assert host == site.host
        assert port in {None, 443}


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254",
        "172.16.0.1", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.0.1", "198.18.0.1",
        "224.0.0.1", "240.0.0.1", "255.255.255.255", "::", "::1", "::127.0.0.1",
        "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2001::1",
        "2001:db8::1", "2002:a9fe:a9fe::1", "fc00::1", "fe80::1", "fe80::1%eth0", "fec0::1",
        "ff02::1", "2606:4700::1%eth0", "not an address", "127.1", "",
    ],
)  # fmt: skip
def test_an_inner_address_is_not_public(address: str) -> None:
    """Proves API7: what Python calls global and is not is denied as well."""
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "104.16.1.1", "2606:4700::6810:1"])
def test_a_providers_address_is_public(address: str) -> None:
    assert is_public(address)


async def test_one_bad_address_of_several_refuses_the_name() -> None:
    resolver = CheckedResolver(LyingResolver(["8.8.8.8", "10.0.0.1"]))

    with pytest.raises(OSError, match="not allowed"):
        await resolver.resolve("api.hubapi.com", 443)


async def test_good_addresses_are_passed_on() -> None:
    below = LyingResolver(["8.8.8.8", "2606:4700::6810:1"])
    resolver = CheckedResolver(below)

    results = await resolver.resolve("api.hubapi.com", 443)
    await resolver.close()

    assert [each["host"] for each in results] == ["8.8.8.8", "2606:4700::6810:1"]
    assert below.closed


@pytest.mark.parametrize(
    ("address", "port"), [("127.0.0.1", 443), ("127.0.0.1", 8081), ("8.8.8.8", 8080)]
)
def test_no_socket_is_opened_to_another_place(address: str, port: int) -> None:
    """The last look before a connection, whatever was resolved before."""
    with pytest.raises(OSError, match="not allowed"):
        open_socket({8080}, (socket.AF_INET, socket.SOCK_STREAM, 0, "", (address, port)))


def test_a_socket_is_opened_to_the_sandbox() -> None:
    kind = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 8080))

    with open_socket({8080}, kind) as opened:
        assert opened.family is socket.AF_INET


async def test_a_resolver_that_turns_to_our_own_network_reaches_nothing() -> None:
    """Proves API7 against DNS rebinding: every answer is checked, not only the first."""
    resolver = LyingResolver(["127.0.0.1"], ["10.0.0.1", "8.8.8.8"], ["::1"])
    http = HttpClient(resolver=resolver)
    site = http.site("https://api.hubapi.com", HOSTS)

    for _ in range(3):
        with pytest.raises(UnavailableError):
            await http.call(site, "GET", "/", headers={})
    await http.aclose()

    assert resolver.asked == 3


@pytest.mark.parametrize(
    "url",
    ["http://localhost:1", "http://10.0.0.1:80", "https://127.0.0.1:1", "http://127.0.0.1", "x"],
)
def test_a_sandbox_lies_on_loopback(url: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        check_loopback(url)


def test_production_knows_no_sandbox() -> None:
    """Proves that PROVIDER_BASE_URLS is refused where real contacts are."""
    with pytest.raises(ValueError, match="PROVIDER_BASE_URLS"):
        HttpClient(environment=Environment.PRODUCTION, loopback_urls={"hubspot": SANDBOX[0]})
