"""A policy that cannot be read whole: what cannot be read is denied, and the rest goes on."""

import json
from datetime import UTC, datetime

import pytest
from samples import ACME, ALICE, BOB, MODELS

from gateway.policy.decision import Permit
from gateway.policy.document import dump
from gateway.policy.salvage import salvage
from gateway.policy.snapshot import Asked, Snapshot

AT = datetime(2026, 6, 12, tzinfo=UTC)
HOLD = {"models": ["gpt-5.4"], "by": "op", "at": "2026-06-12T21:21:00Z"}
DIRECTIVE = {**HOLD, "who": {"nationality": {"any_of": ["GB"]}}, "state": "in_force"}
UNREAD = {"of": "the future"}


def read(**fields):
    body = {"schema": 1, "gateway": "test", "models": MODELS, **fields}
    return salvage(json.dumps(body).encode(), AT)


def denied(document, caller=ALICE) -> set[str]:
    snapshot = Snapshot(document, 1, AT)
    asked = {
        name: Asked(model["routes"][0]["provider"], (model["routes"][0]["names"][0],)) for name, model in MODELS.items()
    }
    return {name for name in MODELS if not isinstance(snapshot.decide(caller, asked[name]), Permit)}


def test_what_can_be_read_whole_is_what_it_is():
    document, faults = read(holds={"h": HOLD}, directives={"d": DIRECTIVE})
    assert (faults, denied(document), denied(document, BOB)) == ((), {"gpt-5.4"}, {"gpt-5.4"})
    assert salvage(dump(document), AT) == (document, ())


@pytest.mark.parametrize(
    ("fields", "closed", "fault"),
    [
        ({"holds": {"h": {**HOLD, **UNREAD}}}, {"gpt-5.4"}, "holds.h"),
        ({"holds": {"h": {**HOLD, "models": ["family:gpt"], "by": "?"}}}, {"gpt-5.4", "gpt-5.4-mini"}, "holds.h"),
        ({"holds": {"h": {**HOLD, "models": [{"new": 1}]}}}, set(MODELS), "holds.h"),
        ({"holds": {"h": "x"}}, set(MODELS), "holds.h"),
        ({"directives": {"d": {**DIRECTIVE, "who": {"phase_of_the_moon": 1}}}}, {"gpt-5.4"}, "directives.d"),
        ({"directives": {"d": {**DIRECTIVE, "who": {"term": "gone"}}}}, {"gpt-5.4"}, "directives.d"),
        ({"directives": {"d": {**DIRECTIVE, "except": [{"term": "gone"}]}}}, {"gpt-5.4"}, "directives.d"),
        ({"directives": {"d": {**DIRECTIVE, "state": "half_in_force"}}}, {"gpt-5.4"}, "directives.d"),
        ({"directives": {"d": {**DIRECTIVE, **UNREAD, "state": "lifted"}}}, set(), "directives.d"),
        ({"directives": {"d": {**DIRECTIVE, **UNREAD, "state": "shadow"}}}, set(), "directives.d"),
        ({"models": {**MODELS, "gpt-5.4": {**MODELS["gpt-5.4"], **UNREAD}}}, {"gpt-5.4"}, "models.gpt-5.4"),
        ({"orders": {"o": UNREAD}, "holds": {"h": {**HOLD, "order": "o"}}}, {"gpt-5.4"}, "orders.o"),
        ({"groups": {"g": UNREAD}}, set(), "groups.g"),
        ({"changed": UNREAD}, set(), "changed"),
        ({"contact": UNREAD}, set(), "contact"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_read_is_denied_and_named(fields, closed, fault):
    document, faults = read(**fields)
    assert (denied(document), faults) == (closed, (fault,))


def test_what_uses_a_term_that_cannot_be_read_is_closed_and_what_uses_another_is_not():
    terms = {
        "bad": {"condition": {"nationality": {"any_of": ["group:gone"]}}},
        "on it": {"condition": {"term": "bad"}},
        "brits": {"condition": {"nationality": {"any_of": ["GB"]}}},
    }
    terms = {name.replace(" ", "-"): term for name, term in terms.items()}
    directives = {
        "d-1": {**DIRECTIVE, "models": ["gpt-5.4"], "who": {"term": "on-it"}},
        "d-2": {**DIRECTIVE, "models": ["claude-fable-5"], "who": {"term": "brits"}},
    }
    document, faults = read(terms=terms, directives=directives)
    assert set(faults) == {"terms.bad", "terms.on-it", "directives.d-1"}
    assert (denied(document), denied(document, BOB)) == ({"gpt-5.4"}, {"gpt-5.4", "claude-fable-5"})


def test_services_of_an_organisation_that_cannot_be_read_are_refused():
    assert denied(read(orgs={"acme": {"country": "US"}})[0], ACME) == set()
    for org in (
        UNREAD,
        {"country": "usa"},
        {"attestation": {"terms": {"gone": True}, "signer": "x", "evidence": "y", "expires": "2030-01-01T00:00:00Z"}},
    ):
        document, faults = read(orgs={"acme": org})
        assert (denied(document, ACME), denied(document), faults) == (set(MODELS), set(), ("orgs.acme",))


def test_names_of_a_model_that_cannot_be_read_go_to_no_other():
    wide = {"routes": [{"provider": "openai", "names": ["gpt-*"]}]}
    document, _ = read(models={**MODELS, "wide": wide, "gpt-5.4-mini": {**MODELS["gpt-5.4-mini"], **UNREAD}})
    assert denied(document) == {"gpt-5.4-mini"}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"[]", b'{"schema":1,"gateway":"test","of the future":true}', b'{"schema":2,"gateway":"test"}',
        b'{"gateway":"test"}', b'{"schema":1}', b'{"schema":1,"gateway":"test","max_stale":{"default":0}}',
        b'{"schema":1,"gateway":"test","holds":[]}', b'{"schema":1,"gateway":"test","models":{"m":{}}}',
    ],
)  # fmt: skip
def test_where_it_cannot_be_known_what_is_denied_there_is_no_policy(body):
    with pytest.raises(ValueError):
        salvage(body, AT)
