"""Requests to addresses that others name: checked after the name is resolved, and made to the
address that was checked, so that a lab's target can never be a machine inside the house.
"""

import functools
import ipaddress
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass

import httpx

from market.errors import MarketError

MAX_REPLY_BYTES = 4 * 1024 * 1024
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class AddressRefused(MarketError):
    """A target at an address that requests from here may not go to."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"{host[:200]!r} cannot be a target: {reason}")
        self.host = host[:200]
        self.reason = reason


class Unanswered(MarketError):
    """A request that got no whole reply: no connection, no end in time, or too much of it."""

    def __init__(self, reason: str, *, is_timeout: bool = False) -> None:
        super().__init__(reason)
        self.is_timeout = is_timeout


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back, whole.

    Units: seconds from the first byte sent to the last received.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, whatever it is wrapped in."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    return ip.is_global and not ip.is_multicast


def checked_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a name, each one fit to be connected to.

    One unfit address refuses the name: whoever mixes them means the unfit one.

    Raises:
        AddressRefused.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as failed:
        raise AddressRefused(host, f"its name does not resolve ({failed})") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not allow_private:
        for address in addresses:
            if not is_public(address):
                raise AddressRefused(host, f"{address} is not a public address")
    return addresses


def checked_target(url: str, *, allow_private: bool) -> tuple[httpx.URL, list[str]]:
    """An address that requests may go to, and the machines behind its name as they are now.

    Raises:
        AddressRefused.
    """
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as bad:
        raise AddressRefused(url, f"it is no address ({bad})") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise AddressRefused(url, "only http and https are spoken")
    if target.userinfo:
        raise AddressRefused(target.host, "a name or password does not belong in an address")
    port = target.port or (443 if target.scheme == "https" else 80)
    host = target.raw_host.decode("ascii")
    return target, checked_addresses(host, port, allow_private=allow_private)


def post_bytes(
    url: str,
    body: bytes,
    *,
    headers: Mapping[str, str],
    timeout_s: float,
    allow_private: bool,
    max_bytes: int = MAX_REPLY_BYTES,
    cut: bool = False,
) -> Reply:
    """Send one POST and read its whole reply; redirects are not followed, proxies not used.

    With `cut`, what a reply has beyond `max_bytes` is left unread instead of being an error.

    Raises:
        AddressRefused, Unanswered.
    """
    target, addresses = checked_target(url, allow_private=allow_private)
    host = target.raw_host.decode("ascii")
    began = time.monotonic()
    deadline = began + timeout_s
    failure = Unanswered("no address of it answered")
    for address in addresses:
        left = deadline - time.monotonic()
        if left <= 0:
            raise Unanswered(f"no whole reply within {timeout_s:g} s", is_timeout=True)
        try:
            return _post_to(address, target, body, headers, left, began, deadline, max_bytes, cut)
        except httpx.ConnectError as refused:
            failure = Unanswered(f"no connection to {host}: {refused}")
        except httpx.TimeoutException:
            raise Unanswered(f"no whole reply within {timeout_s:g} s", is_timeout=True) from None
        except httpx.HTTPError as broken:
            raise Unanswered(f"the reply broke off: {type(broken).__name__}") from None
    raise failure


def _post_to(
    address: str,
    target: httpx.URL,
    body: bytes,
    headers: Mapping[str, str],
    left: float,
    began: float,
    deadline: float,
    max_bytes: int,
    cut: bool,
) -> Reply:
    host = target.raw_host.decode("ascii")
    with (
        httpx.Client(
            verify=_tls(), trust_env=False, follow_redirects=False, timeout=left
        ) as caller,
        caller.stream(
            "POST",
            # The checked address itself: a name resolved twice may answer differently.
            target.copy_with(host=address),
            content=body,
            headers={
                "Accept-Encoding": "identity",
                **headers,
                "Host": target.netloc.decode("ascii"),
            },
            extensions={"sni_hostname": host},
        ) as answer,
    ):
        parts: list[bytes] = []
        size = 0
        for part in answer.iter_bytes():
            size += len(part)
            if size > max_bytes and cut:
                parts.append(part[: len(part) - (size - max_bytes)])
                break
            if size > max_bytes:
                raise Unanswered(f"the reply is longer than {max_bytes} bytes")
            if time.monotonic() > deadline:
                raise Unanswered("the reply did not end in time", is_timeout=True)
            parts.append(part)
        return Reply(
            answer.status_code,
            b"".join(parts),
            dict(answer.headers.items()),
            time.monotonic() - began,
        )


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context(trust_env=False)
