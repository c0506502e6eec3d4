"""Nicolas Seriot's JSONTestSuite, each file as a member of a body: what is no JSON goes nowhere, what is goes unchanged.

Its directory comes from ``JSON_TEST_SUITE``. Files that a parser may read or refuse (``i_``) must only not be hung on.
"""

import os
from pathlib import Path

import pytest
from proxy_harness import OK, post

from gateway.dialects.selectors import BodyReader, MalformedBodyError, Selector

READER = BodyReader((Selector(("model",), required=True),))
SUITE = os.environ.get("JSON_TEST_SUITE")
pytestmark = pytest.mark.skipif(SUITE is None, reason="JSON_TEST_SUITE does not say where JSONTestSuite is")


def bodies(kind: str) -> dict[str, bytes]:
    """By the file's name, a request's body around what is in it."""
    files = sorted(Path(SUITE or ".").glob(f"{kind}_*.json"))
    assert files, f"there is nothing of the kind {kind}_ in {SUITE}"
    return {file.name: b'{"x":' + file.read_bytes() + b',"model":"gpt-5.4"}' for file in files}


async def test_what_is_no_json_is_refused(client, provider):
    for name, body in bodies("n").items():
        refused = await client.ask(post(body=body))
        assert (refused.status, refused.reason) == (400, "malformed"), name
    assert provider.connections == 0


async def test_what_is_json_goes_on_unchanged(client, provider):
    upstream = None
    for name, body in bodies("y").items():
        client.send(post(body=body))
        upstream = upstream or await provider.accept()
        assert (await upstream.message()).body == body, name
        upstream.send(OK)
        assert (await client.message()).status == 200, name


def test_what_may_be_either_is_read_or_refused():
    for name, body in bodies("i").items():
        try:
            assert READER.read(body).names == ("gpt-5.4",), name
        except MalformedBodyError as error:
            assert error.status == 400, name
