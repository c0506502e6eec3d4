"""What the doctor says of a machine, a real Redis and providers: each thing that can be wrong, and what to do."""

import asyncio
import resource
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import redis as blocking
from certificates import Authority

from gateway.cli.doctor import doctor as command
from gateway.cli.target import Target
from gateway.doctor import Level, examine
from gateway.doctor.machine import descriptors, listeners, signing_key, state_directory
from gateway.doctor.providers import providers, reached, secrets
from gateway.doctor.redis import clock, health, rights, transport
from gateway.enforcement import acl
from gateway.enforcement.connection import connect
from gateway.enforcement.signing import create_key
from gateway.settings import Provider, Settings

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.fixture
def settings(tmp_path, redis_server):
    """A machine on which all is well, but for what a test spoils."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    create_key(state / "signing.key")
    (state / "pseudonym.key").write_bytes(b"x" * 32)
    return Settings(state_dir=state, redis={"url": f"unix://{redis_server}"})


def said(findings, what: str) -> tuple[Level, str, str]:
    """The one finding about something."""
    (found,) = [one for one in findings if one.what == what]
    return found.level, found.found, found.do


def level(findings, what: str) -> Level:
    return said(findings, what)[0]


# ---------------------------------------------------------------------- the machine


def test_all_is_well(settings):
    found = [*state_directory(settings), *signing_key(settings), *listeners(settings, NOW)]
    assert {one.level for one in found} == {Level.OK}


def test_a_state_directory_that_is_missing_or_open(settings):
    settings.state_dir.chmod(0o755)
    assert "chmod 700" in said(state_directory(settings), "state_dir")[2]
    missing = settings.model_copy(update={"state_dir": settings.state_dir / "none"})
    assert level(state_directory(missing), "state_dir") is Level.FAIL
    settings.pseudonym_key.unlink()
    assert level(state_directory(settings), "pseudonym.key") is Level.WARN


def test_a_signing_key_that_is_missing_open_or_not_trusted(settings, tmp_path):
    settings.signing_key.chmod(0o644)
    assert level(signing_key(settings), "signing.key") is Level.WARN
    create_key(tmp_path / "other.key")
    settings.signing_key.with_suffix(".pub").write_bytes((tmp_path / "other.pub").read_bytes())
    found = list(signing_key(settings))
    assert found[-1].level is Level.FAIL
    settings.signing_key.unlink()
    assert "portcullis init" in said(signing_key(settings), "signing")[2]


@pytest.mark.parametrize(("days", "expected"), [(-1, Level.FAIL), (3, Level.WARN), (60, Level.OK)])
def test_a_certificate_that_ends(settings, tmp_path, days, expected):
    pair = Authority(tmp_path / "ca").issue()
    from cryptography import x509

    ends = x509.load_pem_x509_certificate(pair.certificate.read_bytes()).not_valid_after_utc
    tls = {"certificate": pair.certificate, "key": pair.key}
    with_tls = Settings(state_dir=settings.state_dir, proxy={"tls": tls})
    assert level(listeners(with_tls, ends - timedelta(days=days, hours=-1)), "proxy.tls") is expected


def test_listeners_beyond_loopback_without_tls(settings):
    opened = Settings(state_dir=settings.state_dir, proxy={"listen": "0.0.0.0:8080"}, admin={"listen": "0.0.0.0:8081"})
    assert [one.level for one in listeners(opened, NOW)] == [Level.WARN, Level.WARN]


def test_descriptors(settings, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    assert "LimitNOFILE=20256" in said(descriptors(settings), "descriptors")[2]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, resource.RLIM_INFINITY))
    assert level(descriptors(settings), "descriptors") is Level.OK


# ---------------------------------------------------------------------- Redis


class Clock:
    """A server whose clock is off by so much."""

    def __init__(self, by: float) -> None:
        self._by = by

    async def time(self) -> tuple[int, int]:
        return int(datetime.now(UTC).timestamp() + self._by), 0


@pytest.mark.parametrize(("by", "expected"), [(0.5, Level.OK), (-10, Level.WARN), (3600, Level.FAIL)])
async def test_a_clock_that_is_off(by, expected):
    assert (await clock(Clock(by))).level is expected


def test_a_disk_that_fails_and_a_memory_that_is_full():
    assert health({"aof_last_write_status": "err"}).level is Level.FAIL
    assert health({"used_memory": 90, "maxmemory": 100}).level is Level.WARN
    assert health({"used_memory": 90}).level is Level.OK


@pytest.mark.parametrize(
    ("url", "expected"),
    [("redis://10.0.0.1:6379", Level.WARN), ("rediss://10.0.0.1:6379", Level.OK), ("redis://localhost", Level.OK)],
)
def test_the_way_to_redis(url, expected):
    assert transport(Settings(redis={"url": url})).level is expected


@pytest.fixture
def users(redis_server):
    """The two users of the documentation; gone afterwards."""
    with blocking.Redis(unix_socket_path=redis_server) as client:
        if int(client.info()["redis_version"].split(".")[0]) < 7:
            pytest.skip("ACL selectors need Redis 7")
        client.execute_command("ACL", "SETUSER", "control", ">c", *acl.rules(acl.CONTROL))
        client.execute_command("ACL", "SETUSER", "worker", ">w", *acl.rules(acl.REPLICA))
        yield
        client.execute_command("ACL", "DELUSER", "control", "worker")


async def found_of_rights(redis_server: str, **section: str) -> dict[str, Level]:
    settings = Settings(redis={"url": f"unix://{redis_server}", **section})
    control, replica = connect(settings), connect(settings, replica=True)
    found = {one.what: one.level async for one in rights(settings, control, replica)}
    await control.aclose()
    await replica.aclose()
    return found


async def test_rights_that_are_no_more_than_needed(redis, redis_server, users):
    least = await found_of_rights(
        redis_server, username="control", password="c", replica_username="worker", replica_password="w"
    )
    assert least == {"redis.username": Level.OK, "redis.replica_username": Level.OK}


async def test_rights_that_are_more(redis, redis_server, users):
    assert set((await found_of_rights(redis_server)).values()) == {Level.WARN}
    wide = await found_of_rights(redis_server, replica_username="control", replica_password="c")
    assert wide["redis.replica_username"] is Level.WARN


# ---------------------------------------------------------------------- providers


def provider(**fields) -> Provider:
    return Provider(dialect="openai", base_url="http://127.0.0.1:1", **fields)


def test_keys_of_providers(tmp_path, monkeypatch):
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    assert [one.level for one in secrets("p", provider(api_key_env="NO_SUCH_KEY"))] == [Level.FAIL]
    assert [one.level for one in secrets("p", provider())] == [Level.WARN]
    assert [one.level for one in secrets("p", provider(credentials="forward"))] == [Level.OK]
    file = tmp_path / "key"
    assert [one.level for one in secrets("p", provider(api_key_file=file))] == [Level.FAIL]
    file.write_text("")
    assert "empty" in next(secrets("p", provider(api_key_file=file))).found
    file.write_text("sk-secret")
    for mode, expected in ((0o644, Level.WARN), (0o600, Level.OK)):
        file.chmod(mode)
        (found,) = secrets("p", provider(api_key_file=file))
        assert found.level is expected
        assert "sk-secret" not in repr(found)


async def test_providers_that_are_reached_and_not(settings):
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    there = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        assert (await reached("p", provider().model_copy(update={"base_url": there}), 2)).level is Level.OK
        secure = there.replace("http:", "https:")
        assert (await reached("p", provider().model_copy(update={"base_url": secure}), 2)).level is Level.FAIL
    assert (await reached("p", provider(), 2)).level is Level.FAIL
    assert [one.level async for one in providers(settings)] == [Level.FAIL], "there is none"


# ---------------------------------------------------------------------- all of it


async def gathered(found: AsyncIterator) -> list:
    return [one async for one in found]


async def test_a_redis_that_is_not_there(settings, tmp_path):
    away = Settings(state_dir=settings.state_dir, redis={"url": f"unix://{tmp_path}/none.sock"})
    client = connect(away)
    assert level(await gathered(examine(away, client)), "redis") is Level.FAIL
    await client.aclose()


@pytest.mark.parametrize("strict", [False, True])
def test_the_command_says_what_to_do_and_exits_with_one(settings, monkeypatch, tmp_path, capsys, strict):
    config = tmp_path / "settings.toml"
    config.write_text(f'state_dir = "{settings.state_dir}"\n[redis]\nurl = "{settings.redis.url}"\n')
    monkeypatch.setenv("PORTCULLIS_CONFIG", str(config))
    with pytest.raises(SystemExit) as ended:
        command(config, Target("http://127.0.0.1:1", None), strict=strict, drill=True, as_json=False)
    said_ = capsys.readouterr().out
    assert ended.value.code == 1
    assert "fail  appendonly" in said_ or "redis appendonly" in said_
    assert "→ set it to yes" in said_
    assert "warn  serve" in said_
    assert "fail  drill" in said_
