"""Heads are judged strictly: what two servers could read differently is refused, never repaired."""

import pytest

from gateway.policy.decision import Reason
from gateway.proxy.head import HOP_BY_HOP, REFUSED, Head, Refused, read_head

HOST = (b"host", b"gate")
TARGETS = [
    b"/", b"/openai/v1/chat/completions", b"/openai/v1/models/gpt-5.4", b"/openai/v1/models/ft:gpt-5.4:org::id",
    b"/a~b/c_d/e+f/g@h", b"/openai/v1/models?limit=2", b"/x?after_id=a&before_id=b", b"/x?", b"/x?a=b=c", b"/x?a=1%202",
    b"/x?beta=true&x=model", b"/a..b/c",
]  # fmt: skip
REFUSED_TARGETS = {
    "dot segment": b"/openai/../anthropic/v1/messages",
    "dot segment at the end": b"/openai/v1/..",
    "single dot": b"/openai/./v1",
    "hidden": b"/openai/.v1",
    "encoded dots": b"/openai/%2e%2e/anthropic",
    "empty segment": b"/openai//v1/models",
    "leading double slash": b"//openai/v1/models",
    "encoded dot": b"/openai/v1/models/a%2eb",
    "twice encoded": b"/openai/v1/models/a%252fb",
    "encoded letter": b"/openai/v1/%6dodels",
    "NUL": b"/openai/v1/models%00",
    "overlong": b"/openai/v1%c0%afmodels",
    "backslash": b"/openai\\v1\\models",
    "parameters": b"/openai/v1/models;a=b",
    "fragment": b"/openai/v1/models#x",
    "blank": b"/openai/v1/models /x",
    "line feed": b"/openai/v1/models\n",
    "UTF-8": "/openai/v1/modèls".encode(),
    "absolute form": b"http://gate/openai/v1/models",
    "another authority": b"https://evil.example/openai/v1/models",
    "authority form": b"gate:443",
    "asterisk": b"*",
    "empty": b"",
    "relative": b"openai/v1/models",
    "second question mark is data, a blank is not": b"/x?a b",
    "line feed in the query": b"/x?a=b\n",
    "semicolon in the query": b"/x?a=b;model=K",
    "backslash in the query": b"/x?a=\\",
    "fragment after the query": b"/x?a=b#c",
    "quote in the query": b'/x?a="',
    # a model in the query
    "model with a blank": b"/x?model=K%20",
    "MODEL": b"/x?MODEL=K",
    "model twice": b"/x?model=A&model=K",
    "later, in capitals": b"/x?a=b&MODEL=K",
    "without a value": b"/x?model",
    "within a name": b"/x?session[model]=K",
    "prefixed": b"/x?model_id=K",
    "deployment model": b"/x?a=b&override-model=K&c=d",
    "encoded": b"/x?%6dodel=K",
    "an encoded name at all": b"/x?a%20=K",
    "encoded, without a value": b"/x?%6dodel",
}


def read(target: bytes = b"/x", headers: list[tuple[bytes, bytes]] | None = None, version: str = "1.1") -> Head:
    return read_head(b"POST", target, version, [HOST] if headers is None else headers, keep_alive=True)


@pytest.mark.parametrize("target", TARGETS)
def test_plain_targets_are_read_as_they_are(target):
    head = read(target)
    path, _, query = target.partition(b"?")
    assert (head.path.encode(), head.query, head.method) == (path, query, "POST")


def test_what_a_model_in_the_path_may_have_encoded_is_left_as_it_is():
    assert read(b"/openai/v1/models/a%2fb%3Ac").path == "/openai/v1/models/a%2fb%3Ac"


@pytest.mark.parametrize(
    ("target", "model"), [(b"/x?model=K", "K"), (b"/x?a=b&model=ft:K:x", "ft:K:x"), (b"/x?a=b", None), (b"/x", None)]
)
def test_a_model_that_the_query_names_once_is_told(target, model):
    assert read(target).query_model == model


@pytest.mark.parametrize("target", REFUSED_TARGETS.values(), ids=REFUSED_TARGETS)
def test_targets_that_are_not_plain_are_refused(target):
    with pytest.raises(Refused) as caught:
        read(target)
    assert (caught.value.deny.reason, caught.value.deny.status) == (Reason.MALFORMED, 400)


HEADERS = {
    "no host": [],
    "empty host": [(b"host", b"")],
    "two hosts": [HOST, HOST],
    "two different hosts": [HOST, (b"host", b"evil")],
    "host with a path": [(b"host", b"gate/x")],
    "host with a user": [(b"host", b"a@gate")],
    "host with a blank": [(b"host", b"gate evil")],
    "host list": [(b"host", b"gate,evil")],
    "host too long": [(b"host", b"h" * 256)],
    "two lengths": [HOST, (b"content-length", b"1"), (b"content-length", b"1")],
    "length list": [HOST, (b"content-length", b"1, 1")],
    "signed length": [HOST, (b"content-length", b"+5")],
    "negative length": [HOST, (b"content-length", b"-5")],
    "underscore in a length": [HOST, (b"content-length", b"0_2")],
    "hexadecimal length": [HOST, (b"content-length", b"0x2")],
    "empty length": [HOST, (b"content-length", b"")],
    "huge length": [HOST, (b"content-length", b"1" * 16)],
    "length in other digits": [HOST, (b"content-length", "٢".encode())],
    "gzip, chunked": [HOST, (b"transfer-encoding", b"gzip, chunked")],
    "chunked, identity": [HOST, (b"transfer-encoding", b"chunked, identity")],
    "identity": [HOST, (b"transfer-encoding", b"identity")],
    "x-chunked": [HOST, (b"transfer-encoding", b"xchunked")],
    "quoted": [HOST, (b"transfer-encoding", b'"chunked"')],
    "chunked twice": [HOST, (b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
    "two keys": [HOST, (b"portcullis-key", b"a"), (b"portcullis-key", b"a")],
    **{name.decode(): [HOST, (name, b"x")] for name in sorted(REFUSED)},
}


@pytest.mark.parametrize("headers", HEADERS.values(), ids=HEADERS)
def test_headers_with_two_meanings_are_refused(headers):
    with pytest.raises(Refused) as caught:
        read(headers=headers)
    assert (caught.value.deny.reason, caught.value.deny.status) == (Reason.MALFORMED, 400)


def test_two_content_types_are_refused():
    with pytest.raises(Refused) as caught:
        read(headers=[HOST, (b"content-type", b"application/json"), (b"content-type", b"text/plain")])
    assert caught.value.deny.status == 415


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.0", ""])
def test_other_versions_are_refused(version):
    with pytest.raises(Refused):
        read(version=version)


def test_http_1_0_needs_no_host_and_knows_no_chunks():
    assert read(headers=[], version="1.0").host == b""
    with pytest.raises(Refused):
        read(headers=[(b"transfer-encoding", b"chunked")], version="1.0")


def test_what_is_read():
    head = read(
        headers=[
            HOST,
            (b"content-length", b"12"),
            (b"content-type", b"application/json"),
            (b"content-encoding", b"gzip"),
            (b"expect", b"100-Continue"),
            (b"portcullis-key", b"pc_1"),
        ]
    )
    assert (head.host, head.content_length, head.content_type) == (b"gate", 12, b"application/json")
    assert (head.content_encoding, head.expects_continue, head.gateway_key) == (b"gzip", True, b"pc_1")
    assert head.has_body
    assert not head.chunked


@pytest.mark.parametrize(
    ("headers", "has_body"),
    [
        ([], False),
        ([(b"content-length", b"0")], False),
        ([(b"content-length", b"1")], True),
        ([(b"transfer-encoding", b"chunked")], True),
        ([(b"transfer-encoding", b" Chunked ")], True),
    ],
)
def test_whether_a_body_follows(headers, has_body):
    assert read(headers=[HOST, *headers]).has_body is has_body


def test_only_what_is_meant_for_the_provider_goes_on():
    kept = [(b"accept", b"*/*"), (b"authorization", b"Bearer x"), (b"anthropic-version", b"1"), (b"accept", b"b")]
    dropped = [(name, b"x") for name in sorted(HOP_BY_HOP - {b"connection", b"transfer-encoding"})]
    dropped += [
        (b"portcullis-key", b"pc_1"),
        (b"portcullis-nationality", b"US"),
        (b"portcullis-on-behalf-of", b"x"),
        (b"content-length", b"1"),
        (b"expect", b"100-continue"),
    ]
    assert read(headers=[HOST, *kept, *dropped]).forward == kept


def test_what_connection_nominates_is_about_this_connection():
    headers = [HOST, (b"x-a", b"1"), (b"connection", b"close, X-A ,x-b"), (b"x-b", b"2"), (b"x-c", b"3")]
    assert read(headers=headers).forward == [(b"x-c", b"3")]


@pytest.mark.parametrize(
    "name",
    [
        b"content_length",
        b"transfer_encoding",
        b"portcullis_key",
        b"portcullis_anything",
        b"x_http_method-override",
    ],
)
def test_names_that_some_servers_read_as_one_that_counts(name):
    with pytest.raises(Refused):
        read(headers=[HOST, (name, b"x")])


def test_other_names_with_underscores_go_on():
    assert read(headers=[HOST, (b"x_y", b"z")]).forward == [(b"x_y", b"z")]


@pytest.mark.parametrize("value", [b"", b"200-ok", b"100-continue, x", b"100-continue;x"])
def test_an_expectation_that_cannot_be_met(value):
    with pytest.raises(Refused) as caught:
        read(headers=[HOST, (b"expect", value)])
    assert caught.value.deny.status == 417


def test_http_1_0_ends_with_its_answer_and_waits_for_no_100():
    head = read(headers=[HOST, (b"expect", b"100-continue")], version="1.0")
    assert (head.keep_alive, head.expects_continue) == (False, False)
