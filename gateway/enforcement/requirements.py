"""What a Redis must be like, or a receipt could lie: never forget what it acknowledged, never evict, tell no old news.

``inspect`` asks the server; what it cannot ask (managed services forbid ``CONFIG``) is said, not guessed.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from redis.exceptions import ResponseError

from gateway.enforcement.connection import Client

OLDEST = (6, 2)
"""LPOS, and ids of streams made by the caller inside of scripts. What the embedded wheel carries."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be. ``fatal``: a receipt could lie; else it is good to know."""

    what: str
    found: str
    advice: str
    fatal: bool

    def __str__(self) -> str:
        return f"{self.what} is {self.found}: {self.advice}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A setting of the server. ``holds`` gets its value, and all others."""

    setting: str
    holds: Callable[[str, Mapping[str, str]], bool]
    advice: str
    fatal: bool = True


REQUIREMENTS = (
    Requirement(
        "maxmemory-policy",
        lambda value, config: value == "noeviction" or config.get("maxmemory", "0") == "0",
        "set it to noeviction; what is evicted is a hold that is gone",
    ),
    Requirement(
        "appendonly",
        lambda value, _: value == "yes",
        "set it to yes; without it a restart forgets revisions that had a receipt",
    ),
    Requirement(
        "appendfsync",
        lambda value, config: value == "always" or config.get("appendonly") != "yes",
        "set it to always; otherwise the last second before a crash is lost",
    ),
    Requirement(
        "min-replicas-to-write",
        lambda value, config: int(value) >= 1 or config["replicas"] == "0",
        "with automatic failover set it to 1; a promoted replica may lack a commit (docs/enforcement.md)",
        fatal=False,
    ),
)
"""As the table in docs/enforcement.md."""


async def inspect(redis: Client) -> list[Finding]:
    """What of the server is not as it should be.

    Raises:
        RedisError, OSError: it does not answer.
    """
    info = await redis.info()
    version = str(info.get("valkey_version") or info.get("redis_version") or "0")
    findings = []
    if _numbers(version) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        findings.append(Finding("its version", version, f"at least {wanted} is needed", fatal=True))
    try:
        config = {str(name): str(value) for name, value in (await redis.config_get("*")).items()}
    except ResponseError:
        names = ", ".join(requirement.setting for requirement in REQUIREMENTS)
        advice = f"make sure of it yourself, by the provider's documentation: {names}"
        return [*findings, Finding("its configuration", "not to be read", advice, fatal=False)]
    config["replicas"] = str(info.get("connected_slaves", 0))
    return [*findings, *judged(config)]


def judged(config: Mapping[str, str]) -> list[Finding]:
    """What of a configuration is not as it should be; ``replicas`` in it is how many follow."""
    return [
        Finding(requirement.setting, config[requirement.setting], requirement.advice, requirement.fatal)
        for requirement in REQUIREMENTS
        if requirement.setting in config and not requirement.holds(config[requirement.setting], config)
    ]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
