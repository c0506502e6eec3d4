"""Content-Encoding of requests: a bounded copy is decoded and read, the original goes on.

One gzip or deflate, named so, of one member, with nothing after its end. Servers differ on all the rest.
"""

import zlib

from gateway.dialects.selectors import LIGHT_BYTES, HeavyBodyError, MalformedBodyError, Reader, Reading

_WINDOW = {"gzip": 31, "deflate": 15}
"""zlib's ``wbits``: RFC 1952; RFC 1950 (what HTTP calls deflate; a bare RFC 1951 stream is refused)."""

CODINGS = tuple(_WINDOW)


class Decoded:
    """Reads what a body decodes to, by another reader. ``limit`` is how many bytes that may be."""

    def __init__(self, reader: Reader, coding: str, limit: int) -> None:
        self.reader = reader
        self.coding = coding
        self.limit = limit

    def read_light(self, body: bytes) -> Reading:
        """As the other reader's, if the decoding is done in a moment, too."""
        if len(body) > LIGHT_BYTES:
            raise HeavyBodyError
        decoded = decode(body, self.coding, min(self.limit, LIGHT_BYTES))
        if decoded is not None:
            return self.reader.read_light(decoded)
        if self.limit <= LIGHT_BYTES:
            raise _too_large(self.limit)
        raise HeavyBodyError

    def read(self, body: bytes) -> Reading:
        """As the other reader's.

        Raises:
            MalformedBodyError: it is not encoded as it should be; 413 where it would be too large.
        """
        decoded = decode(body, self.coding, self.limit)
        if decoded is None:
            raise _too_large(self.limit)
        return self.reader.read(decoded)


def _too_large(limit: int) -> MalformedBodyError:
    return MalformedBodyError(f"The body decodes to more than {limit} bytes.", 413)


def decode(body: bytes, coding: str, limit: int) -> bytes | None:
    """What a body is without its coding; ``None`` where that is more than ``limit`` bytes.

    Raises:
        MalformedBodyError: it is broken, ends early, or something follows its end.
    """
    inflater = zlib.decompressobj(wbits=_WINDOW[coding])
    try:
        decoded = inflater.decompress(body, limit + 1)
    except zlib.error:
        raise MalformedBodyError(f"The body is not valid {coding}.") from None
    if len(decoded) > limit:
        return None
    if not inflater.eof or inflater.unused_data or inflater.unconsumed_tail:
        raise MalformedBodyError(f"The body must be one whole {coding} stream and nothing else.")
    return decoded
