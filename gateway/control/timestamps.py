"""A timestamp authority's word that a head was there at a time (RFC 3161): how it is asked, and what it answers."""

import secrets

_SEQUENCE, _INTEGER, _OCTETS = 0x30, 0x02, 0x04
_SHA256 = bytes.fromhex("300d06096086480165030402010500")
"""AlgorithmIdentifier of SHA-256, without parameters (RFC 5754)."""
_TRUE = bytes.fromhex("0101ff")
_GRANTED = (0, 1)
"""PKIStatus: granted, grantedWithMods."""

QUERY, REPLY = "application/timestamp-query", "application/timestamp-reply"


class RefusedError(Exception):
    """The authority did not stamp it. The message says what it answered."""


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes((size,)) if size < 0x80 else bytes((0x81, size)) if size < 0x100 else b"\x82" + size.to_bytes(2)
    return bytes((tag,)) + length + content


def query(digest: str, nonce: int) -> bytes:
    """TimeStampReq: stamp this SHA-256, and send your certificate along."""
    imprint = _der(_SEQUENCE, _SHA256 + _der(_OCTETS, bytes.fromhex(digest)))
    return _der(_SEQUENCE, _der(_INTEGER, b"\x01") + imprint + _integer(nonce) + _TRUE)


def new_nonce() -> int:
    """A number that an older answer cannot have."""
    return secrets.randbits(63)


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def check(answer: bytes, digest: str, nonce: int) -> None:
    """Make sure that an answer is a stamp of what was asked. Its signature is verified by whoever verifies: openssl.

    Raises:
        RefusedError: it is none.
    """
    status = answer.find(b"\x02\x01", 2, 16)
    if not answer.startswith(b"\x30") or status < 0:
        raise RefusedError("the answer is no TimeStampResp")
    if answer[status + 2] not in _GRANTED:
        raise RefusedError(f"the authority answered with status {answer[status + 2]}")
    if bytes.fromhex(digest) not in answer or _integer(nonce) not in answer:
        raise RefusedError("the stamp is of something else")
