"""Directives: who may use a model under which order, as a table; and when a directive speaks, and what it says."""

import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from samples import AT, SINCE, document, hold, order

from gateway.policy.caller import Caller, Facts, Kind
from gateway.policy.decision import Decision, Deny, Permit, Reason
from gateway.policy.explain import explain
from gateway.policy.snapshot import Asked, Snapshot

SEEDS = Path(__file__).parents[2] / "seeds" / "demo.toml"
FABLE = Asked("anthropic", ("claude-fable-5",))
HAIKU = Asked("anthropic", ("claude-haiku-4-5",))
DAY = timedelta(days=1)


def callers() -> dict[str, Caller]:
    """The callers of the demo, as its file describes them, by their short names."""
    found = {}
    for caller_id, seed in tomllib.loads(SEEDS.read_text())["callers"].items():
        known = {name: frozenset(values) for name, values in seed.get("attributes", {}).items()}
        found[caller_id.removeprefix("demo-")] = Caller(caller_id, Facts(Kind(seed["kind"]), seed.get("org"), **known))
    return found


CALLERS = callers()


def directive(who: dict[str, Any], *exceptions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    made = {"models": ["claude-fable-5"], "state": "in_force", "by": "op", "at": AT}
    return {**made, "who": who, "except": list(exceptions), **fields}


def window(begin: datetime | None, end: datetime | None = None) -> dict[str, Any]:
    return {"from": begin, "until": end}


# A us-person is a citizen, a holder of a green card, or a protected individual: who lives there on a visa is none.
US_PERSON = {
    "any": [
        {"nationality": {"any_of": ["US"]}},
        {"permanent_residence": {"any_of": ["US"]}},
        {"legal_status": {"any_of": ["us-protected-individual"]}},
    ]
}
TERMS = {"us-person": {"condition": US_PERSON}}
GROUPS = {"d5": {"countries": ["BY", "CN", "CU", "IR", "KP", "RU", "SY", "VE"]}}
ACME = {"country": "US", "end_users": "none"}
WORD = {"terms": {"us-person": True}, "signer": "CEO", "evidence": "letter of 1 June", "expires": AT + 30 * DAY}

FOREIGN = {"not": {"term": "us-person"}}
CHINESE = {"nationality": {"any_of": ["CN"]}}
OF_D5 = {"nationality": {"any_of": ["group:d5"]}}
EVERYONE = {"everyone": True}


def one_of(attribute: str, *values: str) -> dict[str, Any]:
    return {attribute: {"any_of": list(values)}}


def none_of(attribute: str, *values: str) -> dict[str, Any]:
    return {attribute: {"none_of": list(values)}}


RULES: dict[str, Any] = {
    "no directive": None,
    "closed to everyone": directive(EVERYONE),
    "only us-persons": directive(FOREIGN),
    "no Chinese national": directive(CHINESE),
    "nobody of D:5": directive(OF_D5),
    "… but us-persons": directive(OF_D5, {"term": "us-person"}),
    "… by latest nationality": directive({"latest_nationality": {"any_of": ["group:d5"]}}),
    "who is both US and French": directive({"nationality": {"all_of": ["US", "FR"]}}),
    "whoever is not American": directive(none_of("nationality", "US")),
    "who is US or British only": directive({"nationality": {"subset_of": ["US", "GB"]}}),
    "without a green card": directive(none_of("permanent_residence", "US")),
    "without protection": directive(none_of("legal_status", "us-protected-individual")),
    "Chinese, and a person": directive({"all": [CHINESE, one_of("kind", "person")]}),
    "Iranian, or a service": directive({"any": [one_of("nationality", "IR"), one_of("kind", "service")]}),
    "only us-persons, or acme": directive(FOREIGN, one_of("org", "acme")),
    "nobody but us-persons": directive(EVERYONE, {"term": "us-person"}),
    "nobody but French, or acme": directive(EVERYONE, one_of("nationality", "FR"), one_of("org", "acme")),
    "no services": directive(one_of("kind", "service")),
    "not acme": directive(one_of("org", "acme")),
    "only acme": directive(none_of("org", "acme")),
    "not Alice": directive(one_of("caller", "demo-alice")),
    "not acme's key": directive(one_of("caller", "demo-acme")),
    "no Chinese company": directive(one_of("org_country", "CN")),
    "acme attests; only us-persons": (directive(FOREIGN), {**ACME, "end_users": "attested", "attestation": WORD}),
    "its word is over": (
        directive(FOREIGN),
        {**ACME, "end_users": "attested", "attestation": {**WORD, "expires": AT}},
    ),
    "it must name its users": (None, {**ACME, "end_users": "required"}),
    "… and only us-persons": (directive(FOREIGN), {**ACME, "end_users": "required"}),
    "before the window": directive(CHINESE, window=window(AT + DAY)),
    "in the window": directive(CHINESE, window=window(AT - DAY, AT + DAY)),
    "as the window begins": directive(CHINESE, window=window(AT)),
    "after the window, not lifted": directive(CHINESE, window=window(AT - 2 * DAY, AT - DAY)),
    "draft": directive(CHINESE, state="draft"),
    "shadow": directive(CHINESE, state="shadow"),
    "lifted": directive(CHINESE, state="lifted"),
}

# ok: permitted.   NO: restricted.   ?: refused because something is not known.
#
#   alice  US                                        erin   US and FR
#   bob    GB, with a green card                     farid  IR, a protected individual
#   chen   CN, nothing else                          hana   IN, works in the US, which is no status
#   dana   nothing is known                          acme   a service; with a name behind it, for that end user
#
# A restriction on the service or on the end user hits the request; an exception must hold for both.
TABLE = """
                                alice  bob  chen  dana  erin  farid  hana  acme  acme/alice  acme/chen  acme/dana
no directive                     ok    ok    ok    ok    ok    ok     ok    ok       ok          ok         ok
closed to everyone               NO    NO    NO    NO    NO    NO     NO    NO       NO          NO         NO
only us-persons                  ok    ok    NO    ?     ok    ok     NO    ?        ok          NO         ?
no Chinese national              ok    ok    NO    ?     ok    ok     ok    ?        ok          NO         ?
nobody of D:5                    ok    ok    NO    ?     ok    NO     ok    ?        ok          NO         ?
… but us-persons                 ok    ok    NO    ?     ok    ok     ok    ?        ok          NO         ?
… by latest nationality          ok    ok    NO    ?     ?     NO     ok    ?        ok          NO         ?
who is both US and French        ok    ok    ok    ?     NO    ok     ok    ?        ok          ok         ?
whoever is not American          ok    NO    NO    ?     ok    NO     NO    ?        ok          NO         ?
who is US or British only        NO    NO    ok    ?     ok    ok     ok    ?        NO          ok         ?
without a green card             ?     ok    NO    ?     ?     NO     NO    ?        ?           NO         ?
without protection               ?     ?     NO    ?     ?     ok     NO    ?        ?           NO         ?
Chinese, and a person            ok    ok    NO    ?     ok    ok     ok    ok       ok          NO         ?
Iranian, or a service            ok    ok    ok    ?     ok    NO     ok    NO       NO          NO         NO
only us-persons, or acme         ok    ok    NO    ?     ok    ok     NO    ok       ok          NO         ?
nobody but us-persons            ok    ok    NO    ?     ok    ok     NO    ?        ok          NO         ?
nobody but French, or acme       NO    NO    NO    ?     ok    NO     NO    ok       NO          NO         ?
no services                      ok    ok    ok    ok    ok    ok     ok    NO       NO          NO         NO
not acme                         ok    ok    ok    ok    ok    ok     ok    NO       NO          NO         NO
only acme                        NO    NO    NO    NO    NO    NO     NO    ok       NO          NO         NO
not Alice                        NO    ok    ok    ok    ok    ok     ok    ok       NO          ok         ok
not acme's key                   ok    ok    ok    ok    ok    ok     ok    NO       NO          NO         NO
no Chinese company               ?     ?     ?     ?     ?     ?      ?     ok       ?           ?          ?
acme attests; only us-persons    ok    ok    NO    ?     ok    ok     NO    ok       ok          NO         ?
its word is over                 ok    ok    NO    ?     ok    ok     NO    ?        ok          NO         ?
it must name its users           ok    ok    ok    ok    ok    ok     ok    ?        ok          ok         ok
… and only us-persons            ok    ok    NO    ?     ok    ok     NO    ?        ok          NO         ?
before the window                ok    ok    ok    ok    ok    ok     ok    ok       ok          ok         ok
in the window                    ok    ok    NO    ?     ok    ok     ok    ?        ok          NO         ?
as the window begins             ok    ok    NO    ?     ok    ok     ok    ?        ok          NO         ?
after the window, not lifted     ok    ok    NO    ?     ok    ok     ok    ?        ok          NO         ?
draft                            ok    ok    ok    ok    ok    ok     ok    ok       ok          ok         ok
shadow                           ok    ok    ok    ok    ok    ok     ok    ok       ok          ok         ok
lifted                           ok    ok    ok    ok    ok    ok     ok    ok       ok          ok         ok
"""
MARKS = {None: "ok", Reason.RESTRICTED: "NO", Reason.ATTRIBUTE_UNKNOWN: "?"}


def rows() -> list[tuple[str, str, str]]:
    """One row per cell: the rule, who asks, the mark."""
    head, *lines = TABLE.strip().splitlines()
    who, found = head.split(), []
    for line in lines:
        name, marks = line[:31].strip(), line[31:].split()
        found += [(name, asker, mark) for asker, mark in zip(who, marks, strict=True)]
    return found


def policy(
    *directives: dict[str, Any], acme: dict[str, Any] = ACME, at: datetime | None = AT, **fields: Any
) -> Snapshot:
    made = {f"d-{n}": fields for n, fields in enumerate(directives, 1)}
    fields = {"orders": {"o-1": order()}, "directives": made, **fields}
    return Snapshot(document(terms=TERMS, groups=GROUPS, orgs={"acme": acme}, **fields), 7, at)


def ask(snapshot: Snapshot, who: str, asked: Asked = FABLE) -> Decision:
    """The decision for a caller, or for an end user behind a service."""
    asker, _, user = who.partition("/")
    return snapshot.decide(CALLERS[asker], asked, CALLERS[user] if user else None)


def test_every_rule_has_its_row():
    assert list(dict.fromkeys(name for name, _, _ in rows())) == list(RULES)
    assert {who for _, who, _ in rows()} >= set(CALLERS)


@pytest.mark.parametrize("rule", RULES)
def test_who_may_use_the_model(rule):
    made, acme = RULES[rule] if isinstance(RULES[rule], tuple) else (RULES[rule], ACME)
    snapshot = policy(*([made] if made else []), acme=acme)
    expected = {who: mark for name, who, mark in rows() if name == rule}
    assert {who: MARKS[getattr(ask(snapshot, who), "reason", None)] for who in expected} == expected
    for who in expected:
        asker, _, user = who.partition("/")
        explained = explain(snapshot, CALLERS[asker], FABLE, CALLERS[user] if user else None)
        assert explained.decision == ask(snapshot, who)
    if "end_users" not in acme or acme["end_users"] != "required":
        assert all(isinstance(ask(snapshot, who, HAIKU), Permit) for who in expected), (
            "another model is nobody's business"
        )


# ---------------------------------------------------------------- what a refusal says


def test_a_refusal_says_what_it_stands_on():
    made = directive(
        FOREIGN,
        order="o-1",
        public_message="By order.",
        note="never told",
        window=window(AT + DAY, AT + 3 * DAY),
        in_flight={"let_finish": 30},
    )
    assert ask(policy(made, at=AT + 2 * DAY), "chen") == Deny(
        Reason.RESTRICTED,
        7,
        model="claude-fable-5",
        restriction="d-1",
        order="o-1",
        since="2026-06-13T21:21:00Z",
        until="2026-06-15T21:21:00Z",
        message="By order.",
        let_finish=30,
    )
    assert ask(policy(directive(CHINESE)), "chen").since == SINCE, "without a window, since it was made"


# fmt: off
SPEAKS = [
    # d-1                             d-2                             d-3                               chen          dana
    ((CHINESE, None),                 (FOREIGN, None),                (EVERYONE, None),                "d-1 NO",     "d-3 NO"),   # definite first
    ((CHINESE, None),                 (FOREIGN, "o-1"),               (one_of("org", "acme"), "o-1"),  "d-2 NO",     "d-2 ?"),    # then under an order
    ((one_of("org", "acme"), None),   (FOREIGN, None),                (CHINESE, None),                 "d-2 NO",     "d-2 ?"),    # then by id
    ((CHINESE, "o-1"),                (EVERYONE, None),               (FOREIGN, None),                 "d-1 NO",     "d-2 NO"),   # definite before under an order
]
# fmt: on


@pytest.mark.parametrize(("first", "second", "third", "chen", "dana"), SPEAKS)
def test_which_directive_speaks(first, second, third, chen, dana):
    snapshot = policy(*(directive(who, order=order_id) for who, order_id in (first, second, third)))
    for who, expected in (("chen", chen), ("dana", dana)):
        decision = ask(snapshot, who)
        assert f"{decision.restriction} {MARKS[decision.reason]}" == expected


def test_a_hold_speaks_before_a_directive():
    snapshot = policy(directive(CHINESE, order="o-1"), holds={"h-1": hold("claude-fable-5")})
    assert ask(snapshot, "chen").reason is Reason.MODEL_OFFLINE
    assert ask(snapshot, "alice").reason is Reason.MODEL_OFFLINE


def test_of_equal_directives_the_shortest_grace_counts():
    long, short, none = ({"let_finish": seconds} for seconds in (60, 10, 0))
    snapshot = policy(directive(CHINESE, in_flight=long), directive(FOREIGN, in_flight=short))
    assert ask(snapshot, "chen").let_finish == 10
    snapshot = policy(directive(CHINESE, in_flight=long), directive(CHINESE, in_flight=short))
    assert ask(snapshot, "chen").let_finish == 10
    snapshot = policy(directive(CHINESE, in_flight=long), directive(one_of("nationality", "IR"), in_flight=none))
    assert ask(snapshot, "chen").let_finish == 60, "what does not apply does not hurry"


def test_two_that_ask_the_same_with_other_exceptions_are_two():
    snapshot = policy(directive(FOREIGN, one_of("org", "acme")), directive(FOREIGN, one_of("nationality", "IN")))
    assert [ask(snapshot, who).restriction for who in ("chen", "acme", "hana")] == ["d-1", "d-2", "d-1"]


def test_a_model_that_is_covered_by_family_tag_or_provider():
    for pattern in ("family:fable", "tag:controlled", "provider:anthropic", "claude-f*", "*"):
        snapshot = policy(directive(CHINESE, models=[pattern]))
        assert ask(snapshot, "chen").reason is Reason.RESTRICTED
        assert isinstance(ask(snapshot, "alice"), Permit)


def test_a_request_without_a_name_is_refused_where_one_of_its_candidates_is():
    snapshot = policy(directive(CHINESE, order="o-1"))
    assert isinstance(ask(snapshot, "alice", Asked("anthropic", ())), Permit)
    refused = ask(snapshot, "chen", Asked("anthropic", ()))
    assert (refused.reason, refused.order, refused.restriction) == (Reason.MODEL_UNRESOLVED, "o-1", "d-1")


def test_another_spelling_of_a_restricted_model_is_refused_as_that_model():
    snapshot = policy(directive(CHINESE))
    spelt = Asked("anthropic", ("Anthropic/Claude_Fable-5[1m]",))
    assert ask(snapshot, "chen", spelt).restriction == "d-1"
    assert ask(snapshot, "alice", spelt).reason is Reason.UNKNOWN_MODEL


def test_a_directive_in_shadow_only_says_what_it_would_do():
    snapshot = policy(directive(one_of("org", "acme"), state="shadow"), directive(CHINESE, state="shadow"))
    assert {who: ask(snapshot, who).would_deny for who in ("alice", "chen", "dana", "acme")} == {
        "alice": None,
        "chen": "d-2",
        "dana": "d-2",
        "acme": "d-1",
    }


# ---------------------------------------------------------------- what is remembered


def test_callers_of_the_same_facts_are_one_profile_unless_a_condition_names_one():
    twin = Caller("another", CALLERS["alice"].facts)
    for made, count in ((directive(CHINESE), 1), (directive(EVERYONE, one_of("caller", "demo-alice")), 2)):
        snapshot = policy(made)
        decisions = [snapshot.decide(caller, FABLE) for caller in (CALLERS["alice"], twin) * 3]
        assert len(snapshot._memo) == count
        assert [isinstance(decision, Permit) for decision in decisions] == [True, count == 1] * 3


def test_a_caller_of_whom_the_term_is_over_is_not_known():
    alice = Caller("alice", CALLERS["alice"].facts, expires=AT.timestamp())
    snapshot = policy(directive(FOREIGN))
    assert isinstance(snapshot.decide(alice.at(AT.timestamp() - 1), FABLE), Permit)
    assert snapshot.decide(alice.at(AT.timestamp()), FABLE).reason is Reason.ATTRIBUTE_UNKNOWN


# ---------------------------------------------------------------- time


def boundaries(snapshot: Snapshot) -> list[Snapshot]:
    """The snapshot, and what it becomes at each of its boundaries, without a commit."""
    found = [snapshot]
    while (moment := found[-1].next_boundary) is not None:
        found.append(Snapshot(snapshot.document, snapshot.revision, moment))
    return found


def test_a_window_that_begins_denies_without_a_commit():
    before = policy(directive(CHINESE, window=window(AT + DAY, AT + 2 * DAY)))
    assert before.next_boundary == AT + DAY
    assert isinstance(ask(before, "chen"), Permit)
    _, during = boundaries(before)
    assert ask(during, "chen").reason is Reason.RESTRICTED
    assert during.next_boundary is None, "its end takes a commit"


def test_an_attestation_that_expires_is_no_longer_known_without_a_commit():
    acme = {**ACME, "end_users": "attested", "attestation": WORD}
    before = policy(directive(FOREIGN), acme=acme)
    assert before.next_boundary == AT + 30 * DAY
    assert isinstance(ask(before, "acme"), Permit)
    _, after = boundaries(before)
    assert ask(after, "acme").reason is Reason.ATTRIBUTE_UNKNOWN
    assert after.next_boundary is None


@pytest.mark.parametrize("state", ["draft", "shadow", "lifted"])
def test_a_directive_that_is_not_in_force_has_no_boundary(state):
    assert policy(directive(CHINESE, window=window(AT + DAY), state=state)).next_boundary is None


def test_boundaries_come_in_their_order_whatever_the_zone():
    early, late = (
        datetime.fromisoformat("2026-06-20T00:00:00+09:00"),
        datetime.fromisoformat("2026-06-19T20:00:00+00:00"),
    )
    made = policy(directive(CHINESE, window=window(late)), directive(OF_D5, window=window(early)))
    assert [snapshot.next_boundary for snapshot in boundaries(made)] == [early, late, None]
    assert ask(boundaries(made)[1], "chen").since == "2026-06-19T15:00:00Z", "and are told in UTC"


def test_a_snapshot_that_is_told_no_time_denies_all_that_time_could():
    made = directive(CHINESE, window=window(datetime.max.replace(tzinfo=UTC)))
    assert ask(policy(made, at=None), "chen").reason is Reason.RESTRICTED
    acme = {**ACME, "end_users": "attested", "attestation": {**WORD, "expires": AT + 100_000 * DAY}}
    assert ask(policy(directive(FOREIGN), acme=acme, at=None), "acme").reason is Reason.ATTRIBUTE_UNKNOWN
    assert policy(made, acme=acme, at=None).next_boundary is None


def test_an_attestation_is_for_services_and_never_against_what_is_known():
    """A person of that organisation who asks has attributes of their own, or none that are known."""
    acme = {**ACME, "end_users": "attested", "attestation": WORD}
    snapshot = policy(directive(FOREIGN), acme=acme)
    known = {"nationality": frozenset({"CN"}), "permanent_residence": frozenset(), "legal_status": frozenset()}
    employee, chinese = Caller("e", Facts(Kind.PERSON, "acme")), Caller("c", Facts(Kind.PERSON, "acme", **known))
    assert snapshot.decide(employee, FABLE).reason is Reason.ATTRIBUTE_UNKNOWN
    assert snapshot.decide(chinese, FABLE).reason is Reason.RESTRICTED
    assert snapshot.decide(CALLERS["acme"], FABLE, employee).reason is Reason.ATTRIBUTE_UNKNOWN
    assert snapshot.decide(Caller("s", Facts(Kind.SERVICE, "acme", **known)), FABLE).reason is Reason.RESTRICTED


# ---------------------------------------------------------------- explained


def test_an_explanation_is_written_for_people():
    made = policy(directive(OF_D5, {"term": "us-person"}, order="o-1"))
    (model,) = explain(made, CALLERS["chen"], FABLE).trace
    assert model == {
        "name": "claude-fable-5",
        "model": "claude-fable-5",
        "known": True,
        "hold": None,
        "directives": [
            {
                "id": "d-1",
                "order": "o-1",
                "applies": "yes",
                "as": [
                    {
                        "who": {"condition": "nationality any of group:d5", "holds": "yes"},
                        "except": [
                            {
                                "condition": "us-person",
                                "holds": "no",
                                "because": [
                                    {
                                        "condition": "(nationality any of US or permanent residence any of US"
                                        " or legal status any of us-protected-individual)",
                                        "holds": "no",
                                        "because": [
                                            {"condition": "nationality any of US", "holds": "no"},
                                            {"condition": "permanent residence any of US", "holds": "no"},
                                            {"condition": "legal status any of us-protected-individual", "holds": "no"},
                                        ],
                                    }
                                ],
                            }
                        ],
                        "applies": "yes",
                    }
                ],
            }
        ],
    }
