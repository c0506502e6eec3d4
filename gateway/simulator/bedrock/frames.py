"""Messages of an event stream: prelude, headers, payload, a CRC-32 of each of both (botocore ``eventstream.py``)."""

from zlib import crc32

import orjson

from gateway.simulator.dialect import Json

EVENT_STREAM_TYPE = "application/vnd.amazon.eventstream"
_STRING = b"\x07"


def event(kind: str, document: Json) -> bytes:
    """One event with a JSON payload."""
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    head = b"".join(_short(name) + _STRING + _long(value) for name, value in headers.items())
    payload = orjson.dumps(document)
    prelude = _number(len(head) + len(payload) + 16) + _number(len(head))
    message = prelude + _number(crc32(prelude)) + head + payload
    return message + _number(crc32(message))


def _number(value: int) -> bytes:
    return value.to_bytes(4, "big")


def _short(text: str) -> bytes:
    return bytes((len(text),)) + text.encode()


def _long(text: str) -> bytes:
    return len(text).to_bytes(2, "big") + text.encode()
