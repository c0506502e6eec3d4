"""Which gateway, and with which token: from the environment or from a profile. A token is never an argument.

A profile gives both or nothing, so that no token goes to another gateway than its own.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.cli.exits import Exit, Failure

DEFAULT_URL = "http://127.0.0.1:8081"


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway's admin API, and who we are there."""

    url: str
    token: str | None = field(repr=False)


def find(profile: str | None) -> Target:
    """The gateway to talk to: the profile that is named, else PORTCULLIS_PROFILE's, else the environment's.

    Raises:
        Failure: the profile is not there, or not complete.
    """
    name = profile or os.environ.get("PORTCULLIS_PROFILE")
    if name:
        return _from_profile(name, profiles_file())
    url = os.environ.get("PORTCULLIS_URL") or DEFAULT_URL
    return Target(url, os.environ.get("PORTCULLIS_TOKEN") or None)


def profiles_file() -> Path:
    """Where profiles are."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "portcullis" / "config.toml"


def _from_profile(name: str, file: Path) -> Target:
    import tomllib  # noqa: PLC0415 - most calls use the environment

    try:
        profiles = tomllib.loads(file.read_text(encoding="utf-8")).get("profiles", {})
    except OSError as error:
        raise Failure(Exit.USAGE, f"profile {name}: {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Failure(Exit.USAGE, f"{file}: {error}") from None
    if name not in profiles:
        raise Failure(Exit.USAGE, f"{file} has no [profiles.{name}]; it has {', '.join(profiles) or 'none'}")
    profile = profiles[name]
    unknown = set(profile) - {"url", "token_file", "token_env"}
    if unknown or "url" not in profile:
        raise Failure(Exit.USAGE, f"profile {name}: url, and token_file or token_env, and nothing else")
    return Target(profile["url"], _token(name, profile))


def _token(name: str, profile: dict[str, Any]) -> str | None:
    match profile:
        case {"token_file": str(file)}:
            try:
                return Path(file).expanduser().read_text(encoding="utf-8").strip() or None
            except OSError as error:
                raise Failure(Exit.USAGE, f"profile {name}: {file}: {error.strerror}") from None
        case {"token_env": str(variable)}:
            return os.environ.get(variable) or None
        case _:
            raise Failure(Exit.USAGE, f"profile {name}: say token_file or token_env")
