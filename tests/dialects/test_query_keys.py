"""A key in a query is taken out of it, or refused."""

import pytest

from gateway.dialects import DIALECTS
from gateway.dialects.query_keys import QueryKeyError

GEMINI, VERTEX, OPENAI = (DIALECTS[name].query_keys for name in ("gemini", "vertex", "openai"))


@pytest.mark.parametrize(
    ("keys", "query", "rest", "key"),
    [
        (GEMINI, b"key=k", b"", b"k"),
        (GEMINI, b"key=k&alt=sse", b"alt=sse", b"k"),
        (GEMINI, b"alt=sse&key=a.b-c_d==", b"alt=sse", b"a.b-c_d=="),
        (GEMINI, b"alt=sse&key=k&pageSize=5", b"alt=sse&pageSize=5", b"k"),
        (GEMINI, b"alt=sse&&a=%20&monkey=1&", b"alt=sse&&a=%20&monkey=1&", b""),
        (VERTEX, b"alt=sse&", b"alt=sse&", b""),
        (OPENAI, b"key=k&access_token=t&=", b"key=k&access_token=t&=", b""),
    ],
)
def test_what_goes_on_and_the_key(keys, query, rest, key):
    assert keys.split(query) == (rest, key)


@pytest.mark.parametrize(
    ("keys", "query"),
    [
        *((GEMINI, query) for query in (
            b"key=", b"key", b"key=secret&key=secret", b"key=&key=secret", b"key=secret&key", b"key=%73ecret",
            b"key=sec+ret", b"KEY=secret", b"Key=secret", b"access_token=secret", b"ACCESS_TOKEN=secret",
            b"key=secret&oauth_token=secret",
        )),
        (VERTEX, b"key=secret"),
        (VERTEX, b"alt=sse&Key=secret"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_refused_and_not_quoted(keys, query):
    with pytest.raises(QueryKeyError) as refused:
        keys.split(query)
    assert "secret" not in str(refused.value)
