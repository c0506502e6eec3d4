"""What logs may say of a caller: a name that only who has the key can connect to it (HMAC, RFC 2104)."""

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from gateway.settings import Settings

KEY_BYTES = 32
DIGITS = 16


def pseudonym(settings: Settings, caller_id: str) -> str:
    """A caller's pseudonym, 16 hexadecimal digits; the key is made at its first use.

    Raises:
        ValueError: the key file is damaged.
    """
    key = _key(settings.state_dir / "pseudonym.key")
    return hmac.digest(key, caller_id.encode(), "sha256").hex()[:DIGITS]


def _key(path: Path) -> bytes:
    with contextlib.suppress(FileExistsError):
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise ValueError(f"{path} must hold {KEY_BYTES} bytes")
    return key
