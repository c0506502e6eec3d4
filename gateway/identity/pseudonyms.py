"""What logs may say of a caller: a name that only who has the key can connect to it (HMAC, RFC 2104)."""

import contextlib
import hmac
import os
import secrets
from functools import cached_property
from pathlib import Path

DIGESTS = "digests of records"
"""What the key of the evidence's digests is derived for."""

KEY_BYTES = 32
DIGITS = 16


class Pseudonyms:
    """Pseudonyms under the key in one file. The file is made at the first use; then the key stays in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def of(self, caller_id: str) -> str:
        """A caller's pseudonym, 16 hexadecimal digits.

        Raises:
            ValueError: the key file is damaged.
        """
        return hmac.digest(self._key, caller_id.encode(), "sha256").hex()[:DIGITS]

    def key_for(self, purpose: str) -> bytes:
        """A key of its own for another purpose, from the same file.

        Raises:
            ValueError: the key file is damaged.
        """
        return hmac.digest(self._key, b"portcullis\0" + purpose.encode(), "sha256")

    @cached_property
    def _key(self) -> bytes:
        if not self._path.exists():
            self._make()
        key = self._path.read_bytes()
        if len(key) != KEY_BYTES:
            raise ValueError(f"{self._path} must hold {KEY_BYTES} bytes")
        return key

    def _make(self) -> None:
        """Write a key whole and then give it its name: of several processes that start at once, one wins."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        draft = self._path.with_name(f"{self._path.name}.{secrets.token_hex(8)}")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        try:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self._path)
        finally:
            draft.unlink()
