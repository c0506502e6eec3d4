"""Where the caller's credential is, and that there is exactly one."""

import pytest

from gateway.dialects import DIALECTS
from gateway.identity.credentials import CredentialError, KeyInTwoPlacesError, gateway_credential
from gateway.identity.keys import MAX_CREDENTIAL

OPENAI, COMPATIBLE, ANTHROPIC = (DIALECTS[name].credentials for name in ("openai", "openai-compatible", "anthropic"))
BEARER = (b"authorization", b"Bearer k")

FOUND = [
    # places      Portcullis-Key  headers                                                    credential
    (OPENAI, None, [BEARER], "k"),
    (OPENAI, None, [(b"authorization", b"bearer k")], "k"),
    (OPENAI, None, [(b"authorization", b"BEARER   k  ")], "k"),
    (OPENAI, None, [(b"authorization", b"k")], "k"),
    (OPENAI, b"k", [], "k"),
    (OPENAI, b" k ", [BEARER], "k"),
    (OPENAI, b"k", [(b"authorization", b"Bearer ")], "k"),
    (OPENAI, None, [BEARER, BEARER], "k"),
    (OPENAI, None, [BEARER, (b"x-api-key", b"other")], "k"),
    (ANTHROPIC, None, [(b"x-api-key", b"k")], "k"),
    (ANTHROPIC, None, [BEARER], "k"),
    (ANTHROPIC, None, [(b"x-api-key", b"k"), BEARER], "k"),
    (COMPATIBLE, None, [(b"api-key", b"k")], "k"),
    (OPENAI, None, [(b"authorization", b"Bearer \xff")], "\udcff"),
    (OPENAI, None, [(b"authorization", b"Bearer " + b"x" * MAX_CREDENTIAL)], "x" * MAX_CREDENTIAL),
]


@pytest.mark.parametrize(("places", "own", "headers", "credential"), FOUND)
def test_it_is_found_where_sdks_put_it(places, own, headers, credential):
    assert gateway_credential(own, headers, places, forwards=False) == credential


REFUSED = [
    (OPENAI, None, [], "No credential"),
    (OPENAI, b"", [(b"authorization", b"Bearer")], "No credential"),
    (OPENAI, b"", [(b"authorization", b"")], "No credential"),
    (OPENAI, b"  ", [], "No credential"),
    (OPENAI, None, [(b"x-api-key", b"k")], "No credential"),
    (OPENAI, b"k", [(b"authorization", b"Bearer other")], "Two different"),
    (OPENAI, None, [BEARER, (b"authorization", b"Bearer other")], "Two different"),
    (ANTHROPIC, None, [(b"x-api-key", b"k"), (b"authorization", b"Bearer other")], "Two different"),
    (OPENAI, None, [(b"authorization", b"Bearer K"), BEARER], "Two different"),
    (OPENAI, b"x" * (MAX_CREDENTIAL + 1), [], "too long"),
]


@pytest.mark.parametrize(("places", "own", "headers", "message"), REFUSED)
def test_none_or_two_are_refused(places, own, headers, message):
    with pytest.raises(CredentialError, match=message) as caught:
        gateway_credential(own, headers, places, forwards=False)
    assert "other" not in str(caught.value)


def test_where_the_providers_credential_is_forwarded_only_our_own_header_counts():
    assert gateway_credential(b"k", [(b"authorization", b"Bearer sk-own")], OPENAI, forwards=True) == "k"
    with pytest.raises(CredentialError):
        gateway_credential(None, [BEARER], OPENAI, forwards=True)


def test_one_in_the_query_is_the_only_one():
    assert gateway_credential(None, [], OPENAI, forwards=False, in_query=b"k") == "k"
    assert gateway_credential(None, [(b"authorization", b"Bearer ")], OPENAI, forwards=False, in_query=b"k") == "k"
    for own, headers in ((None, [BEARER]), (b"k", [])):
        with pytest.raises(KeyInTwoPlacesError):
            gateway_credential(own, headers, OPENAI, forwards=False, in_query=b"k")
