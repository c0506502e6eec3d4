"""Every kind of bad input gets its status, and nothing of it is sent upstream."""

import asyncio
import json

import pytest
from raw import request, send
from system import new_system

GOOD = {"model": "gpt-5.4", "messages": [{"role": "user", "content": "Hi"}]}
PATH = "/openai/v1/chat/completions"
AUTH = {"Authorization": "Bearer demo-alice", "Connection": "close"}


@pytest.fixture(scope="module")
def module_system():
    system = new_system(
        PORTCULLIS_PROXY__LIMITS__BODY_BYTES=str(1024 * 1024),
        PORTCULLIS_PROXY__TIMEOUTS__HEAD="0.6",
        PORTCULLIS_PROXY__TIMEOUTS__BODY="0.6",
    )
    try:
        yield system.start()
    finally:
        system.stop()


def post(body=GOOD, path: str = PATH, drop: tuple[str, ...] = (), **headers: str) -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return request(path, data, {k: v for k, v in {**AUTH, **named}.items() if k not in drop})


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer demo-alice\r\nConnection: close\r\nContent-Type: application/json\r\n"
    body = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks)
    return head.encode() + b"Transfer-Encoding: chunked\r\n\r\n" + body + end


def with_head(
    extra: str, body: bytes = b"{}", line: str = f"POST {PATH} HTTP/1.1", host: str = "Host: gateway\r\n"
) -> bytes:
    return (
        f"{line}\r\n{host}Authorization: Bearer demo-alice\r\nContent-Type: application/json\r\n{extra}\r\n".encode()
        + body
    )


BIG = b'{"model":"gpt-5.4","x":"' + b"a" * (1024 * 1024) + b'"}'

CASES: dict[str, tuple[bytes, int, str]] = {
    "no credential": (post(drop=("Authorization",)), 401, "unauthenticated"),
    "wrong credential": (post(Authorization="Bearer demo-nobody"), 401, "unauthenticated"),
    "credential of the wrong scheme": (post(Authorization="Basic ZGVtbzpkZW1v"), 401, "unauthenticated"),
    "two different credentials": (post(Portcullis_Key="demo-bob"), 401, "unauthenticated"),
    "an endless credential": (post(Authorization="Bearer " + "x" * 5000), 401, "unauthenticated"),
    "unknown provider": (post(path="/nobody/v1/chat/completions"), 404, "operation_not_listed"),
    "unknown operation": (post(path="/openai/v1/organization/users"), 404, "operation_not_listed"),
    "other method": (post().replace(b"POST", b"PUT", 1), 404, "operation_not_listed"),
    "trailing slash": (post(path=PATH + "/"), 404, "operation_not_listed"),
    "other case in the path": (post(path="/openai/v1/Chat/completions"), 404, "operation_not_listed"),
    "encoded letter in the path": (post(path="/openai/v1/chat/%63ompletions"), 400, "malformed"),
    "dot segments": (post(path="/openai/v1/x/../chat/completions"), 400, "malformed"),
    "double slash": (post(path="/openai//v1/chat/completions"), 400, "malformed"),
    "path parameters": (post(path=PATH + ";x=1"), 400, "malformed"),
    "model in the query": (post(path=PATH + "?model=gpt-5.4"), 400, "malformed"),
    "encoded slash": (post(path="/openai/v1%2fchat/completions"), 400, "malformed"),
    "encoded name in the query": (post(path=PATH + "?%6dodel=gpt-5.4"), 400, "malformed"),
    "fragment": (post(path=PATH + "#x"), 400, "malformed"),
    "unknown model": (post({**GOOD, "model": "gpt-9"}), 404, "unknown_model"),
    "a model of another provider": (post({**GOOD, "model": "claude-opus-4-5"}), 404, "unknown_model"),
    "other case in the model": (post({**GOOD, "model": "GPT-5.4"}), 404, "unknown_model"),
    "not JSON": (post(b"hello"), 400, "malformed"),
    "empty": (post(b""), 400, "malformed"),
    "a list": (post(b"[]"), 400, "malformed"),
    "two documents": (post(b'{"model":"gpt-5.4"}{"model":"gpt-5.4-mini"}'), 400, "malformed"),
    "byte order mark": (post(b"\xef\xbb\xbf" + json.dumps(GOOD).encode()), 400, "malformed"),
    "UTF-16": (post(json.dumps(GOOD).encode("utf-16")), 400, "malformed"),
    "deeply nested": (post(b'{"model":"gpt-5.4","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 400, "malformed"),
    "model missing": (post({"messages": []}), 400, "malformed"),
    "model twice": (post(b'{"model":"gpt-5.4","model":"gpt-5.4-mini"}'), 400, "malformed"),
    "model twice, once escaped": (post(b'{"model":"gpt-5.4","mod\\u0065l":"gpt-5.4-mini"}'), 400, "malformed"),
    "model in another case": (post({"Model": "gpt-5.4"}), 400, "malformed"),
    "model and Model": (post({**GOOD, "MODEL": "gpt-5.4-mini"}), 400, "malformed"),
    "model a number": (post({"model": 5}), 400, "malformed"),
    "model a list": (post({"model": ["gpt-5.4"]}), 400, "malformed"),
    "model null": (post({"model": None}), 400, "malformed"),
    "model empty": (post({"model": ""}), 400, "malformed"),
    "model with a space": (post({"model": " gpt-5.4"}), 400, "malformed"),
    "model with a Cyrillic letter": (post({"model": "gpt-5.4-minі"}), 400, "malformed"),
    "body over the limit, declared": (with_head("Content-Length: 1048577\r\n", b""), 413, "malformed"),
    "body over the limit, sent": (post(BIG), 413, "malformed"),
    "body over the limit, chunked": (chunked(BIG[:700_000], BIG[700_000:]), 413, "malformed"),
    "body shorter than declared": (with_head("Content-Length: 100\r\n", b'{"model"'), 408, "malformed"),
    "silence in a chunked body": (chunked(b'{"model"', end=b""), 408, "malformed"),
    "silence in the head": (f"POST {PATH} HTTP/1.1\r\nHost: ga".encode(), 408, "malformed"),
    "text/plain": (post(Content_Type="text/plain").replace(b"Content-Type: application/json\r\n", b"", 1), 415, "malformed"),
    "no content type": (post().replace(b"Content-Type: application/json\r\n", b"", 1), 415, "malformed"),
    "two content types": (post(Content_Type="application/json"), 415, "malformed"),
    "another charset": (post(Content_Type="application/json; charset=utf-16").replace(b"Content-Type: application/json\r\n", b"", 1), 415, "malformed"),
    "compressed": (post(Content_Encoding="br"), 415, "malformed"),
    "not compressed as it says": (post(Content_Encoding="gzip"), 400, "malformed"),
    "head over the limit, one header": (post(X_Long="y" * 40_000), 431, "malformed"),
    "head over the limit, many headers": (post(**{f"X_{n}": "y" for n in range(150)}), 431, "malformed"),
    "endless target": (post(path=PATH + "?x=" + "y" * 40_000), 431, "malformed"),
    "CL and TE": (with_head("Content-Length: 2\r\nTransfer-Encoding: chunked\r\n"), 400, "malformed"),
    "TE gzip, chunked": (with_head("Transfer-Encoding: gzip, chunked\r\n", b"0\r\n\r\n"), 400, "malformed"),
    "TE in HTTP/1.0": (with_head("Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", line=f"POST {PATH} HTTP/1.0"), 400, "malformed"),
    "two Content-Lengths": (with_head("Content-Length: 2\r\nContent-Length: 2\r\n"), 400, "malformed"),
    "a signed Content-Length": (with_head("Content-Length: +2\r\n"), 400, "malformed"),
    "two Hosts": (with_head("Host: other\r\nContent-Length: 2\r\n"), 400, "malformed"),
    "no Host": (with_head("Content-Length: 2\r\n", host=""), 400, "malformed"),
    "absolute form": (with_head("Content-Length: 2\r\n", line=f"POST http://gateway{PATH} HTTP/1.1"), 400, "malformed"),
    "HTTP/0.9": (b"GET /openai/v1/models\r\n\r\n", 400, "malformed"),
    "HTTP/2.0 line": (with_head("Content-Length: 2\r\n", line=f"POST {PATH} HTTP/2.0"), 400, "malformed"),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed"),
    "TLS on the plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, "malformed"),
    "bare line feeds": (with_head("Content-Length: 2\r\n").replace(b"\r\n", b"\n"), 400, "malformed"),
    "folded header": (with_head("X-A: 1\r\n b\r\nContent-Length: 2\r\n"), 400, "malformed"),
    "method override": (post(X_HTTP_Method_Override="PUT"), 400, "malformed"),
    "GET with a body": (request("/openai/v1/models", b"{}", AUTH, method="GET"), 400, "malformed"),
    "CONNECT": (b"CONNECT api.openai.com:443 HTTP/1.1\r\nHost: api.openai.com\r\n\r\n", 400, "malformed"),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_bad_input_gets_its_status_and_goes_nowhere(module_system, name):
    data, status, reason = CASES[name]
    before = (await module_system.simulated("/_sim/stats"))["total"]
    answer = await send(module_system.proxy, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:300]
    assert f"portcullis-reason: {reason}".encode() in head.lower()
    assert json.loads(body)["error"]["portcullis"]["reason"] == reason
    assert (await module_system.simulated("/_sim/stats"))["total"] == before


async def test_a_revoked_key_is_refused(system):
    made = await system.ask_admin("POST", "/api/v1/callers/demo-erin/keys", {}, token="demo-approver")
    assert made.status in (200, 201), made.json
    key, key_id = made.json["key"], made.json.get("id") or made.json["key_id"]
    answer = await send(system.proxy, post(Authorization=f"Bearer {key}"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    gone = await system.ask_admin("DELETE", f"/api/v1/callers/demo-erin/keys/{key_id}", token="demo-approver")
    assert gone.status == 200, gone.json
    answer = await send(system.proxy, post(Authorization=f"Bearer {key}"))
    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_the_gateway_is_unhurt_by_all_of_it(system):
    await asyncio.gather(*(send(system.proxy, data) for data, _, _ in CASES.values()))
    answer = await send(system.proxy, post())
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert (await system.metrics()).get("portcullis_internal_errors_total", 0) == 0
    assert len(system.workers()) == 2
    assert not system.events("worker_died")
