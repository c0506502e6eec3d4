"""Requests are signed as botocore signs them."""

from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.observability.metrics import Counters
from gateway.proxy.head import Way, read_head
from gateway.proxy.provider import Upstream
from gateway.proxy.resolver import Resolver
from gateway.proxy.sigv4 import Signer
from gateway.settings import Settings

AT = datetime(2026, 11, 24, 10, 30, 0, tzinfo=UTC)
HOST = "bedrock-runtime.us-east-1.amazonaws.com"
REQUESTS = [
    ("POST", "/model/anthropic.claude-v1%3A0/converse", b"", b'{"messages":[]}'),
    ("POST", "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fk/invoke", b"", b"\x00\xff" * 1000),
    ("GET", "/foundation-models", b"byProvider=anthropic&byOutputModality=TEXT&a=%C3%BC%20x", b""),
    ("GET", "/async-invoke", b"", b""),
]


@pytest.mark.parametrize("token", [None, "FwoGZXIvYXdzE/temporary+token=="])
@pytest.mark.parametrize(("method", "path", "query", "body"), REQUESTS)
def test_a_signature_is_botocores(monkeypatch, method, path, query, body, token):
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda: AT.replace(tzinfo=None))
    url = f"https://{HOST}{path}" + (f"?{query.decode()}" if query else "")
    request = AWSRequest(method=method, url=url, data=body)
    SigV4Auth(Credentials("AKIDEXAMPLE", "wJalr/secret+key", token), "bedrock", "us-east-1").add_auth(request)
    signer = Signer("us-east-1", "bedrock", ("AKIDEXAMPLE", "wJalr/secret+key", token), HOST.encode())
    lines = signer.signed(method, path, query, memoryview(body), AT).decode().split("\r\n")
    ours = dict(line.split(": ", 1) for line in lines if line)
    assert ours["authorization"] == request.headers["Authorization"]
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
    assert ours.get("x-amz-security-token") == request.headers.get("X-Amz-Security-Token")


def test_the_key_of_a_day_is_not_the_next_ones():
    signer = Signer("us-east-1", "bedrock", ("id", "secret", None), b"h")
    days = [signer.signed("GET", "/", b"", b"", AT.replace(day=day)) for day in (24, 25, 24)]
    assert days[0] == days[2] != days[1]


async def test_a_signed_request_carries_the_gateways_signature_alone(tmp_path):
    aws = {"region": "us-east-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "secret"}
    provider = {"dialect": "bedrock", "base_url": f"https://{HOST}", "aws": aws}
    settings = Settings(state_dir=tmp_path, providers={"bedrock": provider})
    upstream = Upstream("bedrock", settings.providers["bedrock"], settings, Resolver(30.0), Counters())
    body = b'{"messages":[]}'
    headers = [
        (b"host", b"gate"),
        (b"authorization", b"Bearer pc-alice"),
        (b"x-amz-date", b"19700101T000000Z"),
        (b"content-type", b"application/json"),
    ]
    path = "/model/anthropic.claude-v1%3A0/converse"
    head = read_head(b"POST", b"/bedrock" + path.encode(), "1.1", headers, keep_alive=True)
    operation, model = upstream.dialect.operation("POST", path)
    head.way = Way(upstream, operation, path, model)
    lines = upstream.request_head(head, body, identity=False).decode().split("\r\n")
    assert lines[0] == f"POST {path} HTTP/1.1"
    sent = [tuple(line.split(": ", 1)) for line in lines[1:] if line]
    assert len({name for name, _ in sent}) == len(sent), "each header once"
    named = dict(sent)
    at = datetime.strptime(named["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    expected = Signer("us-east-1", "bedrock", ("AKIDEXAMPLE", "secret", None), HOST.encode()).signed(
        "POST", path, b"", body, at
    )
    assert f"authorization: {named['authorization']}\r\n".encode() in expected
    assert "alice" not in repr(sent)
