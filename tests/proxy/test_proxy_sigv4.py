"""Requests are signed as botocore signs them."""

from datetime import UTC, datetime

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from gateway.proxy.sigv4 import Signer

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
