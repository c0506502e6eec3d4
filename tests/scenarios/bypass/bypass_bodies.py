"""Rows 1 to 20 and 61 to 63: what can be wrong with a JSON body that names a model, at every operation of one."""

import gzip
import json
import zlib
from collections.abc import Iterator

from bypass_requests import DENIED, MALFORMED, SDK, UNKNOWN, UNREAD, Case, Target, request

DEEP = 100_000


def _escaped(key: str, at: int = 1) -> str:
    return f'"{key[:at]}\\u{ord(key[at]):04x}{key[at + 1 :]}"'


def _members(t: Target) -> Iterator[tuple[str, str, bytes, tuple[int, ...]]]:
    key, k, a = t.key, t.denied, t.allowed
    nk, na = t.named(k), t.named(a)

    yield "1", "K last", t.body(na, nk), MALFORMED
    yield "1", "K first", t.body(nk, na), MALFORMED
    yield "1", "the same twice", t.body(na, na), MALFORMED
    yield "1", "far apart", t.body(na, '"pad":"' + "x" * 50_000 + '"', nk), MALFORMED
    yield "1", "null second", t.body(na, f'"{key}":null'), MALFORMED

    for at in (0, 1, len(key) - 1):
        yield "2", f"letter {at} escaped", t.body(na, f"{_escaped(key, at)}:{json.dumps(k)}"), MALFORMED
    yield (
        "2",
        "all escaped, first",
        t.body('"' + "".join(f"\\u{ord(c):04X}" for c in key) + f'":{json.dumps(k)}', na),
        MALFORMED,
    )

    for other in (key.upper(), key.capitalize(), key[:-1] + key[-1].swapcase()):
        if other != key:
            yield "3", f"{other} beside", t.body(na, t.named(k, other)), MALFORMED
            yield "3", f"{other} before", t.body(t.named(k, other), na), MALFORMED
    yield "3", "alone in capitals", t.body(t.named(k, key.upper())), MALFORMED

    yield "4", "byte order mark", b"\xef\xbb\xbf" + t.body(nk), MALFORMED
    for coding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le"):
        yield "5", coding, t.body(nk).decode().encode(coding), MALFORMED
    for number in ("NaN", "Infinity", "-Infinity", "1e400", "-1e400", "01", "0x1", "+1"):
        yield "6", number, t.body(na, f'"n":{number}'), MALFORMED
    for name, tail in (
        ("document", t.body(nk)),
        ("line", b"\n" + t.body(nk)),
        ("NUL", b"\0"),
        ("word", b" x"),
        ("comma", b","),
    ):
        yield "7", f"{name} after it", t.body(na) + tail, MALFORMED
    for name, text in (
        ("overlong", b'"\xc1\x81"'), ("Latin-1", b'"\xe9"'), ("cut", b'"\xe2\x82"'), ("surrogate", b'"\xed\xa0\x80"'),
        ("lone escape", b'"\\ud800"'), ("low escape", b'"\\udc00x"'),
    ):  # fmt: skip
        yield "8", f"{name} in the name", b'{"%b":%b}' % (key.encode(), text), MALFORMED
        yield "8", f"{name} elsewhere", t.body(na).replace(b"}", b',"y":' + text + b"}"), MALFORMED
    yield "9", "lists", t.body(na, '"d":' + "[" * DEEP + "]" * DEEP), MALFORMED
    yield "9", "objects", b'{"d":' * DEEP + b"1" + b"}" * DEEP, MALFORMED
    yield "9", "never closed", b"[" * DEEP, MALFORMED
    for name, value in (
        ("a list", json.dumps([k])), ("an object", json.dumps({"name": k})), ("a number", "5"), ("null", "null"),
        ("empty", '""'), ("true", "true"), ("nested lists", json.dumps([[k]])),
    ):  # fmt: skip
        yield "10", name, t.body(f'"{key}":{value}'), MALFORMED
    if not t.path.endswith("/responses"):
        yield "11", "missing", t.body(), MALFORMED
        yield "11", "nested", t.body(f'"inner":{{{nk}}}'), MALFORMED
        yield "11", "another key", t.body(t.named(k, key + "s")), MALFORMED
    else:
        yield "11", "missing", t.body(), DENIED
        yield "11", "nested", t.body(f'"inner":{{{nk}}}'), DENIED
    for name, spelt in (
        ("blank before", f" {k}"), ("line feed after", f"{k}\n"), ("tab", f"{k}\t"), ("NUL", f"{k}\0"),
        ("zero width", f"{k}\u200b"), ("joiner", f"{k[:3]}\u200d{k[3:]}"), ("soft hyphen", f"{k[:3]}\u00ad{k[3:]}"),
        ("mark", f"\ufeff{k}"), ("direction", f"\u202e{k}"), ("comma", f"{a},{k}"), ("percent", k.replace("-", "%2D")),
    ):  # fmt: skip
        yield "12", name, t.body(t.named(spelt)), MALFORMED
    yield "13", "capitals", t.body(t.named(k.upper())), DENIED
    yield "13", "title case", t.body(t.named(k.title())), DENIED
    yield "13", "suffix", t.body(t.named(f"{k}[1m]")), DENIED
    yield "13", "capitals and suffix", t.body(t.named(f"{k.upper()}[2m]")), DENIED
    for name, spelt in (
        ("Cyrillic", k.replace("e", "\u0435").replace("a", "\u0430").replace("p", "\u0440")), ("full width", k.replace("-", "\uff0d")),
        ("hyphen", k.replace("-", "\u2010")), ("mathematical", "\U0001d5c0" + k[1:]), ("dotless", k.replace("i", "\u0131") + "\u0131"),
    ):  # fmt: skip
        yield "14", name, t.body(t.named(spelt)), MALFORMED
    for name in ("nobody-7", "zzz", "model-that-is-not", "a"):
        yield "15", name, t.body(t.named(name)), UNKNOWN
    bare = k.removeprefix("models/")
    for edition in ("-20991231", "-latest", "-2099-12-31", "-0", "-preview", "-001", "@20991231"):
        yield "16", edition, t.body(t.named(k + edition)), DENIED
    for prefix in ("anthropic/", "openai/", "models/", "publishers/x/models/", "openrouter/x/", "tunedModels/"):
        yield "17", prefix, t.body(t.named(prefix + bare)), DENIED
    for made in (
        f"ft:{bare}:acme::1",
        f"ft:{bare}:acme:n:1:ckpt-step-9",
        f"FT:{bare.upper()}:acme::1",
        f"ft:{bare}-20991231:acme::1",
    ):
        yield "18", made[:12], t.body(t.named(made)), DENIED
    yield "69", "K behind a long prefix", ('{"pad":"' + "x" * 900_000 + f'",{nk}}}').encode(), DENIED
    yield "69", "over the limit", ('{"pad":"' + "x" * 1_100_000 + f'",{nk}}}').encode(), (413,)
    yield "2", "an escaped name is a name", t.body(f'"{key}":"\\u{ord(k[0]):04x}{k[1:]}"'), DENIED


def _kinds(t: Target) -> Iterator[tuple[str, str, bytes, tuple[int, ...]]]:
    body = t.body(t.named(t.denied))

    def sent(data: bytes, *headers: str, kind: str | None = "application/json") -> bytes:
        return request(t.provider, t.path, data, *headers, kind=kind)

    for kind in (
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        "text/json",
        "application/jsonp",
        "multipart/form-data; boundary=x",
        "application/json, text/plain",
        "application/x-ndjson",
        None,
    ):
        yield "61", str(kind), sent(body, kind=kind), UNREAD
    yield "61", "two", sent(body, "Content-Type: text/plain"), UNREAD
    yield "61", "two alike", sent(body, "Content-Type: application/json"), UNREAD
    for charset in ("utf-16", "latin-1", "utf-7", "utf-8; charset=utf-16", "UTF8"):
        yield "5", f"charset {charset}", sent(body, kind=f"application/json; charset={charset}"), UNREAD
    packed, flat = gzip.compress(body), zlib.compress(body)
    yield "62", "gzip around K", sent(packed, "Content-Encoding: gzip"), DENIED
    yield "62", "deflate around K", sent(flat, "Content-Encoding: deflate"), DENIED
    yield "62", "GZIP in capitals", sent(packed, "Content-Encoding: GZIP"), DENIED
    for coding in ("gzip, gzip", "x-gzip", "br", "zstd", "compress", "gzip, identity", "aws-chunked", "snappy"):
        yield "63", coding, sent(packed, f"Content-Encoding: {coding}"), UNREAD
    yield "63", "two headers", sent(packed, "Content-Encoding: gzip", "Content-Encoding: gzip"), UNREAD
    for name, data, coding in (
        ("two members", packed + packed, "gzip"), ("bytes after the end", packed + b"x", "gzip"), ("cut", packed[:-5], "gzip"),
        ("wrong sum", packed[:-8] + bytes(8), "gzip"), ("twice packed", gzip.compress(packed), "gzip"), ("not packed", body, "gzip"),
        ("bare deflate", zlib.compress(body, wbits=-15), "deflate"), ("gzip as deflate", packed, "deflate"), ("empty", b"", "gzip"),
    ):  # fmt: skip
        yield "63", name, sent(data, f"Content-Encoding: {coding}"), MALFORMED
    yield "63", "bomb", sent(gzip.compress(b'{"x":"' + b"a" * 40_000_000 + b'"}', 1), "Content-Encoding: gzip"), (413,)


def cases() -> Iterator[Case]:
    """All of them, at each operation."""
    for target in SDK:
        where = f"{target.provider} {target.path}"
        for row, name, body, statuses in _members(target):
            yield Case(row, f"{where}: {name}", target.provider, request(target.provider, target.path, body), statuses)
        for row, name, data, statuses in _kinds(target):
            yield Case(row, f"{where}: {name}", target.provider, data, statuses)
