"""TLS between a transport and a protocol: what the one brings is decrypted for the other, and the other way round.

Why not the loop's own: it keeps ciphertext in a buffer that nobody outside can see, so "nothing is buffered" could
not be told; it reads 256 KiB ahead of a protocol that has paused; it starts a timer for each close; and it takes a
connection that was cut for one that ended. Here ciphertext is in the transport below and nowhere else, and closing,
resetting and back-pressure mean what they mean without TLS.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Any, Self, cast

READ_BYTES = 32 * 1024
"""The most that one read brings: two full TLS records."""

_CIPHERTEXT = memoryview(bytearray(READ_BYTES))
_PLAINTEXT = memoryview(bytearray(READ_BYTES))
"""Where reads go, of all connections: both are copied on before the next read."""

Handshaken = Callable[[OSError | None], None]
"""Called once: the handshake is done, or why it is not."""


class TlsTransport(asyncio.Transport, asyncio.BufferedProtocol):
    """A protocol to the transport below, a transport to the protocol above.

    The protocol above is told of the connection when it is made, before the handshake: its limits and deadlines hold
    for clients that never finish one. What it writes before the end of the handshake is dropped: nobody could read it.
    """

    def __init__(
        self,
        above: object,
        context: ssl.SSLContext,
        handshaken: Handshaken,
        *,
        server_side: bool = False,
        server_name: str | None = None,
    ) -> None:
        super().__init__()
        self._above: Any = above
        self._buffered = hasattr(above, "get_buffer")
        self._handshaken = handshaken
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name)
        self._client_side = not server_side
        self._handshaking = True
        self._reading = True
        self._ended = False  # the peer has said that it sends nothing more
        self._closing = False
        self._below = cast("asyncio.Transport", None)  # until connection_made

    @classmethod
    def serve(cls, above: object, context: ssl.SSLContext, handshaken: Handshaken) -> Self:
        """TLS on a connection that has been accepted."""
        return cls(above, context, handshaken, server_side=True)

    # ------------------------------------------------------------------ a protocol, to what is below

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: a client speaks first."""
        self._below = cast("asyncio.Transport", transport)
        self._above.connection_made(self)
        if self._client_side:
            self._advance()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where ciphertext goes."""
        del sizehint
        return _CIPHERTEXT

    def buffer_updated(self, nbytes: int) -> None:
        """Ciphertext has come."""
        self._incoming.write(_CIPHERTEXT[:nbytes])
        self._advance()

    def eof_received(self) -> bool:
        """An end below, without one that was signed: whatever was being sent is incomplete."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Closed, by whomever."""
        self._closing = True
        if self._handshaking:
            self._handshake_over(ConnectionResetError("the connection ended before the handshake did"))
        self._above.connection_lost(error)

    def pause_writing(self) -> None:
        """What is below takes nothing more for now."""
        self._above.pause_writing()

    def resume_writing(self) -> None:
        """It takes more."""
        self._above.resume_writing()

    # ------------------------------------------------------------------ the engine

    def _advance(self) -> None:
        """The handshake as far as it goes, then data as far as there is any and it is wanted."""
        try:
            if self._handshaking:
                self._tls.do_handshake()
                self._flush()
                self._handshake_over(None)
            self._read()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._fail(error)

    def _handshake_over(self, error: OSError | None) -> None:
        self._handshaking = False
        self._handshaken(error)

    def _read(self) -> None:
        while self._reading and not self._closing and self._has_ciphertext():
            buffer = self._above.get_buffer(-1) if self._buffered else _PLAINTEXT
            size = self._decrypt(buffer)
            if size and self._buffered:
                self._above.buffer_updated(size)
            elif size:
                self._above.data_received(bytes(buffer[:size]))
            if self._ended:
                self._end()
                return
            if not size:
                break
        self._flush()  # answers of TLS itself, e.g. to a new key

    def _has_ciphertext(self) -> bool:
        return bool(self._incoming.pending or self._tls.pending())

    def _decrypt(self, buffer: memoryview) -> int:
        """Fill the buffer from as many records as have come; how much it is."""
        size = 0
        while size < len(buffer) and self._has_ciphertext():
            try:
                got = cast("int", self._tls.read(len(buffer) - size, cast("bytearray", buffer[size:])))
            except ssl.SSLWantReadError:
                break
            if not got:
                self._ended = True
                break
            size += got
        return size

    def _end(self) -> None:
        """The peer has said that it sends nothing more."""
        self._reading = False
        if not self._closing and not self._above.eof_received():
            self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        """What came is not TLS, or not from whom it should be. The peer gets the alert, where there is one."""
        if not self._handshaking:
            self.abort()
            return
        self._closing = True
        self._flush()
        self._handshake_over(error)
        self._below.close()

    def _flush(self) -> None:
        if self._outgoing.pending and not self._below.is_closing():
            self._below.write(self._outgoing.read())

    # ------------------------------------------------------------------ a transport, to what is above

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        if self._handshaking or self._closing:
            return
        rest = memoryview(data)
        while rest:
            written = self._tls.write(rest)
            rest = rest[written:]
        self._flush()

    def can_write_eof(self) -> bool:
        """Whether ``write_eof`` can be used: TLS says it itself."""
        return True

    def write_eof(self) -> None:
        """Say that nothing more is sent; reading goes on."""
        self._say_end()
        self._below.write_eof()

    def _say_end(self) -> None:
        if not self._handshaking:
            with contextlib.suppress(ssl.SSLError):  # it wants the peer's answer, for which nobody waits
                self._tls.unwrap()
            self._flush()

    def close(self) -> None:
        """Close after what is written has left."""
        if not self._closing:
            self._closing = True
            self._say_end()
            self._below.close()

    def abort(self) -> None:
        """Close at once; what is buffered is thrown away."""
        self._closing = True
        self._below.abort()

    def is_closing(self) -> bool:
        """Whether it closes, or is closed."""
        return self._closing or self._below.is_closing()

    def pause_reading(self) -> None:
        """Bring nothing more for now."""
        self._reading = False
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Bring more: first what has been decrypted, or read, already."""
        self._reading = not self._ended
        if self._has_ciphertext():
            asyncio.get_running_loop().call_soon(self._advance)
        self._below.resume_reading()

    def get_write_buffer_size(self) -> int:
        """Bytes of ciphertext that have not left the process."""
        return self._below.get_write_buffer_size()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When to pause and resume what is above, in bytes of ciphertext."""
        self._below.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known of the connection; ``ssl_object`` is TLS's."""
        return self._tls if name == "ssl_object" else self._below.get_extra_info(name, default)
