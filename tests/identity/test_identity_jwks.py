"""An issuer's keys: fetched in the background, kept when that fails, asked for sparingly."""

import asyncio
import json

import pytest
from issuing import Key, KeyServer
from structlog.testing import capture_logs

from gateway.identity import jwks
from gateway.identity.jwks import MAX_BYTES, IssuerKeys, KeySetError, fetch, read_key_set

ONE, TWO = Key("one", "ES256"), Key("two", "ES256")


@pytest.fixture
def server():
    with KeyServer(ONE) as running:
        yield running


@pytest.fixture
async def watch(server):
    """Keys of the server's issuer, under a clock that the test moves."""
    now = [1000.0]
    keys = IssuerKeys("corp", server.url, clock=lambda: now[0])
    keys.now = now
    yield keys
    await keys.close()


# ---------------------------------------------------------------- key sets


def test_usable_keys_are_kept_by_name_and_type():
    rsa = Key("one")
    listed = [ONE.public(), rsa.public(), TWO.public(use="enc"), {"kty": "oct", "k": "eA", "kid": "s"}, {"kid": "x"}, 5,
              {**TWO.public(), "kid": None}]  # fmt: skip
    assert set(read_key_set(json.dumps({"keys": listed}).encode())) == {("one", "EC"), ("one", "RSA")}


def test_of_two_keys_with_one_name_the_first_counts():
    listed = [ONE.public(), TWO.public(kid="one")]
    (key,) = read_key_set(json.dumps({"keys": listed}).encode()).values()
    assert key.thumbprint == ONE.key.thumbprint()


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"{}", b"5", b'{"keys": {}}', b'{"keys": null}', b'"keys"'])
def test_what_is_no_key_set(data):
    with pytest.raises(KeySetError):
        read_key_set(data)


# ---------------------------------------------------------------- fetching


async def test_a_document_is_fetched(server):
    assert await fetch(server.url) == server.body


async def test_more_than_the_limit_is_not_read(server):
    server.body = b" " * (MAX_BYTES + 1)
    with pytest.raises(KeySetError, match="more than"):
        await fetch(server.url)


async def test_a_redirect_is_not_followed(server):
    with KeyServer(TWO) as evil:
        server.status, server.headers = 302, {"Location": evil.url}
        with pytest.raises(KeySetError, match="status 302"):
            await fetch(server.url)
        assert evil.hits == 0


async def test_a_server_that_is_silent_is_given_up(server, monkeypatch):
    monkeypatch.setattr(jwks, "FETCH_SECONDS", 0.05)
    server.delay = 0.3
    with pytest.raises(KeySetError):
        await fetch(server.url)


async def test_nobody_there():
    with pytest.raises(KeySetError):
        await fetch("http://127.0.0.1:1/jwks")


# ---------------------------------------------------------------- keeping


async def test_keys_are_there_soon_after_the_start(watch, server, until):
    watch.start()
    await until(lambda: watch.get("one", "EC"))
    assert watch.get("one", "RSA") is None
    assert server.hits == 1


async def test_keys_are_fetched_from_time_to_time(watch, server, until, monkeypatch):
    monkeypatch.setattr(jwks, "REFRESH_SECONDS", 0.01)
    watch.start()
    await until(lambda: watch.get("one", "EC"))
    server.publish(TWO)
    await until(lambda: watch.get("two", "EC"))
    assert watch.get("one", "EC") is None, "a key that was withdrawn verifies nothing"


@pytest.mark.parametrize("failure", [{"status": 500}, {"body": b"<html>"}, {"status": 404, "body": b'{"keys": []}'}])
async def test_keys_are_kept_when_a_refresh_fails_and_that_is_told_once(watch, server, until, monkeypatch, failure):
    monkeypatch.setattr(jwks, "REFRESH_SECONDS", 0.01)
    with capture_logs() as logs:
        watch.start()
        await until(lambda: watch.get("one", "EC"))
        for name, value in failure.items():
            setattr(server, name, value)
        seen = server.hits
        await until(lambda: server.hits >= seen + 4)
        assert watch.get("one", "EC")
        server.status = 200
        server.publish(ONE)
        await until(lambda: len(logs) >= 3)
    assert [line["event"] for line in logs] == ["issuer_keys", "issuer_keys_unavailable", "issuer_keys"]
    assert logs[1]["kept"] == 1


async def test_an_issuer_that_publishes_no_key_has_none(watch, server, until, monkeypatch):
    monkeypatch.setattr(jwks, "REFRESH_SECONDS", 0.01)
    watch.start()
    await until(lambda: watch.get("one", "EC"))
    server.publish()
    await until(lambda: not watch.get("one", "EC"))


async def test_an_issuer_that_was_away_at_the_start_is_asked_again(watch, server, until, monkeypatch):
    monkeypatch.setattr(jwks, "INTERVAL", 0.01)
    server.status = 503
    watch.start()
    await until(lambda: server.hits >= 2)
    server.status = 200
    await until(lambda: watch.get("one", "EC"))


# ---------------------------------------------------------------- asking because a key is missing


async def test_however_many_miss_a_key_the_issuer_is_asked_once_in_an_interval(watch, server):
    await asyncio.gather(*(watch.look_again() for _ in range(200)))
    assert server.hits == 1
    watch.now[0] += jwks.INTERVAL - 1
    await asyncio.gather(*(watch.look_again() for _ in range(200)))
    assert server.hits == 1
    watch.now[0] += 1
    await asyncio.gather(*(watch.look_again() for _ in range(200)))
    assert server.hits == 2


async def test_who_misses_a_key_waits_for_the_fetch_that_is_under_way(watch, server):
    server.delay = 0.1
    await asyncio.gather(watch.look_again(), watch.look_again())
    assert watch.get("one", "EC")


async def test_and_does_not_wait_for_long(watch, server, monkeypatch):
    monkeypatch.setattr(jwks, "WAIT_SECONDS", 0.02)
    server.delay = 0.3
    began = asyncio.get_running_loop().time()
    await watch.look_again()
    assert asyncio.get_running_loop().time() - began < 0.2
    assert watch.get("one", "EC") is None
