"""Decide which addresses a provider call may go to, so that no call reaches our own network.

A base URL may come from a customer (ActiveCampaign) or from an answer (Salesforce), so it is
hostile until checked. Promises (RELIABILITY 6, OWASP API7):

* A call goes to a host that the provider's facts name, by https on port 443, without userinfo.
  An IP literal is never such a host, in whatever notation.
* A name is resolved once for a connection, every address of it is checked, and the socket goes
  to one of those that were checked: a resolver that lies the second time is not asked again.
* The one exception are the sandbox's own origins on loopback, which are known outside
  production only (`PROVIDER_BASE_URLS`).
"""

import re
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import SplitResult, urlsplit

import idna
from aiohttp.abc import AbstractResolver, ResolveResult

from libs.common.errors import MisconfiguredError

HTTPS_PORT = 443
URL_LENGTH_MAX = 2_048  # A base URL is short; what is longer is no base URL.

# `is_global` of Python 3.11 holds these for public, but each can carry or stand for an inner
# address: NAT64 (RFC 6052, 8215), 6to4 (RFC 3056), Teredo and other IETF protocol assignments
# (RFC 6890), site-local (RFC 3879), IPv4-compatible (RFC 4291).
_DENIED_V6 = tuple(
    IPv6Network(text)
    for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/23", "fec0::/10", "::/96")
)
# 192.0.0.0/24 is for protocols of the IETF, 192.88.99.0/24 was 6to4's relay (RFC 7526).
_DENIED_V4_PREFIXES = ("192.0.0.", "192.88.99.")

# A host name of letters, digits and hyphens; the last label is no number, so it is no address.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}\.)+(?=[a-z0-9-]*[a-z]){_LABEL}")
_PLAIN = re.compile(r"[!-\[\]-~]+")  # Printable ASCII without blanks and backslash.


@dataclass(frozen=True, slots=True)
class Site:
    """A checked base URL: calls go to `origin` + path. Only `check_url` makes one."""

    origin: str  # Scheme, host, port and a path prefix without a slash at its end.
    host: str


def check_url(url: str, hosts: Sequence[str], loopback: Collection[str] = ()) -> Site:
    """Return the site of a base URL; raise MisconfiguredError(address_not_allowed).

    `hosts` are names, or suffixes that start with a dot. `loopback` are the origins of the
    sandbox (`http://127.0.0.1:port`). A non-ASCII host is compared in its IDNA form.
    """
    if origin_of(url) in loopback:
        return Site(origin=url.rstrip("/"), host="127.0.0.1")
    host = _public_host(url)
    if host is None or not _is_named(host, hosts):
        raise MisconfiguredError(_shown(host), "address_not_allowed")
    return Site(origin=f"https://{host}{urlsplit(url).path.rstrip('/')}", host=host)


def check_loopback(url: str) -> str:
    """Return the origin of a sandbox's base URL; raise ValueError if it is not on loopback."""
    parts = _split(url)
    if parts is None or (parts.scheme, parts.hostname) != ("http", "127.0.0.1") or not parts.port:
        message = "PROVIDER_BASE_URLS takes http://127.0.0.1:<port> only: that is the sandbox"
        raise ValueError(message)
    return f"http://127.0.0.1:{parts.port}"


def origin_of(url: str) -> str | None:
    """Return scheme, host and port of a URL as they are written; None if it is no plain URL."""
    parts = _split(url)
    return f"{parts.scheme}://{parts.netloc}" if parts else None


def is_public(address: str) -> bool:
    """Return whether a socket may go to an address (textual IPv4 or IPv6)."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None or parsed.scope_id is not None:
            return False  # No resolver answers so for a provider: it hides an IPv4 address.
        denied = any(parsed in network for network in _DENIED_V6)
    else:
        denied = _is_denied_v4(parsed)
    return parsed.is_global and not parsed.is_multicast and not denied


def open_socket(loopback_ports: Collection[int], address_info: tuple[Any, ...]) -> socket.socket:
    """Return a socket for an address; refuse one that is neither public nor the sandbox's.

    The last look before the connection: whatever was resolved, cached or written into a URL,
    the address that the socket goes to is judged here (aiohttp's `socket_factory`).
    """
    family, kind, protocol, _, socket_address = address_info
    address, port = socket_address[0], socket_address[1]
    sandbox = address == "127.0.0.1" and port in loopback_ports
    if not sandbox and (port != HTTPS_PORT or not is_public(address)):
        message = "the address is not allowed"
        raise OSError(message)
    return socket.socket(family, kind, protocol)


class CheckedResolver(AbstractResolver):
    """Resolve a name, and refuse it altogether if one of its addresses is not public."""

    def __init__(self, resolver: AbstractResolver) -> None:
        self._resolver = resolver

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a host; raise OSError if any of them is not public."""
        results = await self._resolver.resolve(host, port, family)
        if not all(is_public(result["host"]) for result in results):
            message = "the name has an address that is not allowed"
            raise OSError(message)
        return results

    async def close(self) -> None:
        """Close the resolver below."""
        await self._resolver.close()


def _public_host(url: str) -> str | None:
    """Return the host of an https URL on port 443 without extras, in IDNA form; else None."""
    parts = _split(url)
    if parts is None or parts.scheme != "https" or parts.query or parts.fragment:
        return None
    if "@" in parts.netloc or "?" in url or "#" in url or parts.port not in {None, HTTPS_PORT}:
        return None
    if ".." in parts.path or "%" in url or "//" in parts.path:
        return None
    host = parts.hostname or ""
    return host if len(host) <= 253 and _HOST.fullmatch(host) else None


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL whose host is in ASCII (IDNA) form; None if it has none."""
    if len(url) > URL_LENGTH_MAX:
        return None
    try:
        ascii_url = url if url.isascii() else _with_idna_host(url)
        parts = urlsplit(ascii_url)
        parts.port  # noqa: B018 - a port that is no number raises here
    except ValueError:
        return None
    return parts if _PLAIN.fullmatch(ascii_url) and parts.netloc else None


def _with_idna_host(url: str) -> str:
    """Return a URL with its host in IDNA form; raise if it has none."""
    parts = urlsplit(url)
    host = idna.encode((parts.hostname or "").lower()).decode("ascii")
    port = f":{parts.port}" if parts.port else ""
    return parts._replace(netloc=host + port if "@" not in parts.netloc else "@").geturl()


def _is_named(host: str, hosts: Sequence[str]) -> bool:
    return any(
        host.endswith(name) and len(host) > len(name) if name.startswith(".") else host == name
        for name in hosts
    )


def _is_denied_v4(address: IPv4Address) -> bool:
    return str(address).startswith(_DENIED_V4_PREFIXES)


def _shown(host: str | None) -> str:
    """Return what an error may show of a host that somebody typed."""
    return host or "provider address"
