"""Seeded mutations of HTTP/1.1 messages: heads, framing, chunking, and where one write ends and the next begins."""

import itertools
import random
import re

BYTES = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\0",
    b"\t",
    b" ",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x85",
    b"\xa0",
    b"\xff",
    b":",
    b",",
    b";",
    b"0",
]
FRAMING = [
    b"Content-Length: 0", b"Content-Length: 5", b"Content-Length: 19", b"Content-Length: +19", b"Content-Length: 19, 19",
    b"Content-Length : 5", b"content-length:\t19", b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding:\x0bchunked", b"Transfer_Encoding: chunked",
    b"transfer-encoding: CHUNKED ", b"X: y\nTransfer-Encoding: chunked", b"X: y\r\n Transfer-Encoding: chunked",
    b"Connection: close", b"Connection: keep-alive, content-length", b"Connection: Upgrade", b"Upgrade: h2c",
    b"Expect: 100-continue", b"Host: evil", b"X: y", b"Trailer: x", b"TE: trailers",
]  # fmt: skip
SIZES = [
    b"0",
    b"00",
    b"1",
    b"2",
    b"13",
    b"0013",
    b"14",
    b"fffffff",
    b"10000000000000013",
    b"13;x=y",
    b'13;x="\r\n"',
    b"13 ",
    b" 13",
    b"+13",
    b"0x13",
]
SMUGGLED = [
    b"GET /openai/v1/models/gpt-9 HTTP/1.1\r\nHost: evil\r\n\r\n", b"0\r\n\r\nGET /openai/v1/models/gpt-9 HTTP/1.1\r\nX: ",
    b"0\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b"\r\n\r\n", b"5\r\n12345\r\n",
]  # fmt: skip


def _insert_byte(message: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(message) + 1)
    return message[:at] + pick.choice(BYTES) + message[at:]


def _delete_bytes(message: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(message) + 1)
    return message[:at] + message[at + pick.randint(1, 3) :]


def _replace_byte(message: bytes, pick: random.Random) -> bytes:
    at = pick.randrange(len(message) + 1)
    return message[:at] + pick.choice(BYTES) + message[at + 1 :]


def _line_end(message: bytes, pick: random.Random) -> bytes:
    ends = [found.start() for found in re.finditer(b"\r\n", message)]
    if not ends:
        return message
    at = pick.choice(ends)
    return (
        message[:at]
        + pick.choice([b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"\r\n\r\n", b"\r\n ", b"\r\n\t", b" \r\n"])
        + message[at + 2 :]
    )


def _line(message: bytes, pick: random.Random) -> bytes:
    lines = message.split(b"\r\n")
    at = pick.randrange(len(lines))
    match pick.randrange(4):
        case 0:
            lines.insert(at, lines[at])
        case 1:
            other = pick.randrange(len(lines))
            lines[at], lines[other] = lines[other], lines[at]
        case 2:
            lines.insert(max(at, 1), pick.choice(FRAMING))
        case _:
            del lines[at]
    return b"\r\n".join(lines)


def _framing(message: bytes, pick: random.Random) -> bytes:
    at = message.find(b"\r\n")
    return message[: at + 2] + pick.choice(FRAMING) + b"\r\n" + message[at + 2 :] if at >= 0 else message


def _number(message: bytes, pick: random.Random) -> bytes:
    numbers = list(re.finditer(rb"[0-9a-fA-F]+(?=\r\n)", message))
    if not numbers:
        return message
    found = pick.choice(numbers)
    return message[: found.start()] + pick.choice(SIZES) + message[found.end() :]


def _smuggle(message: bytes, pick: random.Random) -> bytes:
    at = pick.choice([len(message), message.find(b"\r\n\r\n") + 4, pick.randrange(len(message) + 1)])
    return message[:at] + pick.choice(SMUGGLED) + message[at:]


MUTATIONS = [_insert_byte, _delete_bytes, _replace_byte, _line_end, _line, _framing, _number, _smuggle]


def mutated(message: bytes, pick: random.Random) -> bytes:
    """A few mutations; sometimes none."""
    for _ in range(pick.choice([0, 1, 1, 1, 2, 2, 3])):
        message = pick.choice(MUTATIONS)(message, pick)
    return message


def in_pieces(message: bytes, pick: random.Random) -> tuple[bytes, ...]:
    """Cut at up to three places, more often near a line's end."""
    ends = [found.start() + pick.randint(0, 2) for found in re.finditer(b"\r\n", message)] or [0]
    cuts = {
        pick.choice([pick.choice(ends), pick.randrange(len(message) + 1)]) for _ in range(pick.choice([0, 0, 1, 2, 3]))
    }
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(message)), len(message)]
    return tuple(message[begin:end] for begin, end in itertools.pairwise(edges))
