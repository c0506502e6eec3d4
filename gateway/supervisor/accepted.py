"""The settings that every worker starts with: the file's text as it was accepted, not as it is by then.

An editor that is half through, or a mistake, must not reach a worker that restarts for a reason of its own.
"""

import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.settings import Settings, SettingsError, load

FIXED = ("gateway", "state_dir", "proxy.listen", "proxy.workers", "admin", "redis", "signing")
"""What the control process itself stands on: a change of these needs ``portcullis serve`` anew."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """Settings, and the text of the file that they come from; empty without a file.

    ``voucher``: the key that workers vouch for themselves with.
    """

    settings: Settings
    text: bytes
    voucher: bytes = b""


def taken(settings: Settings, voucher: bytes = b"") -> Accepted:
    """What the gateway is started with."""
    return Accepted(settings, _text(), voucher)


def accept(current: Settings, voucher: bytes = b"") -> Accepted:
    """Read the settings anew, for workers that are to be started.

    Raises:
        SettingsError: they cannot be used, or they change what only a start can change.
    """
    before = _text()
    found = load()
    for provider in found.providers.values():
        provider.key()
        provider.egress_proxy()
        if provider.aws is not None:
            provider.aws.keys()
    text = _text()
    if text != before:
        raise SettingsError("the settings file changed while it was read: try again")
    changed = [name for name in FIXED if _value(found, name) != _value(current, name)]
    if changed:
        raise SettingsError(f"{', '.join(changed)}: need `portcullis serve` to be stopped and started")
    return Accepted(found, text, voucher)


def _text() -> bytes:
    path = os.environ.get("PORTCULLIS_CONFIG")
    try:
        return Path(path).read_bytes() if path else b""
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}") from None


def _value(settings: Settings, name: str) -> Any:
    value: Any = settings
    for part in name.split("."):
        value = getattr(value, part)
    return value


def file_of(text: bytes) -> int:
    """A descriptor of a file that has no name, with the text in it."""
    if sys.platform == "linux":
        descriptor = os.memfd_create("portcullis-settings")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.write(descriptor, text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
