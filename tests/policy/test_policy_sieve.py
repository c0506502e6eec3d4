"""The sieve: whatever it leaves out is false, and what it leaves decides as if everything had been asked."""

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_policies import Maker

from gateway.policy import sieve
from gateway.policy.caller import Caller, Facts, Kind, Subject, subject
from gateway.policy.conditions import Compiler, Condition, Term
from gateway.policy.directives import Rule
from gateway.policy.sieve import Sieve
from gateway.policy.snapshot import Snapshot

CN, FR = {"nationality": {"any_of": ["CN"]}}, {"nationality": {"any_of": ["FR"]}}
GREEN = {"permanent_residence": {"any_of": ["US"]}}
TERMS = {"us-person": Term(condition=Condition.model_validate({"any": [{"nationality": {"any_of": ["US"]}}, GREEN]}))}


def of(*nationality: str, residence: set[str] | None = None, attested: Any = None) -> Subject:
    known = frozenset(nationality) or None
    facts = Facts(Kind.PERSON, None, known, None, None if residence is None else frozenset(residence))
    return subject(facts, facts, "alice", None, attested or {})


def left(*conditions: dict[str, Any], who: Subject) -> tuple[list[int], list[int]]:
    """The questions that could be true of somebody, and those that could be true or open."""
    compiler = Compiler({}, TERMS)
    made = Sieve(compiler.compile(Condition.model_validate(each), "x") for each in conditions)
    certain, possible = made.left(who)
    return list(made.questions(certain)), list(made.questions(possible))


@pytest.mark.parametrize(
    ("condition", "chinese", "nobody_known"),
    [
        (CN, (True, True), (False, True)),
        (FR, (False, False), (False, True)),
        ({"not": CN}, (False, False), (False, True)),
        ({"not": FR}, (True, True), (False, True)),
        ({"nationality": {"none_of": ["CN"]}}, (False, False), (False, True)),
        ({"not": {"nationality": {"none_of": ["CN"]}}}, (True, True), (False, True)),
        ({"nationality": {"all_of": ["CN", "FR"]}}, (True, True), (False, True)),
        ({"nationality": {"all_of": ["FR", "GB"]}}, (False, False), (False, True)),
        ({"nationality": {"subset_of": ["FR"]}}, (True, True), (False, True)),
        ({"all": [CN, GREEN]}, (False, True), (False, True)),
        ({"all": [FR, GREEN]}, (False, False), (False, True)),
        ({"any": [FR, GREEN]}, (False, True), (False, True)),
        ({"all": [{"any": [CN, FR]}, {"not": {"any": [FR, GREEN]}}]}, (False, True), (False, True)),
        ({"everyone": True}, (True, True), (True, True)),
        ({"not": {"everyone": True}}, (False, False), (False, False)),
        ({"not": {"term": "us-person"}}, (False, True), (False, True)),
    ],
)
def test_a_condition_as_rows(condition, chinese, nobody_known):
    """``True`` where a rule would be asked: whether it applies, and whether it applies or is open."""
    for who, expected in ((of("CN"), chinese), (of(), nobody_known)):
        assert left(condition, who=who) == tuple([0] if asked else [] for asked in expected)


def test_somebodys_word_may_settle_what_is_not_known():
    who = of(attested={"us-person": True})
    assert left({"term": "us-person"}, CN, who=who) == ([0], [0, 1])
    assert left({"term": "us-person"}, who=of("CN", residence=set(), attested={"us-person": True})) == ([], [])


def test_questions_keep_their_order_and_are_named_once():
    assert left({"any": [CN, GREEN]}, FR, {"any": [CN, FR]}, CN, who=of("CN", "FR"))[0] == [0, 1, 2, 3]


def brute_force(rules: tuple[Rule, ...], subjects: tuple[Subject, ...]) -> tuple[str, bool | None] | None:
    verdicts = [(rule.id, rule.applies(subjects)) for rule in rules]
    for sought in (True, None):
        found = next((found for found in verdicts if found[1] is sought), None)
        if found is not None:
            return found
    return None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=True).map(Maker), st.sampled_from([1, 2, 16]))
def test_who_speaks_is_who_would_if_all_were_asked(maker, most):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sieve, "MAX_ROWS", most)
        snapshot = Snapshot(maker.policy(), 1)
        for _ in range(4):
            who, user = maker.request()
            subjects = snapshot.subjects(who, user)
            for model_id in snapshot.document.models:
                rules = snapshot.rules(model_id)
                speaking = snapshot._in_force.speaking(model_id, subjects)
                assert (speaking and (speaking[0].id, speaking[1])) == brute_force(rules, subjects)
                applying = [rule.id for rule in snapshot._in_force.applying(model_id, subjects)]
                assert applying == [rule.id for rule in rules if rule.applies(subjects) is not False]


def test_too_many_rows_are_asked_instead():
    wide = {"all": [{"any": [{"org": {"any_of": [f"o{i}-{j}"]}} for j in range(5)]} for i in range(3)]}
    nobody = Caller("x", Facts(Kind.PERSON)).facts
    who = subject(nobody, nobody, "x", None, {})
    assert left({"any": [{"org": {"any_of": [f"o{i}"]}} for i in range(17)]}, who=who) == ([0], [0])
    assert left(wide, who=who) == ([], []), "the part that fits says enough"
