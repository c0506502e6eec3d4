"""Whose request it is: nobody's word is taken but that of a trusted proxy."""

import json
from ipaddress import ip_network

import pytest
from proxy_harness import OK, get, post

from gateway.proxy.client_address import client_address
from gateway.proxy.head import FORWARDING

TRUSTED = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.1", b"", "192.0.2.1"),
        ("192.0.2.1", b"198.51.100.7", "192.0.2.1"),  # anybody can write that
        ("10.0.0.1", b"", "10.0.0.1"),
        ("10.0.0.1", b"198.51.100.7", "198.51.100.7"),
        ("10.0.0.1", b"1.1.1.1, 198.51.100.7", "198.51.100.7"),  # what came before was written by the client
        ("10.0.0.1", b"1.1.1.1,198.51.100.7 , 10.0.0.2", "198.51.100.7"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", b"198.51.100.7, garbage, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", b"198.51.100.7:4711", "198.51.100.7"),
        ("10.0.0.1", b"[2606:4700::1]:4711", "2606:4700::1"),
        ("10.0.0.1", b"2606:4700::1", "2606:4700::1"),
        ("2001:db8::9", b"198.51.100.7", "198.51.100.7"),
        ("::ffff:10.0.0.1", b"::ffff:198.51.100.7", "198.51.100.7"),
        ("fe80::1%eth0", b"", "fe80::1"),
        ("10.0.0.1", b"unknown", "10.0.0.1"),
        ("10.0.0.1", b"\xff\xfe", "10.0.0.1"),
        ("", b"198.51.100.7", ""),
    ],
)
def test_the_rightmost_that_is_not_trusted(peer, forwarded, client):
    assert client_address(peer, forwarded, TRUSTED) == client


async def logged(open_door, connect, *headers: str, **settings):
    door = await open_door(**settings.pop("proxy", {}))
    door.settings = door.settings.model_copy(
        update={"log": door.settings.log.model_copy(update={"client_address": settings["client_address"]})}
    )
    door.gate.log_addresses = settings["client_address"]
    client = await connect(door)
    await client.ask(get("/nowhere", *headers))
    return door.lines[0]


async def test_the_address_is_not_logged_unless_asked_for(open_door, connect):
    assert "client" not in await logged(open_door, connect, client_address=False)
    line = await logged(open_door, connect, "X-Forwarded-For: 198.51.100.7", client_address=True)
    assert line["client"] == "127.0.0.1"


async def test_what_a_trusted_proxy_says_is_logged(open_door, connect):
    proxy = {"trusted_proxies": ["127.0.0.0/8"]}
    headers = ("X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 198.51.100.7")
    line = await logged(open_door, connect, *headers, client_address=True, proxy=proxy)
    assert line["client"] == "198.51.100.7"


async def test_no_provider_learns_how_a_client_came(open_door, connect, provider):
    door = await open_door(trusted_proxies=["127.0.0.0/8"])
    client = await connect(door)
    client.send(post(headers=tuple(f"{name.decode()}: 198.51.100.7" for name in FORWARDING)))
    upstream = await provider.accept()
    asked = await upstream.message()
    upstream.send(OK)
    await client.message()
    assert "198.51.100.7" not in json.dumps(asked.headers)
