"""Where requests of a lab's making may go: to no address inside the house."""

import itertools
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from market.egress import AddressRefused, Unanswered, is_public, post_bytes
from tests.fakemodel import FakeModel


@pytest.fixture
def model() -> Iterator[FakeModel]:
    """A stand-in for a provider, on this machine."""
    with FakeModel(key="sk-secret") as found:
        yield found


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.5.5",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "ff02::1",
    ],
)
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111"])
def test_an_outer_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/v1",
        "http://localhost:1/v1",
        "http://2130706433:1/v1",
        "http://0x7f.1:1/v1",
        "http://[::1]:1/v1",
        "http://[::ffff:127.0.0.1]:1/v1",
        "http://169.254.169.254/latest/meta-data",
        "http://u:p@example.com/v1",
        "ftp://example.com/v1",
        "file:///etc/passwd",
        "http:///v1",
        "not an address",
        "http://a name with spaces/",
        "http://no-such-host.invalid/v1",
    ],
)
def test_a_request_to_an_inner_or_broken_address_is_refused(url: str) -> None:
    with pytest.raises(AddressRefused):
        post_bytes(url, b"{}", headers={}, timeout_s=2, allow_private=False)


def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    monkeypatch: pytest.MonkeyPatch, model: FakeModel
) -> None:
    # A name server that answers with a public address first, and with ours afterwards.
    answers = itertools.chain(["93.184.216.34"], itertools.repeat("127.0.0.1"))
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *given: Any, **more: Any) -> Any:
        if host != "rebinding.example":
            return real(host, port, *given, **more)
        asked.append(host)
        return real(next(answers), port, *given, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    port = model.base_url.rsplit(":", 1)[1].split("/")[0]
    with pytest.raises(Unanswered):
        post_bytes(
            f"http://rebinding.example:{port}/v1/chat/completions",
            b"{}",
            headers={},
            timeout_s=0.3,
            allow_private=False,
        )
    assert (len(asked), model.world.count) == (1, 0)


def test_a_slow_name_or_a_proxy_in_the_environment_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, model: FakeModel
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    reply = post_bytes(
        f"{model.base_url}/chat/completions",
        b'{"messages": [{"content": "2 + 2?"}]}',
        headers={"Authorization": "Bearer sk-secret"},
        timeout_s=5,
        allow_private=True,
    )
    assert reply.status == 200
