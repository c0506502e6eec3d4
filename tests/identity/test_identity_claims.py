"""From a token's claims to what the policy may look at."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from issuing import claims

from gateway.identity.claims import ClaimNames, check_audience, expiry, facts, scoped_id, subject
from gateway.identity.jose import TokenError
from gateway.policy.caller import Facts, Kind
from gateway.policy.conditions import is_country

NAMES = ClaimNames()
NOW = 1_800_000_000


def verified(*nationalities):
    return [{"verification": {"trust_framework": "eidas"}, "claims": {"nationalities": list(n)}} for n in nationalities]


def test_what_is_not_said_is_not_known():
    assert facts({}, NAMES) == Facts(Kind.PERSON)
    assert facts({}, NAMES, "acme") == Facts(Kind.PERSON, "acme")


def test_everything_that_may_be_said():
    said = {
        "nationalities": ["USA", "D"], "latest_nationality": ["DE"], "permanent_residence": [], "org": "acme",
        "legal_status": ["us-protected-individual"],
    }  # fmt: skip
    assert facts(said, NAMES, "other") == Facts(
        Kind.PERSON,
        "acme",
        frozenset({"US", "DE"}),
        frozenset({"DE"}),
        frozenset(),
        frozenset({"us-protected-individual"}),
    )


def test_claims_may_have_other_names():
    said = {"https://id.example/citizenship": ["FR"], "nationalities": ["US"]}
    assert facts(said, ClaimNames(nationalities="https://id.example/citizenship")).nationality == {"FR"}


@pytest.mark.parametrize(
    "said",
    [
        {"verified_claims": verified(["GBR"])[0]},
        {"verified_claims": verified(["GB"])},
        {"verified_claims": verified(["GB"], ["GBR"])},
        {"verified_claims": verified(["GB"]), "nationalities": ["GBN"]},
        {"verified_claims": [*verified(["GB"]), {"claims": {"given_name": "A"}}]},
    ],
)
def test_nationalities_are_found_among_verified_claims(said):
    assert facts(said, NAMES).nationality == {"GB"}


@pytest.mark.parametrize(
    "said",
    [
        {"nationalities": value}
        for value in (5, 0, None, True, "US", "", [], {}, {"US": 1}, [5], ["US", 5], ["US", None], [["US"]], ["us"],
                      ["ZZ"], ["US", "ZZ"], ["UNO"], ["XXX"], [""], ["United States"])
    ]
    + [{"latest_nationality": value} for value in (5, [], ["ZZ"], "US", None)]
    + [{"permanent_residence": value} for value in (5, ["ZZ"], "US", None, ["XXA"])]
    + [{"legal_status": value} for value in (5, "us-visa", None, [5], ["two words"], [""], ["x" * 129])]
    + [{"org": value} for value in (5, "", None, "two words", ["acme"], "x" * 129)]
    + [{"verified_claims": value} for value in (5, "x", None, [5], {"claims": 5}, {}, verified([]), verified(["ZZ"]))]
    + [
        {"verified_claims": verified(["GB"]), "nationalities": ["US"]},
        {"verified_claims": verified(["GB"], ["US"])},
        {"verified_claims": verified(["GB"]), "nationalities": []},
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_read_ends_the_request_and_never_means_not_known(said):
    with pytest.raises(TokenError):
        facts(said, NAMES)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=4) | st.sampled_from(["US", "GBR", "XXA", "ZZ"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["claims", "nationalities"]), inner, max_size=2),
    max_leaves=8,
)  # fmt: skip


@given(st.fixed_dictionaries({"nationalities": JSON}, optional={"verified_claims": JSON}))
def test_whatever_is_said_about_nationalities_they_are_known_or_the_request_ends(said):
    try:
        known = facts(said, NAMES).nationality
    except TokenError:
        return
    assert known
    assert all(is_country(code) for code in known), "GBR is GB, and what is none is not guessed"


@pytest.mark.parametrize("value", ["https://gate.example", ["https://gate.example"], ["x", "https://gate.example"]])
def test_an_audience_that_fits(value):
    check_audience({"aud": value}, "https://gate.example")


@pytest.mark.parametrize(
    "value", [..., None, "", "https://gate.example/", "https://gate", [], ["x"], 5, {"https://gate.example": 1}]
)
def test_an_audience_that_does_not_fit(value):
    with pytest.raises(TokenError, match="another audience"):
        check_audience({} if value is ... else {"aud": value}, "https://gate.example")


@pytest.mark.parametrize(
    ("fields", "until"),
    [
        ({"exp": NOW + 60}, NOW + 90), ({"exp": NOW - 29}, NOW + 1), ({"exp": NOW + 60, "nbf": NOW + 29}, NOW + 90),
        ({"exp": NOW + 60, "iat": ...}, NOW + 90), ({"exp": 1e300}, 1e300),
    ],
)  # fmt: skip
def test_until_when_a_token_is_good(fields, until):
    assert expiry(claims(**{"iat": NOW, **fields}), NOW, 30) == pytest.approx(until)


@pytest.mark.parametrize(
    "fields",
    [{"exp": ...}, {"exp": None}, {"exp": "9999999999"}, {"exp": True}, {"exp": float("nan")}, {"exp": float("inf")},
     {"exp": [NOW + 60]}, {"exp": NOW - 30}, {"exp": 0}, {"exp": -1e300}, {"nbf": NOW + 31}, {"nbf": "x"}, {"nbf": None},
     {"iat": NOW + 31}, {"iat": "x"}, {"iat": False}],
    ids=str,
)  # fmt: skip
def test_a_token_that_is_over_has_not_begun_or_has_no_end(fields):
    with pytest.raises(TokenError):
        expiry(claims(**{"iat": NOW, **fields}), NOW, 30)


@pytest.mark.parametrize("value", [..., None, "", 5, ["alice"], "x" * 256])
def test_whom_a_token_is_about_must_be_said(value):
    with pytest.raises(TokenError, match="sub"):
        subject(claims(sub=value), "sub")


def test_ids_of_callers_are_identifiers_and_no_two_are_alike():
    names = ["alice", "auth0|alice", "sha256:abc", "ünïcode", "a" * 55, "a" * 56, "a:b", ".hidden", "x" * 255]
    ids = [scoped_id("oidc", scope, name) for scope in ("corp", "c" * 63, "a:b") for name in names]
    assert len(set(ids)) == len(ids)
    assert ids[0] == "oidc:corp:alice"
    assert ids[1].startswith("oidc:corp:sha256:")
    from pydantic import TypeAdapter

    from gateway.policy.document import Identifier

    for caller_id in ids:
        TypeAdapter(Identifier).validate_python(caller_id)
