"""Redis as the gateway needs it: primary, durable, its clock near ours, and users that may do only what they must."""

import time
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from gateway.doctor.findings import Finding, fail, ok, warn
from gateway.enforcement.connection import Client
from gateway.enforcement.keys import Keys
from gateway.enforcement.requirements import inspect
from gateway.settings import Settings

SKEW_WARN, SKEW_FAIL = 2.0, 30.0
"""Seconds. A lease counts by one clock only, but tokens expire and windows begin by the machine's."""

FULL = 0.8


async def redis(settings: Settings, control: Client, replica: Client) -> AsyncIterator[Finding]:
    """All looks at the server, with the clients of both sides."""
    try:
        info = await control.info()
    except (RedisError, OSError) as error:
        yield fail("redis", f"{type(error).__name__}: {error}", "start it, or correct redis.url and its credentials")
        return
    version = info.get("valkey_version") or info.get("redis_version")
    yield ok("redis", f"version {version}, primary, {info.get('connected_slaves', 0)} replicas")
    yield transport(settings)
    found = await inspect(control)
    for one in found:
        yield (fail if one.fatal else warn)(f"redis {one.what}", one.found, one.advice)
    if not found:
        yield ok("redis settings", "noeviction, appendonly, appendfsync always")
    for finding in (health(info), await clock(control), await policy(settings, control)):
        yield finding
    if settings.redis.url == "embedded":
        yield ok("redis users", "none: a private server, on a socket of our own")
        return
    async for finding in rights(settings, control, replica):
        yield finding


def transport(settings: Settings) -> Finding:
    """The way to it."""
    parts = urlsplit(settings.redis.url)
    local = parts.scheme in ("", "unix") or parts.hostname in ("localhost", "127.0.0.1", "::1")
    if local or parts.scheme in ("rediss", "sentinels"):
        return ok("redis.url", parts.scheme or settings.redis.url)
    return warn(
        "redis.url", f"{parts.scheme}:// to another machine, in clear", "rediss:// (or sentinels://), redis.ca_file"
    )


def health(info: dict[str, object]) -> Finding:
    """Whether it can still write what it promises to keep."""
    if info.get("aof_last_write_status", "ok") != "ok" or info.get("rdb_last_bgsave_status", "ok") != "ok":
        return fail(
            "redis disk", "its last write failed", "look at its log and its disk: commits are refused meanwhile"
        )
    used, most = int(str(info.get("used_memory", 0))), int(str(info.get("maxmemory", 0)))
    if most and used > FULL * most:
        return warn("redis memory", f"{used / most:.0%} of maxmemory", "raise it: full, it refuses every change")
    return ok("redis memory", f"{used // 2**20} MiB" + (f" of {most // 2**20}" if most else ""))


async def clock(control: Client) -> Finding:
    """How far its clock is from ours, but for half of the way there and back."""
    began = time.time()
    seconds, micros = await control.time()
    ended = time.time()
    skew = seconds + micros / 1e6 - (began + ended) / 2
    found = f"{skew:+.3f} s from Redis' (way there and back {(ended - began) * 1000:.1f} ms)"
    if abs(skew) > SKEW_FAIL:
        return fail("clock", found, "run NTP on both: tokens are refused, windows begin at the wrong time")
    if abs(skew) > SKEW_WARN:
        return warn("clock", found, "run NTP on both")
    return ok("clock", found)


async def policy(settings: Settings, control: Client) -> Finding:
    """Whether there is a policy of ours."""
    rev = await control.hget(Keys(settings.redis.prefix).cur, "rev")
    if rev is None:
        return fail(
            "policy", f"none under {settings.redis.prefix}", "portcullis init (or policy restore, after a loss)"
        )
    return ok("policy", f"revision {int(rev)} under {settings.redis.prefix}")


async def rights(settings: Settings, control: Client, replica: Client) -> AsyncIterator[Finding]:
    """Whether our users may do what they must not. Nothing is tried that could change anything."""
    advice = "give it the rights in docs/enforcement.md (ACL): whoever gets at it could stop or empty this Redis"
    if await _may(control, "ACL", "LIST"):
        yield warn("redis.username", "may administer the server", advice)
    else:
        yield ok("redis.username", "may not administer the server")
    if settings.redis.replica_username is None:
        yield warn(
            "redis.replica_username", "workers use the control process' user", "a user of their own, which reads"
        )
        return
    cur = Keys(settings.redis.prefix).cur
    try:
        await replica.hgetall(cur)
    except (RedisError, OSError) as error:
        yield fail("redis.replica_username", f"cannot read {cur}: {error}", "give it the rights in docs/enforcement.md")
        return
    wide = [
        said
        for said, command in (
            ("administer", ("ACL", "LIST")),
            ("read settings", ("CONFIG", "GET", "maxmemory")),
            ("read other keys", ("GET", "portcullis-doctor")),
        )
        if await _may(replica, *command)
    ]
    if wide:
        yield warn("redis.replica_username", f"may {', '.join(wide)}", advice)
    else:
        yield ok("redis.replica_username", "reads the policy, and nothing else of these")


async def _may(client: Client, *command: str) -> bool:
    """Whether a user may run a command that reads."""
    try:
        await client.execute_command(*command)
    except NoPermissionError:
        return False
    except ResponseError:  # a managed service that has no such command
        return False
    return True
