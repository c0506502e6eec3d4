"""Gateway API keys and operators' tokens: made once, shown once, stored as SHA-256.

They carry 256 random bits, so that a fast hash is enough (NIST SP 800-63B, 5.1.2.2 asks for slow ones below 112).
"""

import secrets
from hashlib import sha256

MAX_CREDENTIAL = 8192
"""Characters. Longer ones are refused unread. Tokens with many claims exceed 4 KiB, and 8 KiB is what nginx and
Apache take as one header."""


def new_key(prefix: str) -> tuple[str, str]:
    """A key's public id, and the key itself: ``<prefix>_<id>_<secret>``."""
    key_id = secrets.token_hex(6)
    return key_id, f"{prefix}_{key_id}_{secrets.token_urlsafe(32)}"


def fingerprint(key: str) -> str:
    """What is stored of a key: its SHA-256 in hexadecimal."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
